"""pyzmq PUSH/PULL over ipc; ``copy=True``, as everybody uses it, with a bounded queue on both sides."""

import os
import tempfile

from bench.harness import Missing

try:
    import zmq
except ImportError:
    zmq = None


class _Zmq:
    def __init__(self) -> None:
        self.address = f"ipc://{tempfile.mkdtemp()}/{os.getpid()}"
        self.socket = None

    def producer(self) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.sndhwm = 10_000
        self.socket.linger = -1
        self.socket.connect(self.address)

    def consumer(self) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PULL)
        self.socket.rcvhwm = 10_000
        self.socket.bind(self.address)

    def put_all(self, message: bytes, count: int) -> None:
        send = self.socket.send
        for _ in range(count):
            send(message)
        self.socket.close()
        self.context.term()

    def get_some(self) -> int:
        receive, found = self.socket.recv, 1
        receive()
        try:
            while True:
                receive(zmq.NOBLOCK)
                found += 1
        except zmq.Again:
            return found


def make() -> _Zmq:
    if zmq is None:
        raise Missing("pip install pyzmq")
    return _Zmq()
