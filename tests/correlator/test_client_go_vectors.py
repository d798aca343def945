"""Every recorded case of client-go's core/v1 correlator, replayed field by field through the real delivery."""

from __future__ import annotations

import hashlib
import uuid

from mpbroadcast.base.text import well_formed
from mpbroadcast.correlator import CorrelatorOptions, EventCorrelator
from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.event.names import event_name
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.times import decode_time, encode_time
from mpbroadcast.sinks.delivery import Delivery
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.testing.clocks import SteppingClock
from mpbroadcast.testing.fakes import FakeSink

VECTOR_FILES = ("correlator-basic", "correlator-options", "correlator-faults")

# Where the port is better on purpose.
BETTER_KEYS = "key-concatenation-collision"  # W14; replayed in a test of its own
VECTOR_CASES_ELSEWHERE = {BETTER_KEYS}
BETTER_NAMES = "uppercase-name"  # W17; the other names are random in client-go as well

# This message is no UTF-8; Python has it as a lone surrogate, and JSON shows U+FFFD for both.
INVALID_UTF8 = "invalid-utf8-message"
INVALID_MESSAGE = bytes.fromhex("61ff62").decode(errors="surrogateescape")


def by_object(event):
    reference = event.involved_object
    return f"{reference.namespace}/{reference.name}", f"{event.reason}|{event.message}"


def constant_group(event):
    return "all", event.message


def message_of_reason(event):
    return "aggregated: " + event.reason


def constant_message(event):
    return "many similar events"


def empty_message(event):
    return ""


def source_only(event):
    return f"{event.source.component}/{event.source.host}"


def object_reason(event):
    return f"{event.involved_object.namespace}/{event.involved_object.name}/{event.reason}"


def message_only(event):
    return event.message


FUNCTIONS = {
    "key_func": {"by_object": by_object, "constant": constant_group},
    "message_func": {"reason": message_of_reason, "constant": constant_message, "empty": empty_message},
    "spam_key_func": {"source_only": source_only, "object_reason": object_reason, "message": message_only},
}

STATUSES = {"forbidden": 403, "internal500": 500, "toomany429": 429, "timeout504": 504, "unavailable503": 503}


def fault(name):
    """The exception that a sink of ours raises where the recorded one had this fault; its text is the fault's name."""
    if name == "":
        return None
    if name == "transport":
        return SinkUnavailable(name)
    if name == "unexpected_object":
        return ValueError(name)
    if name == "wrapped_notfound":
        error = RuntimeError(name)
        error.__cause__ = NotFound("gone")
        return error
    if name in {"notfound", "status404_generic"}:
        return NotFound(name, reason="NotFound" if name == "notfound" else "")
    if name in {"alreadyexists", "conflict"}:
        return SinkRejected(name, code=409, reason="AlreadyExists" if name == "alreadyexists" else "Conflict")
    if name == "ns_terminating":
        return SinkRejected(name, code=403, reason="Forbidden", cause="NamespaceTerminating")
    if name == "request_construction":
        return SinkRejected(name)
    code = STATUSES[name]
    return SinkRejected(name, code=code) if code == 403 else SinkUnavailable(name, code=code)


def status_of(call):
    error = call.error
    if error is None:
        return "ok"
    if isinstance(error, SinkRejected) and error.code == 409 and error.reason == "AlreadyExists":
        return "alreadyexists"
    return "notfound" if isinstance(error, NotFound) and "not found" in str(error) else str(error)


def options_of(case):
    options = dict(case.get("options") or {})
    for key, functions in FUNCTIONS.items():
        if key in options:
            options[key] = functions[options[key]]
    return CorrelatorOptions(**options)


def body_of(event):
    """An event's JSON as the recorder of the vectors wrote it: without kind and version."""
    body = event.to_core_v1()
    return {key: value for key, value in body.items() if key not in {"kind", "apiVersion"}}


class Spy:
    """Stands before stage 1 and keeps what it removed."""

    def __init__(self, stage):
        self.stage = stage
        self.removed = None

    def aggregate(self, event):
        result = self.stage.aggregate(event)
        self.removed = result.removed
        return result


