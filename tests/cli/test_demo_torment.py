"""``mpbroadcast demo --torment``: the accounting adds up whatever is killed; the other side is shown as it is."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from mpbroadcast.cli.demo_torment_sides import Tally


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_in_a_pipe_it_plays_every_fault_and_loses_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "mpbroadcast", "demo", "--torment"],
        capture_output=True, text=True, timeout=140, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr
    for fault in ("SIGKILL: a worker", "SIGSTOP: a worker", "SIGKILL: the distributor", "SIGKILL: the watcher"):
        assert fault in done.stdout
    ours, queue = (line for line in done.stdout.splitlines() if " in doubt" in line and "accepted," in line)
    numbers = [int(word.replace(",", "")) for word in re.findall(r"[\d,]*\d", ours)]
    accepted, arrived, lost, repeated, doubt = numbers
    assert (True, 0) == (accepted > 1000, lost)
    assert accepted <= arrived <= accepted + doubt
    assert repeated <= 2
    assert queue.strip().startswith("multiprocessing.Queue")
    assert "\x1b" not in done.stdout


def test_a_tally_counts_what_is_missing_repeated_and_in_doubt():
    tally = Tally()
    for _ in range(4):
        tally.send(0, lambda text: True)
    tally.send(1, lambda text: True)
    tally.send(1, lambda text: False)
    for text in ("0:0", "0:2", "0:2"):
        tally.receive(text)
    account = tally.account()
    assert (5, 1, 2, 1) == (account.accepted, account.doubt, account.arrived, account.repeated)
    assert 3 == account.missing  # 0:1, 0:3 and 1:0
