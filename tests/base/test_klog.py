"""klog: the exact formats F1-F3, where lines go, verbosity, and that nothing in a text reaches a terminal raw."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import queue
import re
import subprocess
import sys
import time
from datetime import datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.base import klog
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import ObjectReference

A = ObjectReference("Pod", "baz", "foo", "bar", "v1", "", "spec.containers[2]")
HEADER = re.compile(r"([IWEF])(\d{4}) (\d\d:\d\d:\d\d\.\d{6}) ([ \d]{7}) (\S+:\d+)\] ")


@pytest.fixture
def lines():
    """A klog logger with a handler in klog's format; what was written so far."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(klog.KlogFormatter())
    logger = logging.getLogger("klog")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield stream.getvalue
    logger.removeHandler(handler)
    logger.level, logger.propagate = before


@pytest.fixture(autouse=True)
def quiet_again():
    yield
    klog.set_verbosity(0)


def here():
    return sys._getframe(1).f_lineno


def record(level=logging.INFO, created=0.0, process=12345, msg="text", args=(), line=395, **more):
    made = logging.LogRecord("any", level, "/src/pkg/event.go", line, msg, args, None)
    made.created, made.process = created, process
    made.__dict__.update(more)
    return klog.KlogFormatter().format(made)


# --- F1: the header --------------------------------------------------------------------------------------------------


def test_the_header_letter_by_letter():
    moment = datetime(2026, 7, 24, 14, 5, 30, 123456).timestamp()  # noqa: DTZ001 - klog's times are local
    assert "I0724 14:05:30.123456   12345 event.go:395] text" == record(created=moment)


@pytest.mark.parametrize(
    ("level", "letter"),
    [
        (logging.DEBUG, "I"),
        (logging.INFO, "I"),
        (25, "I"),
        (logging.WARNING, "W"),
        (logging.ERROR, "E"),
        (logging.CRITICAL, "F"),
    ],
)
def test_each_level_has_its_letter(level, letter):
    assert letter == record(level)[0]


@pytest.mark.parametrize(("pid", "shown"), [(1, "      1"), (1234567, "1234567"), (41234567, "1234567")])
def test_the_process_id_takes_seven_characters(pid, shown):
    assert f" {shown} event.go" in record(process=pid)


def test_an_unknown_place_is_three_question_marks():
    assert " ???:1] " in record(line=0)


@given(st.integers(0, 4 * 10**15))
def test_microseconds_are_those_of_the_time(micros):
    assert f"{micros % 10**6:06d}" == record(created=micros / 1e6).split()[1].partition(".")[2]


def test_a_traceback_follows_on_its_own_lines():
    try:
        int("broken")
    except ValueError:
        text = record(exc_info=sys.exc_info())
    assert "event.go:395] text\nTraceback" in text
    assert text.endswith("'broken'")


def test_the_local_time_zone_is_used(monkeypatch):
    try:
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        assert record(created=0.5).startswith("I0101 00:00:00.500000 ")
        monkeypatch.setenv("TZ", "Etc/GMT-2")
        time.tzset()
        assert record(created=0.5).startswith("I0101 02:00:00.500000 ")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_another_loggers_messages_are_formatted_with_their_arguments():
    assert record(msg="%s of %d", args=("a", 2)).endswith("] a of 2")


# --- the functions ---------------------------------------------------------------------------------------------------


def test_each_function_has_its_letter_and_says_where_it_was_called(lines):
    line = here()
    klog.infof("%v of %q", 1, "a")
    klog.warningf("%d", "x")
    klog.errorf("plain")
    klog.info("a", 1, 2, "b")
    klog.warning("w")
    klog.error("e", None)
    klog.info_s("Pod started", "pod", klog.kref("ns", "web-1"), count=3)
    klog.error_s(ValueError("broken"), "Failed", "n", 1)
    klog.V(0).infof("v")
    klog.V(0).info("v", 1)
    klog.V(0).info_s("v", n=1)
    klog.V(0).error_s(None, "v")
    written = lines().splitlines()
    texts = [HEADER.sub("", one) for one in written]
    assert [
        '1 of "a"',
        "%!d(string=x)",
        "plain",
        "a1 2b",
        "w",
        "e<nil>",
        '"Pod started" pod="ns/web-1" count=3',
        '"Failed" err="broken" n=1',
        "v",
        "v1",
        '"v" n=1',
        '"v"',
    ] == texts
    heads = [HEADER.match(one).groups() for one in written]
    assert list("IWEIWEIEIIII") == [head[0] for head in heads]
    assert [f"test_klog.py:{line + n}" for n in range(1, 13)] == [head[4] for head in heads]
    assert {f"{os.getpid() % 10**7:7d}"} == {head[3] for head in heads}


