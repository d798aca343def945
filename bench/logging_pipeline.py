"""klog lines to a file, formatted and written by another process (target 9).

Ours is ``start_logging(klog.infof)`` with a file as klog's output, and beside it a log function of Python's
``logging``; the rivals are ``QueueHandler`` over a ``multiprocessing.Queue`` with the listener in a process of its own,
and loguru with ``enqueue=True``. The producer's call is timed as well, since it is what a controller waits for.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import tempfile
import time
from pathlib import Path

from bench.harness import Missing, cpu_of_helpers, result, scenario_main
from bench.recorder import REFERENCE, TEXT
from mpbroadcast.base import klog
from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event_broadcaster import EventBroadcaster


def _lines(path):
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _file_logger(path):
    handler = logging.FileHandler(path)
    handler.setFormatter(klog.KlogFormatter())
    logger = logging.getLogger("bench.file")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    return logger


class _Logf:
    def __init__(self, path):
        self.path = path
        self.info = None

    def __call__(self, fmt, *args):
        if self.info is None:
            self.info = _file_logger(self.path).info
        self.info(fmt, *args)


def through_klog(count):
    """As a controller would: klog's output is a file, and ``klog.infof`` the log function."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        with path.open("a", encoding="utf-8") as file:
            klog.set_output(file)
            return _logged(klog.infof, path, count)


def through_logging(count):
    """With Python's ``logging`` in the watcher."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        return _logged(_Logf(path), path, count)


def _logged(logf, path, count):
    broadcaster = EventBroadcaster(full_channel_behavior=FullChannelBehavior.WAIT_IF_CHANNEL_FULL)
    broadcaster.start_logging(logf)
    event = broadcaster.new_recorder("bench").event
    broadcaster.flush(10)
    sent, began = 0, time.perf_counter()
    while sent < count:
        if event(REFERENCE, "Normal", "Scheduled", TEXT):
            sent += 1
        else:
            time.sleep(0.001)
    recorded = time.perf_counter() - began
    broadcaster.flush()
    seconds = time.perf_counter() - began
    helpers = cpu_of_helpers(broadcaster)
    broadcaster.shutdown()
    call_us = recorded / count * 1e6
    return result(sent=count, received=_lines(path), seconds=seconds, helpers=helpers, call_us=call_us)


def queue_handler(count):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        queue = multiprocessing.get_context("fork").Queue(1000)

        def listen():
            logger = _file_logger(path)
            for record in iter(queue.get, None):
                logger.handle(record)

        listener = multiprocessing.get_context("fork").Process(target=listen)
        listener.start()
        logger = logging.getLogger("bench.app")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.handlers = [_Blocking(queue)]
        began = time.perf_counter()
        for _ in range(count):
            logger.info("Event(%s): type: '%s' reason: '%s' %s", REFERENCE, "Normal", "Scheduled", TEXT)
        recorded = time.perf_counter() - began
        queue.put(None)
        listener.join()
        seconds = time.perf_counter() - began
        return result(sent=count, received=_lines(path), seconds=seconds, call_us=recorded / count * 1e6)


class _Blocking(logging.handlers.QueueHandler):
    """Waits for room: its own ``put_nowait`` would lose lines, and the run be void."""

    def enqueue(self, record):
        self.queue.put(record)


def loguru(count):
    try:
        from loguru import logger
    except ImportError:
        raise Missing("pip install loguru") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        logger.remove()
        logger.add(path, enqueue=True, format="{level} {time} {process} {file}:{line}] {message}")
        began = time.perf_counter()
        for _ in range(count):
            logger.info("Event({}): type: '{}' reason: '{}' {}", REFERENCE, "Normal", "Scheduled", TEXT)
        recorded = time.perf_counter() - began
        logger.complete()
        logger.remove()
        seconds = time.perf_counter() - began
        return result(sent=count, received=_lines(path), seconds=seconds, call_us=recorded / count * 1e6)


CONTENDERS = {
    "mpbroadcast": through_klog,
    "through logging": through_logging,
    "queue_handler": queue_handler,
    "loguru": loguru,
}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=100_000)