class Replay:
    def __init__(self, case):
        self.clock = SteppingClock(decode_time(case["start"]))
        self.sink = FakeSink()
        self.correlator = EventCorrelator(options_of(case), self.clock)
        self.message = INVALID_MESSAGE if case["name"] == INVALID_UTF8 else None
        self.spy = None
        if self.correlator._aggregator is not None:
            self.spy = self.correlator._aggregator = Spy(self.correlator._aggregator)
        self.delivery = Delivery(self.sink, self.correlator, RetryPolicy.client_go(), sleep=lambda seconds: False)

    def event_of(self, step):
        now_ns = self.clock.now_ns()
        keys = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        reference = ObjectReference(*[step["object"].get(key, "") for key in keys])
        source = EventSource(step["source"].get("component", ""), step["source"].get("host", ""))
        return Event(
            name=event_name(reference.name, now_ns),
            namespace=reference.namespace or "default",
            annotations=step.get("annotations"),
            involved_object=reference,
            type=step["type"],
            reason=step["reason"],
            message=step["message"] if self.message is None else self.message,
            source=source,
            reporting_controller=source.component,
            reporting_instance=source.host,
            count=1,
            first_timestamp=now_ns,
            last_timestamp=now_ns,
        )

    def run(self, step):
        """Do one step; returns what the vectors call its outcome."""
        self.clock.step(step.get("advance_ns", 0))
        for name in step.get("expire", ()):
            self.sink.expire(*[] if name == "*" else [name])
        self.sink.calls.clear()
        self.sink.fail(*map(fault, step.get("sink_faults", ())))
        if self.spy:
            self.spy.removed = None
        result = self.delivery.deliver(self.event_of(step))
        calls = self.sink.calls
        outcome = {"result": "skip"}
        if calls:
            event, first = calls[0].event, calls[0]
            outcome = {
                "result": first.op,
                "name": event.name,
                "count": event.count,
                "firstTimestamp": encode_time(event.first_timestamp),
                "lastTimestamp": encode_time(event.last_timestamp),
                "event": body_of(event),
                "calls": [self.call_of(call) for call in calls],
            }
            outcome |= {"message": well_formed(event.message)} if event.message else {}
            outcome |= {"annotations": dict(event.annotations)} if event.annotations else {}
            outcome |= {"patch": first.patch.decode()} if first.op == "patch" else {}
            stored = self.sink.get(event.namespace, event.name)
            outcome |= {"server_after": body_of(stored)} if stored else {}
        else:
            assert result.verdict == "skipped"
        if self.spy and self.spy.removed is not None:
            outcome["popped"] = [self.spy.removed]
        return outcome

    @staticmethod
    def call_of(call):
        what = {"op": call.op, "namespace": call.event.namespace, "name": call.event.name, "status": status_of(call)}
        return what | ({"patch": call.patch.decode()} if call.op == "patch" else {"event": body_of(call.event)})

    def store_lines(self, *, names=True):
        lines = []
        for event in self.sink.events:
            where = f"{event.namespace}/{event.name}" if names else event.namespace
            first, last = encode_time(event.first_timestamp), encode_time(event.last_timestamp)
            lines.append(f"{where}|{event.count}|{first}|{last}|{event.message}\n")
        return sorted(lines)


def without_names(value):
    """The same outcome with the names of events left out, wherever they stand."""
    if isinstance(value, list):
        return [without_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = {"name"} if "kind" not in value else set()
    return {key: without_names(item) for key, item in value.items() if key not in hidden}


def is_random_uuid(name):
    return str(uuid.UUID(name, version=4)) == name


def test_recorded_case(case):
    replay = Replay(case)
    for index, (step, expected) in enumerate(zip(case["steps"], case["outcomes"], strict=True)):
        actual = replay.run(step)
        if case["name"] == BETTER_NAMES:
            assert is_random_uuid(actual["name"])
            assert without_names(expected) == without_names(actual), f"step {index}"
        else:
            assert expected == actual, f"step {index}"
    assert case["final_store_events"] == len(replay.store_lines())
    if case["name"] != BETTER_NAMES:
        digest = hashlib.sha256("".join(replay.store_lines()).encode()).hexdigest()
        assert case["final_store_sha256"] == digest


def test_fields_do_not_run_into_each_other(recorded_case):
    """Where client-go joins its keys with nothing and takes four different events for one, each is its own (W14)."""
    case = recorded_case("correlator-basic", BETTER_KEYS)
    replay = Replay(case)
    assert ["create", "patch", "patch", "patch"] == [outcome["result"] for outcome in case["outcomes"]]
    results = [replay.run(step) for step in case["steps"]]
    assert [("create", 1)] * 4 == [(outcome["result"], outcome["count"]) for outcome in results]
    assert ["ok"] * 4 == [call["status"] for outcome in results for call in outcome["calls"]]
