"""What client-go made of an object, an event type, a reason and a message: reference, error, and both API shapes."""

from __future__ import annotations

import re

import orjson
import pytest

from mpbroadcast.errors import InvalidEvent, NilObject, NoReference, NoSchemeError, NotRegistered
from mpbroadcast.event.build import is_event_type, make_core_event, make_new_event
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.names import plain_name_fits
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.reference import get_reference
from mpbroadcast.event.scheme import DEFAULT_SCHEME, Scheme
from mpbroadcast.event.shapes import reference_from_json, reference_to_json
from mpbroadcast.event.times import decode_time
from mpbroadcast.testing import FakeRecorder, SteppingClock

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
METADATA = {"name": "name", "namespace": "namespace", "uid": "uid", "resourceVersion": "resource_version"}
SAME_TEXT = {"can't reference a nil object": NilObject, "scheme is required to look up gvk": NoSchemeError}
# Go's texts for these speak of Go types; the class of the error says the same.
OTHER_TEXT = {
    "unstructured-no-gvk": NoReference,
    "not-in-scheme": NotRegistered,
    "no-objectmeta": NoReference,
    # Go crashes on a typed nil pointer (W42); Python has none but None.
    "typed-nil-pod": NilObject,
    "typed-nil-objectreference": NilObject,
}


class NotInScheme:
    """A program's own class: it has what an object of the API has, and no scheme knows it."""

    def __init__(self, body):
        self.kind = body.get("kind")
        self.api_version = body.get("apiVersion")
        self.metadata = body["metadata"]


class NoMeta:
    kind = "X"
    api_version = "g/v1"


def as_object(case, model):
    """The object of a case, as a Python program would hold it."""
    go_type, body = case["go_type"], case["input"]
    if body is None:
        return None
    if go_type == "*vecseries.notInScheme":
        return NotInScheme(body)
    if go_type == "*vecseries.noMeta":
        return NoMeta()
    if go_type == "*v1.ObjectReference":
        return reference_from_json(body)
    if go_type in {"*unstructured.Unstructured", "*v1.PartialObjectMetadata"}:
        return body
    name = {"*v1.Event": "CoreV1Event"}.get(go_type, "V1" + go_type.removeprefix("*v1."))
    fields = {METADATA[key]: value for key, value in body["metadata"].items() if key in METADATA}
    meta = model("V1ListMeta" if name.endswith("List") else "V1ObjectMeta", **fields)
    required = {"CoreV1Event": {"involved_object": model("V1ObjectReference")}, "V1PodList": {"items": []}}
    return model(
        name, kind=body.get("kind"), api_version=body.get("apiVersion"), metadata=meta, **required.get(name, {})
    )


def scheme_of(case):
    return DEFAULT_SCHEME if case["has_scheme"] else None


def without_uuid(body, case):
    """A random name is compared as what it is."""
    return with_any_uuid(body) if case["name_is_uuid"] else body


def with_any_uuid(body):
    assert UUID.fullmatch(body["metadata"]["name"])
    return body | {"metadata": body["metadata"] | {"name": "a UUID"}}


def expected(case, shape):
    return without_uuid(case[shape], case)


def as_go(body, case):
    """Our object as the recorded typed one: without kind and version, which a Go recorder leaves empty."""
    body = orjson.loads(orjson.dumps(body))
    del body["kind"], body["apiVersion"]
    return without_uuid(body, case)


def made(case, model):
    """The reference of a case, the instant, and what every way to build the event takes."""
    reference = get_reference(as_object(case, model), scheme_of(case))
    fields = {"type": case["eventtype"], "reason": case["reason"], "message": case["message"]}
    return reference, decode_time(case["clock_unix_now"]), fields, case.get("annotations")


def test_the_reference_or_the_error_is_client_gos(case, model):
    obj, scheme = as_object(case, model), scheme_of(case)
    text, other = case.get("reference_error"), OTHER_TEXT.get(case["name"])
    if not text and other is None:
        assert case["reference"] == reference_to_json(get_reference(obj, scheme))
        return
    with pytest.raises(other or SAME_TEXT[text]) as caught:
        get_reference(obj, scheme)
    assert "\n" not in str(caught.value)
    if other is None:
        assert text == str(caught.value)


