"""Celery: the page's worker with a real prefork pool and a broker of plain files."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from tests.frameworks.conftest import needs
from tests.path.conftest import eventually

needs("celery")
PAGE = "celery"
SEND = """
from {module} import {task}
for number in range({count}):
    {task}.delay(f"db-{{number}}")
"""


def start(page, module, *options):
    return page.python(
        "-m",
        "celery",
        "-A",
        module,
        "worker",
        "--loglevel",
        "info",
        "--pool",
        "prefork",
        "--concurrency",
        "2",
        *options,
    )


def send(page, module, task, count):
    sent = page.run("python", page.write("sending.py", SEND.format(module=module, task=task, count=count)))
    assert 0 == sent.returncode, sent.stderr


@pytest.mark.timeout(120)
def test_every_task_is_an_event_while_pool_processes_are_replaced(page):
    worker = start(page, "tasks", "--max-tasks-per-child", "4")
    send(page, "tasks", "backup", 30)
    eventually(lambda: len(page.messages()) == 30, timeout=60)
    worker.send_signal(signal.SIGTERM)
    assert 0 == worker.wait(40), page.log
    by_process = Counter(message.split(" by ")[1] for message in page.messages())
    assert {f"db-{number}" for number in range(30)} == {message.split(" by ")[0] for message in page.messages()}
    assert max(by_process.values()) <= 4
    assert "accepted 30, refused 0" in page.log
    assert "Traceback" not in page.log
    assert {} == page.left()


@pytest.mark.timeout(120)
def test_killed_helpers_lose_nothing_and_celery_sees_nothing_of_it(page):
    """Its own pool processes are not killed here: that can hang a Celery worker, with and without a broadcaster."""
    worker = start(page, "tasks")
    send(page, "tasks", "backup", 10)
    eventually(lambda: len(page.messages()) == 10, timeout=60)
    for pid, title in page.helpers().items():
        if "(spare)" not in title:
            os.kill(pid, signal.SIGKILL)
    send(page, "tasks", "backup", 10)
    eventually(lambda: len(page.messages()) == 20, timeout=60)
    worker.send_signal(signal.SIGTERM)
    assert 0 == worker.wait(40), page.log
    assert "accepted 20, refused 0" in page.log
    assert "exited with" not in page.log
    assert {} == page.left()


@pytest.mark.timeout(120)
def test_a_daemonic_process_of_the_pool_has_a_broadcaster_of_its_own(page):
    worker = start(page, "own")
    send(page, "own", "restore", 8)

    def restored():
        return sum(len(page.messages(path.name)) for path in page.directory.glob("own-*.jsonl"))

    eventually(lambda: restored() == 8, timeout=60)
    worker.send_signal(signal.SIGTERM)
    assert 0 == worker.wait(40), page.log
    assert {} == page.left()