@pytest.mark.client_go("REC-04")
def test_infof_is_a_logf(lines):
    """F2, as `start_logging(klog.infof)` calls it."""
    logf = klog.infof
    logf("Event(%#v): type: '%v' reason: '%v' %v", A, "Normal", "Started", "some verbose message: 1")
    text = HEADER.sub("", lines())
    assert text == (
        'Event(v1.ObjectReference{Kind:"Pod", Namespace:"baz", Name:"foo", UID:"bar", APIVersion:"v1", '
        'ResourceVersion:"", FieldPath:"spec.containers[2]"}): '
        "type: 'Normal' reason: 'Started' some verbose message: 1\n"
    )


def test_verbosity(lines):
    klog.V(1).infof("one")
    klog.set_verbosity(2)
    klog.V(2).infof("two")
    klog.V(3).infof("three")
    klog.V(3).info("three")
    klog.V(3).info_s("three")
    klog.V(3).error_s(None, "three")
    klog.error_s(None, "always")
    assert (2, True, False) == (klog.verbosity(), bool(klog.V(2)), klog.V(3).enabled)
    assert ["two", '"always"'] == [HEADER.sub("", line) for line in lines().splitlines()]


def test_a_percent_sign_in_a_text_is_not_formatted_again(lines):
    klog.infof("%s", "100%d")
    klog.info("50%s")
    assert ["100%d", "50%s"] == [HEADER.sub("", line) for line in lines().splitlines()]


def test_a_level_of_the_logger_holds(lines):
    logging.getLogger("klog").setLevel(logging.ERROR)
    klog.info("no")
    klog.error("yes")
    assert 1 == lines().count("\n")


def test_control_characters_of_others_are_shown_not_obeyed(lines):
    nasty = "a\x1b[2J\x07\r\x9b0m\x7fb\tc"
    klog.infof("%s", nasty)
    klog.info_s("m", "k", nasty, "multi", nasty + "\nx", "json", [nasty])
    klog.info_s(nasty)
    text = lines()
    assert not set(text) & set("\x1b\x07\r\x9b\x7f")
    assert r"a\x1b[2J\a\r\u009b0m\x7fb" in text
    assert r"\x1b" in record(msg=nasty)


def test_lone_surrogates_do_not_break_the_output(lines):
    klog.infof("%s", "\ud800")
    klog.info_s("\ud800", "k", "\ud800", "l", ["\ud800"])
    lines().encode()


# --- structured texts ------------------------------------------------------------------------------------------------


@pytest.mark.client_go("REC-04")
def test_the_structured_line_of_an_event():
    """F3."""
    pairs = [
        ("object", A),
        ("fieldPath", A.field_path),
        ("kind", "Pod"),
        ("apiVersion", "v1"),
        ("type", "Normal"),
        ("reason", "Started"),
        ("message", "some verbose message: 1"),
    ]
    assert klog.structured("Event occurred", pairs) == (
        '"Event occurred" object="baz/foo" fieldPath="spec.containers[2]" kind="Pod" apiVersion="v1" type="Normal" '
        'reason="Started" message="some verbose message: 1"'
    )


@pytest.mark.client_go("REC-05")
def test_empty_values_are_printed_as_empty_quotes():
    assert '"m" fieldPath="" object=""' == klog.structured("m", [("fieldPath", ""), ("object", klog.kobj(None))])


class Broken:
    def __str__(self):
        raise RuntimeError("boom")


POD = SimpleNamespace(metadata=SimpleNamespace(name="web-1", namespace="ns"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", '="plain"'),
        ('a"\t\\', r'="a\"\t\\"'),
        (True, "=true"),
        (None, "=null"),
        (3, "=3"),
        (1.5, "=1.5"),
        ([8, "a"], '=[8,"a"]'),
        ({"three": 4, "a": None}, '={"a":null,"three":4}'),
        ({1}, "=[1]"),
        ((), "=[]"),
        (b"test", '="test"'),
        ("⌘".encode(), r'="\u2318"'),
        ({2: 1, "a": 1}, '="map[2:1 a:1]"'),
        (ValueError("x"), '="x"'),
        (POD, '="ns/web-1"'),
        (Event(name="e", namespace="ns"), '="ns/e"'),
        (ObjectReference("Node", name="n1"), '="n1"'),
        (klog.kref("", "kubedns"), '="kubedns"'),
        (klog.kobj({"metadata": {"name": "n", "namespace": "ns"}}), '="ns/n"'),
        pytest.param(Broken(), '="<panic: boom>"', id="broken"),
        ("\nHello\n\tTab.\nEnd.", "=<\n\t\n\tHello\n\t\tTab.\n\tEnd.\n >"),
        ("one\n", "=<\n\tone\n >"),
        ("\n", "=<\n\t\n >"),
        (ValueError("a\nb"), "=<\n\ta\n\tb\n >"),
    ],
    ids=repr,
)
def test_values_are_written_as_klog_writes_them(value, text):
    assert f'"m" key{text} after="x"' == klog.structured("m", [("key", value), ("after", "x")])