def test_a_mapping_gives_the_reference_of_the_typed_object(object_case):
    """Typed objects have a scheme; as JSON from the API they say their kind themselves."""
    reference = object_case["reference"]
    body = {key: value for key, value in reference.items() if key in {"kind", "apiVersion"}} | {
        "metadata": object_case["input"]["metadata"]
    }
    assert reference == reference_to_json(get_reference(body))


def test_the_clients_own_reference_model_is_taken_as_it_is(reference_case, model):
    snake = {"apiVersion": "api_version", "resourceVersion": "resource_version", "fieldPath": "field_path"}
    obj = model("V1ObjectReference", **{snake.get(key, key): value for key, value in reference_case["input"].items()})
    assert reference_from_json(reference_case["input"]) == get_reference(obj)


def test_the_core_v1_event_is_client_gos_field_by_field(event_case, model):
    reference, t_ns, fields, annotations = made(event_case, model)
    event = make_core_event(
        reference, t_ns=t_ns, source=EventSource(**event_case["core_source"]), annotations=annotations, **fields
    )
    assert expected(event_case, "core_v1_event") == as_go(event.to_core_v1(), event_case)


def test_the_events_v1_event_is_client_gos_field_by_field(event_case, model):
    reference, t_ns, fields, annotations = made(event_case, model)
    source = EventSource(event_case["events_reporting_controller"], "HOSTNAME")
    event = make_new_event(reference, t_ns=t_ns, source=source, action="Act", annotations=annotations, **fields)
    assert expected(event_case, "events_v1_event") == as_go(event.to_events_v1(as_stored=True), event_case)


def test_the_ring_carries_the_same_event(event_case, model):
    """The recorder goes by bytes: what comes out of a ring is the event that `make_core_event` builds."""
    reference, t_ns, fields, annotations = made(event_case, model)
    source = EventSource(**event_case["core_source"])
    event = make_core_event(reference, t_ns=t_ns, source=source, annotations=annotations, **fields)
    static = encode_static(reference, fields["type"], fields["reason"], source)
    # The recorded clock is of 2000, whose times have a digit fewer: one more character of a name fits.
    name = None if plain_name_fits(reference.name) or not event_case["name_is_uuid"] else event.name
    payload = encode_record(t_ns, static, fields["message"], name, annotations)
    assert event == Event.from_record(payload)


def test_what_client_go_logs_instead_of_an_event(refused_case, model):
    """One error line, and why: the type when the reference was fine, else the reference (R1)."""
    obj = as_object(refused_case, model)
    with pytest.raises(InvalidEvent):
        FakeRecorder(
            scheme=scheme_of(refused_case) or Scheme(client_kinds=False)
        ).event(  # Go's nil: one that knows nothing
            obj, refused_case["eventtype"], refused_case["reason"], refused_case["message"]
        )
    lines = refused_case.get("core_v1_log")
    if lines is None:
        assert refused_case["core_v1_panic"]
    elif "err" in lines[0]:
        assert refused_case["reference_error"] == lines[0]["err"]
    else:
        assert "Unsupported event type" == lines[0]["msg"]
        assert not is_event_type(refused_case["eventtype"])
        assert isinstance(get_reference(obj, scheme_of(refused_case)), ObjectReference)


def test_the_fake_recorder_makes_the_same_event(event_case, model):
    clock = SteppingClock(decode_time(event_case["clock_unix_now"]))
    recorder = FakeRecorder(scheme=scheme_of(event_case), source=EventSource(**event_case["core_source"]), clock=clock)
    recorder.event(
        as_object(event_case, model),
        event_case["eventtype"],
        event_case["reason"],
        event_case["message"],
        annotations=event_case.get("annotations"),
    )
    assert expected(event_case, "core_v1_event") == as_go(recorder.events[0].to_core_v1(), event_case)
