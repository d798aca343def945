"""faster-fifo with ``put_many`` and ``get_many``, its fastest way: batches of 100 messages."""

from bench.harness import Missing

try:
    import faster_fifo
except ImportError:
    faster_fifo = None

BATCH = 100


class _Fifo:
    def __init__(self) -> None:
        self.queue = faster_fifo.Queue(max_size_bytes=2 << 20, dumps=bytes, loads=bytes)

    def producer(self) -> None:
        pass

    def consumer(self) -> None:
        pass

    def put_all(self, message: bytes, count: int) -> None:
        left = count
        while left:
            batch = [message] * min(BATCH, left)
            self.queue.put_many(batch, timeout=1000)
            left -= len(batch)

    def get_some(self) -> int:
        return len(self.queue.get_many(timeout=1000, max_messages_to_get=1000))


def make() -> _Fifo:
    if faster_fifo is None:
        raise Missing("pip install faster-fifo")
    return _Fifo()