def test_messages_are_quoted_even_with_line_breaks():
    assert r'"a\nb"' == klog.structured("a\nb")


def test_of_a_repeated_key_the_last_value_is_written():
    assert '"m" b=2 a=3' == klog.structured("m", [("a", 1), ("b", 2), ("a", 3)])


def test_odd_arguments_and_keys_that_are_no_texts(lines):
    klog.info_s("m", "a", 1, "b")
    klog.info_s("m", 1, 2)
    assert ['"m" a=1 b="(MISSING)"', '"m" 1=2'] == [HEADER.sub("", line) for line in lines().splitlines()]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(), max_size=6)
    | st.binary(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), v, max_size=3),
    max_leaves=5,
)


@given(st.text(alphabet=st.characters(), max_size=8), st.lists(st.tuples(st.text(max_size=4), VALUES), max_size=4))
def test_any_values_make_a_harmless_text(msg, pairs):
    text = klog.structured(msg, pairs)
    text.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_object_names_are_values():
    assert klog.kref("ns", "a") == klog.kobj(SimpleNamespace(name="a", namespace="ns"))
    assert 1 == len({klog.kref("ns", "a"), klog.kref("ns", "a")})
    assert klog.kref("ns", "a") != "ns/a"
    assert "ObjectName('ns', 'a')" == repr(klog.kref("ns", "a"))


# --- where lines go --------------------------------------------------------------------------------------------------

SCRIPT = """
import logging, os, sys
from mpbroadcast.base import klog
klog.infof("to %s", "stderr")
klog.error_s(None, "bad")
pid = os.fork()
if pid == 0:
    klog.info(os.getpid())
    os._exit(0)
os.waitpid(pid, 0)
logging.getLogger("klog").setLevel(logging.WARNING)
klog.info("no")
logging.disable(logging.ERROR)
klog.error("no")
logging.disable(logging.NOTSET)
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(name)s %(levelname)s %(lineno)d %(message)s")
klog.infof("no")
klog.warningf("to %s", "stdout")
sys.stderr = None
logging.getLogger().handlers.clear()
klog.error("nowhere")
"""


def test_lines_go_to_standard_error_until_logging_is_configured():
    """In a process of its own: pytest configures logging."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    first, second, child = ran.stderr.splitlines()
    assert ("I", "to stderr", "<string>:4") == (first[0], HEADER.sub("", first), HEADER.match(first)[5])
    assert ("E", '"bad"') == (second[0], HEADER.sub("", second))
    # A forked child writes its own process id, not its parent's.
    assert f"{int(HEADER.sub('', child)) % 10**7:7d}" == HEADER.match(child)[4]
    assert HEADER.match(first)[4] != HEADER.match(child)[4]
    assert "klog WARNING 18 to stdout\n" == ran.stdout


def test_a_queue_handler_keeps_who_logged():
    """The line is written by another process than the one that logged; the record knows."""
    waiting = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(waiting)
    made = logging.LogRecord("klog", logging.INFO, "/a/worker.py", 7, "text", (), None)
    made.process = 4321
    handler.emit(made)
    assert "   4321 worker.py:7] text" in klog.KlogFormatter().format(waiting.get())


def test_records_carry_the_text_and_nothing_to_format(caplog):
    """An application's own handlers see a plain message, as harmless as in klog's format."""
    with caplog.at_level(logging.INFO, "klog"):
        klog.infof("%d of %s", 1, "x\x1b[2J")
    (made,) = caplog.records
    assert ("klog", r"1 of x\x1b[2J", ()) == (made.name, made.msg, made.args or ())
    assert "test_records_carry_the_text_and_nothing_to_format" == made.funcName


def test_lines_go_to_the_stream_of_set_output_letter_by_letter(tmp_path, monkeypatch):
    """The same line that the formatter would write, without ``logging``."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_784_901_930_123_456_789)
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        klog.set_output(stream)
        try:
            klog.infof("one %v", 1)
            klog.errorf("esc \x1b[31m")
            klog.info_s("two", "key", "value")
            klog.flush()
            lines = (tmp_path / "log").read_text().splitlines()
        finally:
            klog.set_output(None)
    heads = [line.partition("] ")[0] for line in lines]
    assert ["one 1", r"esc \x1b[31m", '"two" key="value"'] == [line.partition("] ")[2] for line in lines]
    assert ["I", "E", "I"] == [head[0] for head in heads]
    assert all(f".123456 {os.getpid():7d} test_klog.py:" in head for head in heads)
