"""Names of events: rule R5, the rows of client-go's own test, and times that are unique."""

from __future__ import annotations

import os
import re
import signal
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.event.names import UniqueTimes, event_name, is_dns_subdomain, plain_name_fits, random_name
from mpbroadcast.testing import SteppingClock

NOW_NS = 1_784_901_930_123_456_789  # 16 hex digits
LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def is_uuid(text):
    try:
        return str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4
    except ValueError:
        return False


@pytest.mark.client_go("NAM-01")
def test_a_valid_name_gets_the_nanoseconds_in_hex():
    assert "test-pod.178959f726d80ec" == event_name("test-pod", 105999103295324396)


@pytest.mark.parametrize(
    "ref_name",
    [
        pytest.param("x" * 300, marks=pytest.mark.client_go("NAM-02")),
        pytest.param("test.POD", marks=pytest.mark.client_go("NAM-03")),
        pytest.param("test.pod/invalid!chars?", marks=pytest.mark.client_go("NAM-04")),
        pytest.param("--test.pod/invalid!chars?", marks=pytest.mark.client_go("NAM-05")),
        "",
        "2001:db8::1",
        "web-",
        "a..b",
        "a\n",
        "é",
        "a" * 237,
    ],
)
def test_what_is_no_name_for_an_event_gets_a_uuid(ref_name):
    name = event_name(ref_name, NOW_NS)
    assert is_uuid(name)
    assert is_dns_subdomain(name)
    assert not plain_name_fits(ref_name)


def test_the_longest_name_that_leaves_room_for_the_time():
    assert "a" * 236 + f".{NOW_NS:x}" == event_name("a" * 236, NOW_NS)
    assert plain_name_fits("a" * 236)


def test_a_time_before_1970_cannot_be_in_a_name():
    assert is_uuid(event_name("web-1", -1))


def test_random_names_differ():
    assert random_name() != random_name()


@given(st.text(alphabet="ab-.A:0é\n", max_size=12) | st.text(max_size=300))
def test_every_name_is_one_that_kubernetes_takes(ref_name):
    name = event_name(ref_name, NOW_NS)
    assert re.fullmatch(rf"{LABEL}(\.{LABEL})*", name)
    assert len(name.encode()) <= 253
    assert plain_name_fits(ref_name) == (f"{ref_name}.{NOW_NS:x}" == name)


def test_times_go_up_even_when_the_clock_stands_still_or_goes_back():
    clock = SteppingClock(NOW_NS)
    times = UniqueTimes(clock, lanes=64)
    got = [times.next(5) for _ in range(3)]
    clock.step(-1_000_000_000)
    got += [times.next(5) for _ in range(3)]
    clock.step(5_000_000_000)
    got.append(times.next(5))
    assert sorted(set(got)) == got
    assert {5} == {t_ns % 64 for t_ns in got}
    assert abs(got[-1] - clock.now_ns()) < 64


def test_times_of_different_lanes_never_meet():
    clock = SteppingClock(NOW_NS)
    several = [UniqueTimes(clock, lanes=64) for _ in range(3)]
    got = [times.next(lane) for lane, times in enumerate(several) for _ in range(100)]
    assert 300 == len(set(got))


def test_there_is_at_least_one_lane():
    with pytest.raises(ValueError, match="at least one lane"):
        UniqueTimes(lanes=0)


class BlockingClock:
    """Lets a thread wait inside of `UniqueTimes`."""

    def __init__(self):
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.block = False

    def now_ns(self):
        if self.block:
            self.block = False
            self.inside.set()
            self.go_on.wait(10)
        return NOW_NS


def test_threads_get_different_times():
    times = UniqueTimes(SteppingClock(NOW_NS))
    got = [[] for _ in range(4)]
    start = threading.Barrier(4)

    def run(mine):
        start.wait()
        mine.extend(times.next(1) for _ in range(5000))

    threads = [threading.Thread(target=run, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(sorted(mine) == mine for mine in got)
    assert 20_000 == len({t_ns for mine in got for t_ns in mine})


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_a_thread_was_inside_goes_on():
    clock = BlockingClock()
    times = UniqueTimes(clock)
    times.next(1)
    clock.block = True
    thread = threading.Thread(target=times.next, args=(1,))
    thread.start()
    assert clock.inside.wait(10)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # were it stuck, it would spin for ever
        os._exit(0 if times.next(2) % 256 == 2 else 1)
    _, status = os.waitpid(pid, 0)
    clock.go_on.set()
    thread.join()
    assert 0 == os.waitstatus_to_exitcode(status)
    assert times.next(1) > NOW_NS
