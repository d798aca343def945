"""The short way to a log line writes what klog's functions write, whatever is in an event."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.base import klog
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.sinks.loglines import KlogLine, LogLine, StructuredLine, decode_about, log_handler

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
REFERENCES = st.builds(ObjectReference, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
HOSTILE = "red \x1b[31m\x9b1m\r\x07 text"


def written(call):
    """What a call writes, without the header."""
    stream = io.StringIO()
    klog.set_output(stream)
    try:
        call()
    finally:
        klog.set_output(None)
    header, _, text = stream.getvalue().partition("] ")
    return header[:1], text


@pytest.mark.parametrize("logf", [klog.infof, klog.warningf, klog.errorf])
@given(reference=REFERENCES, type_=TEXTS, reason=TEXTS, message=TEXTS)
def test_a_line_of_klogs_own_functions_is_the_one_they_write(logf, reference, type_, reason, message):
    about = (reference, type_, reason, message)
    short = log_handler(logf)
    assert isinstance(short, KlogLine)
    assert written(lambda: LogLine(logf)(about)) == written(lambda: short(about))


@given(reference=REFERENCES, type_=TEXTS, reason=TEXTS, message=TEXTS)
def test_a_structured_line_is_the_one_that_info_s_writes(reference, type_, reason, message):
    def long():
        where = f"{reference.namespace}/{reference.name}" if reference.namespace else reference.name
        klog.info_s(
            "Event occurred", "object", where, "fieldPath", reference.field_path, "kind", reference.kind,
            "apiVersion", reference.api_version, "type", type_, "reason", reason, "message", message,
        )  # fmt: skip

    assert written(long) == written(lambda: StructuredLine(0)((reference, type_, reason, message)))


@pytest.mark.parametrize("line", [KlogLine(20), StructuredLine(0)])
@pytest.mark.parametrize("field", range(4))
def test_no_control_character_of_an_event_reaches_the_output(line, field):
    about = [ObjectReference("Pod", "default", "web-0"), "Normal", "Pulled", "m"]
    about[field] = HOSTILE if field else ObjectReference("Pod", "default", HOSTILE)
    _, text = written(lambda: line(tuple(about)))
    assert not set("\x1b\x9b\r\x07") & set(text)
    assert r"\x1b[31m" in text


def test_a_record_gives_what_a_line_says_of_it():
    reference = ObjectReference("Pod", "default", "web-0")
    payload = encode_record(1, encode_static(reference, "Normal", "Pulled", EventSource("kubelet")), "done")
    assert (reference, "Normal", "Pulled", "done") == decode_about(KIND_RECORD, payload)


def test_any_other_function_is_called_as_client_go_calls_it():
    said = []
    log_handler(lambda *args: said.append(args))((ObjectReference("Pod"), "Normal", "Pulled", "done"))
    [(fmt, _, *rest)] = said
    assert ("Event(%s): type: '%s' reason: '%s' %s", ["Normal", "Pulled", "done"]) == (fmt, rest)
