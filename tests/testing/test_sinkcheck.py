"""`check_sink`: sinks that follow the rules pass, and every rule has a sink that fails by it."""

from __future__ import annotations

import pytest

from mpbroadcast.errors import NotFound, SinkRejected
from mpbroadcast.event.model import Event
from mpbroadcast.testing import FakeBatchingSink, FakeSink, check_sink


@pytest.mark.parametrize("make_sink", [FakeSink, FakeBatchingSink])
def test_the_fakes_pass(make_sink):
    check_sink(make_sink)


def test_a_sink_that_is_shared_by_all_checks_passes():
    """As a server would be, which every sink of a test writes to."""
    sink = FakeSink()
    check_sink(lambda: sink)
    check_sink(lambda: sink)


def test_every_sink_is_closed():
    sinks = []

    def make():
        sinks.append(FakeSink())
        return sinks[-1]

    check_sink(make)
    assert all(sink.closed for sink in sinks)


class Overwrites(FakeSink):
    def create(self, event):
        self.expire(event.name)
        return super().create(event)


class RefusesWithoutSaying(FakeSink):
    def create(self, event):
        try:
            return super().create(event)
        except SinkRejected:
            raise SinkRejected("no", code=400) from None


class SaysNotFound(FakeSink):
    def create(self, event):
        try:
            return super().create(event)
        except SinkRejected:
            raise NotFound("no") from None


class CreatesOnPatch(FakeSink):
    def patch(self, event, patch):
        try:
            return super().patch(event, patch)
        except NotFound:
            return super().create(event)


class KeepsNoMessage(FakeSink):
    def create(self, event):
        return super().create(event.replace(message="x"))


class CutsText(FakeSink):
    def create(self, event):
        return super().create(event.replace(message=event.message.replace("\n", " ")))


class IgnoresPatches(FakeSink):
    def patch(self, event, patch):
        return super().patch(event, b"{}")


class ForgetsOnPatch(FakeSink):
    def patch(self, event, patch):
        stored = super().patch(event, patch)
        return stored.replace(annotations=None)


class HasNoVersions(FakeSink):
    def create(self, event):
        return super().create(event).replace(resource_version="")


class HasOneVersion(FakeSink):
    def create(self, event):
        return super().create(event).replace(resource_version="1")

    def patch(self, event, patch):
        return super().patch(event, patch).replace(resource_version="1")


class DropsSeries(FakeSink):
    def patch(self, event, patch):
        return super().patch(event, patch).replace(series=None)


class MixesNamespaces(FakeSink):
    def create(self, event):
        return super().create(event.replace(namespace="default"))

    def patch(self, event, patch):
        return super().patch(event.replace(namespace="default"), patch)


class ReturnsTheOldOne(FakeSink):
    def patch(self, event, patch):
        before = self.get(event.namespace, event.name)
        super().patch(event, patch)
        return before


class ClosesOnce(FakeSink):
    def close(self):
        if self.closed:
            raise RuntimeError("closed already")
        super().close()


class ForgetsPositions(FakeBatchingSink):
    def set_position(self, source, sequence):
        pass


class KnowsEverySource(FakeBatchingSink):
    def position(self, source):
        return 17


class DropsTheBatch(FakeBatchingSink):
    def create(self, event):
        try:
            return super().create(event)
        except SinkRejected:
            if self._before is not None:
                self._stored = dict(self._before[0])
            raise


@pytest.mark.parametrize(
    ("make_sink", "says"),
    [
        (Overwrites, "it was taken"),
        (RefusesWithoutSaying, "it was refused with 400"),
        (SaysNotFound, "it raised NotFound"),
        (CreatesOnPatch, "it raised nothing"),
        (KeepsNoMessage, "message is 'x', not 'checked'"),
        (CutsText, "Any text survives"),
        (IgnoresPatches, "message is 'checked', not 'patched'"),
        (ForgetsOnPatch, "annotations is {}"),
        (HasNoVersions, "the versions are ''"),
        (HasOneVersion, "the versions are '1' and '1'"),
        (DropsSeries, "series is None"),
        (MixesNamespaces, "Equal names in two namespaces are two events"),
        (ReturnsTheOldOne, "message is 'checked', not 'patched'"),
        (ClosesOnce, "Closing twice is fine. RuntimeError: closed already"),
        (ForgetsPositions, "the position is 0, not 17"),
        (KnowsEverySource, "the position of an unknown source is 17, not 0"),
        (DropsTheBatch, "A sink with transactions"),
    ],
)
def test_a_sink_that_breaks_a_rule_fails_and_the_line_says_which(make_sink, says):
    with pytest.raises(AssertionError) as caught:
        check_sink(make_sink)
    assert says in str(caught.value)


def test_a_sink_that_only_appends_is_only_asked_to_append():
    class Log:
        def __init__(self):
            self.lines = []

        def create(self, event):
            self.lines.append(event.to_core_v1())
            return Event.from_core_v1(self.lines[-1])

        def patch(self, event, patch):
            raise SinkRejected("a log cannot be changed")

        def close(self):
            pass

    check_sink(Log, append_only=True)
    with pytest.raises(AssertionError, match="a log cannot be changed"):
        check_sink(Log)
