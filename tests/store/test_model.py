"""The store against a dict: whatever is done in whatever order, it answers the same."""

from __future__ import annotations

import tempfile

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from mpbroadcast.errors import NotFound, SinkRejected
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.store.selection import Selection
from mpbroadcast.store.sqlite import Store
from mpbroadcast.testing.clocks import SteppingClock

SECOND = 1_000_000_000
NUMBERS = st.integers(0, 5)
NAMESPACES = st.sampled_from(["default", "apps"])


class StoreAndDict(RuleBasedStateMachine):
    """The dict holds events in the order of their creation; ``committed`` is what outlives a rollback."""

    versions = Bundle("versions")

    @initialize()
    def open(self):
        self.clock = SteppingClock(1_767_323_045 * SECOND)
        self.directory = tempfile.TemporaryDirectory()
        self.store = Store.open(f"{self.directory.name}/events.db", clock=self.clock)
        self.model = {}
        self.written = {}
        self.position = 0
        self.committed = None

    def teardown(self):
        self.store.close()
        self.directory.cleanup()

    def refused(self, act, *arguments):
        try:
            act(*arguments)
        except SinkRejected as error:
            return type(error)
        raise AssertionError("it was not refused")

    @rule(namespace=NAMESPACES, number=NUMBERS, reason=st.sampled_from("AB"))
    def create(self, namespace, number, reason):
        about = ObjectReference("Pod", namespace, f"web-{number}")
        event = Event(
            name=f"e{number}",
            namespace=namespace,
            involved_object=about,
            type="Normal",
            reason=reason,
            message="m",
            count=1,
            last_timestamp=self.clock.now_ns(),
        )
        key = (namespace, event.name)
        if key in self.model:
            assert self.refused(self.store.create, event) is SinkRejected
            return
        self.model[key] = self.store.create(event)
        self.written[key] = self.clock.now_ns()

    @rule(namespace=NAMESPACES, number=NUMBERS, count=st.integers(1, 3), reason=st.none() | st.sampled_from("AB"))
    def patch(self, namespace, number, count, reason):
        key = (namespace, f"e{number}")
        patch = {"count": count} | ({} if reason is None else {"reason": reason})
        if key not in self.model:
            assert self.refused(self.store.patch, *key, orjson.dumps(patch)) is NotFound
            return
        before = self.model[key]
        after = self.store.patch(*key, orjson.dumps(patch))
        assert before.replace(**patch, resource_version=after.resource_version) == after
        if after != before:
            self.written[key] = self.clock.now_ns()
        self.model[key] = after

    @rule(namespace=NAMESPACES, number=NUMBERS)
    def delete(self, namespace, number):
        key = (namespace, f"e{number}")
        if key not in self.model:
            assert self.refused(self.store.delete, *key) is NotFound
            return
        self.store.delete(*key)
        del self.model[key]

    @rule(seconds=st.integers(1, 5))
    def prune(self, seconds):
        self.clock.step(2 * SECOND)
        old = [key for key in self.model if self.written[key] < self.clock.now_ns() - seconds * SECOND]
        assert len(old) == self.store.prune(ttl_ns=seconds * SECOND)
        for key in old:
            del self.model[key]

    @rule(sequence=st.integers(1, 100))
    def set_position(self, sequence):
        self.store.set_position("ring", sequence)
        self.position = sequence

    @precondition(lambda self: self.committed is None)
    @rule()
    def begin(self):
        self.store.begin()
        self.committed = (dict(self.model), dict(self.written), self.position)

    @precondition(lambda self: self.committed is not None)
    @rule(kept=st.booleans())
    def end(self, kept):
        if kept:
            self.store.commit()
        else:
            self.store.rollback()
            self.model, self.written, self.position = self.committed
        self.committed = None

    @rule(namespace=st.sampled_from(["", "default", "apps"]), reasons=st.sampled_from([(), ("A",), ("A", "B")]))
    def select(self, namespace, reasons):
        expected = [
            event
            for event in self.model.values()
            if namespace in {"", event.namespace} and (not reasons or event.reason in reasons)
        ]
        assert expected == list(self.store.list(Selection(namespace=namespace, reasons=reasons)).events)

    @precondition(lambda self: self.committed is None)
    @rule(target=versions)
    def remember(self):
        return self.store.resource_version(), dict(self.model)

    @precondition(lambda self: self.committed is None)
    @rule(remembered=versions)
    def catch_up(self, remembered):
        """Whoever listed once and follows the changes knows what the store holds."""
        version, known = remembered
        known = dict(known)
        for change in self.store.changes_since(version).changes:
            key = (change.object.namespace, change.object.name)
            if change.type == "DELETED":
                known.pop(key, None)
            else:
                known[key] = change.object
        assert self.model == known

    @invariant()
    def they_are_the_same(self):
        assert list(self.model.values()) == list(self.store.list().events)
        assert self.position == self.store.position("ring")


StoreAndDict.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStoreAndDict = StoreAndDict.TestCase
