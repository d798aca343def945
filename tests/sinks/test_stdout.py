"""`StdoutSink`: lines to a pipe, a reader that is slow or gone, and text that would command a terminal."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading

import pytest

from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.sinks.stdout import StdoutSink
from mpbroadcast.testing import check_sink


@pytest.fixture
def pipe():
    read, write = os.pipe()
    ends = {"read": read, "write": write}

    def close(which):
        os.close(ends.pop(which))

    yield read, write, close
    for descriptor in ends.values():
        os.close(descriptor)


def drained(descriptor):
    """Reads a pipe to its end, in a thread."""
    parts = []

    def read():
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)

    thread = threading.Thread(target=read)
    thread.start()
    return parts, thread


def test_it_keeps_the_rules_of_logs(pipe):
    read, write, close = pipe
    _, thread = drained(read)
    check_sink(lambda: StdoutSink(write), append_only=True)
    close("write")
    thread.join()


def test_an_event_is_one_line_of_core_v1(pipe, make_event):
    read, write, _ = pipe
    event = make_event(message='a\n"b"\\')
    StdoutSink(write).create(event)
    line = os.read(read, 1 << 16)
    assert 1 == line.count(b"\n")
    assert json.loads(json.dumps(event.to_core_v1())) == json.loads(line)


def test_a_repeat_is_written_with_its_count(pipe, make_event):
    read, write, _ = pipe
    StdoutSink(write).patch(make_event(count=3), b'{"count":3}')
    assert 3 == json.loads(os.read(read, 1 << 16))["count"]


def test_no_text_reaches_a_terminal_as_a_command(pipe, make_event):
    read, write, _ = pipe
    evil = "\x1b[2J\x7f\x9b31m\x85\u202egnp\u2028\u2066x\x00é日😀"
    StdoutSink(write).create(make_event(message=evil))
    line = os.read(read, 1 << 16)
    assert evil == json.loads(line)["message"]
    text = line.decode()
    assert "é日😀" in text
    assert not [letter for letter in text[:-1] if not letter.isprintable()]


def test_a_reader_that_is_gone_makes_it_unavailable(pipe, make_event):
    _, write, close = pipe
    close("read")
    with pytest.raises(SinkUnavailable, match=r"^standard output: its reader is gone$"):
        StdoutSink(write).create(make_event())


def test_a_pipe_that_does_not_block_is_waited_for(pipe, make_event):
    """More than a pipe holds: nothing of it is lost or torn."""
    read, write, close = pipe
    os.set_blocking(write, False)
    parts, thread = drained(read)
    sink = StdoutSink(write)
    for number in range(200):
        sink.create(make_event(message=f"{number} " + "x" * 5000))
    close("write")
    thread.join()
    numbers = [int(json.loads(line)["message"].split()[0]) for line in b"".join(parts).splitlines()]
    assert list(range(200)) == numbers


def test_a_line_that_went_out_in_part_is_ended_before_the_next(pipe, make_event, monkeypatch):
    """The try failed in the middle; what comes then begins a line of its own."""
    read, write, _ = pipe
    sink = StdoutSink(write)
    real, calls = os.write, []

    def short(descriptor, data):
        calls.append(1)
        if len(calls) == 1:
            return real(descriptor, bytes(data[:10]))
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(SinkUnavailable, match="standard output: input/output error"):
        sink.create(make_event())
    sink.create(make_event())
    torn, whole, rest = os.read(read, 1 << 16).split(b"\n")
    assert b'{"kind":"E' == torn
    assert "Event" == json.loads(whole)["kind"]
    assert b"" == rest


def test_a_sink_of_a_watcher_writes_to_the_standard_output_of_the_application(tmp_path):
    program = (
        "from mpbroadcast import EventBroadcaster, ObjectReference\n"
        "from mpbroadcast.sinks import StdoutSink\n"
        "with EventBroadcaster() as broadcaster:\n"
        "    broadcaster.start_recording_to_sink(StdoutSink())\n"
        "    recorder = broadcaster.new_recorder('lab')\n"
        "    pod = ObjectReference('Pod', 'default', 'web', 'u', 'v1')\n"
        "    for n in range(100): recorder.event(pod, 'Normal', 'Started', f'm-{n}')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=tmp_path)
    messages = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert [f"m-{n}" for n in range(100)] == messages


def test_it_is_picklable():
    assert "StdoutSink()" == repr(pickle.loads(pickle.dumps(StdoutSink())))
