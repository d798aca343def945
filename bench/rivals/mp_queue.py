"""``multiprocessing.Queue(1000)``: a pipe, two locks, and a feeder thread in each producer."""

import multiprocessing


class _Queue:
    def __init__(self) -> None:
        self.queue = multiprocessing.get_context("fork").Queue(1000)

    def producer(self) -> None:
        pass

    def consumer(self) -> None:
        pass

    def put_all(self, message: bytes, count: int) -> None:
        put = self.queue.put
        for _ in range(count):
            put(message)
        self.queue.close()
        self.queue.join_thread()

    def get_some(self) -> int:
        self.queue.get()
        return 1


def make() -> _Queue:
    return _Queue()
