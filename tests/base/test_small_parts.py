"""The clock, text, and process identities."""

from __future__ import annotations

import os
import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.base import identity
from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.base.outcome import Settled
from mpbroadcast.base.text import well_formed


def test_the_system_clock_is_the_wall_clock():
    before = time.time_ns()
    now_ns = SYSTEM_CLOCK.now_ns()
    assert before <= now_ns <= time.time_ns()
    assert "SYSTEM_CLOCK" == repr(SYSTEM_CLOCK)


@given(st.text(alphabet=st.characters(), max_size=20))
def test_text_becomes_what_utf_8_can_hold(text):
    good = well_formed(text)
    good.encode()
    # Two halves of a pair next to each other are taken for the one character that they are in UTF-16.
    if not any("\ud800" <= a <= "\udbff" and "\udc00" <= b <= "\udfff" for a, b in pairwise(text)):
        assert re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text) == good


def test_good_text_is_the_same_object():
    for text in ("ascii", "é😀", ""):
        assert text is well_formed(text)


def test_this_process_knows_itself():
    me = identity.current()
    assert os.getpid() == me.pid
    assert me == identity.of(os.getpid())
    assert identity.alive(me)


def test_an_id_that_was_used_again_is_another_process():
    me = identity.current()
    assert not identity.alive(me._replace(start_ticks=me.start_ticks - 1))


def test_a_forked_child_is_another_process_and_a_zombie_is_none():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(identity.current().pid).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert str(pid) == pipe.read()
    # Waits for its end, and leaves it a zombie.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert identity.of(pid) is None
    os.waitpid(pid, 0)
    assert identity.of(pid) is None


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_what_is_no_process_has_no_identity(pid):
    assert identity.of(pid) is None


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        (f"7 (a) b) c) S {'0 ' * 18}99 0", ("S", 99)),
        ("7 (x) S", None),
        ("", None),
        (f"7 (x) S {'0 ' * 18}x", None),
    ],
)
def test_command_names_with_parentheses_do_not_confuse(stat, expected):
    assert expected == identity._parse(stat)


def test_without_proc_the_current_process_cannot_be_told(monkeypatch):
    monkeypatch.setattr(identity, "of", lambda _: None)
    with pytest.raises(OSError, match="/proc does not show this process"):
        identity.current()


def test_the_words_for_settled_records_are_the_rings_numbers():
    assert [1, 2, 3, 4] == [Settled.HANDLED, Settled.FAILED, Settled.GIVEN_UP, Settled.FILTERED]
