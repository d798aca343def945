"""systemd: the page's unit is valid, and its program ends as each KillMode has it end."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import pytest

from tests.path.conftest import eventually

PAGE = "systemd"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_of_the_page_is_valid(page):
    unit = (page.directory / "web.service").read_text().replace("/opt/web/bin/python", sys.executable)
    done = page.run("systemd-analyze", "verify", "--man=no", page.write("mpbroadcast-test.service", unit))
    complaints = [line for line in done.stderr.splitlines() if "mpbroadcast-test" in line]
    assert (0, []) == (done.returncode, complaints)


def running(page):
    service = page.python("service.py")
    eventually(lambda: len(page.helpers()) == 4)
    return service


def send_to_all(page, number):
    for pid in page.processes():
        os.kill(pid, number)


def test_control_group_stops_all_and_helpers_deliver_all_the_same(page):
    service = running(page)
    send_to_all(page, signal.SIGTERM)
    assert 0 == service.wait(20), page.log
    assert [f"process {service.pid} is up"] == page.messages()
    assert {} == page.left()
    assert "without shutdown" not in page.log


def test_control_group_is_right_for_a_program_without_a_handler_too(page):
    text = (page.directory / "service.py").read_text()
    page.write("service.py", text.replace("signal.signal(signal.SIGTERM, stop)\n", ""))
    service = running(page)
    send_to_all(page, signal.SIGTERM)
    assert -signal.SIGTERM == service.wait(20), page.log
    assert {} == page.left()
    assert [f"process {service.pid} is up"] == page.messages()


def test_mixed_kills_the_rest_when_the_main_process_has_ended_and_nothing_is_lost(page):
    service = running(page)
    service.send_signal(signal.SIGTERM)
    assert 0 == service.wait(20), page.log
    send_to_all(page, signal.SIGKILL)
    assert [f"process {service.pid} is up"] == page.messages()
    assert {} == page.left()
