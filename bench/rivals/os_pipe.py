"""A raw ``os.pipe``: each message with its length in one write of at most PIPE_BUF bytes, read in large pieces."""

import os
import struct

_LENGTH = struct.Struct("<I")


class _Pipe:
    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.rest = b""

    def producer(self) -> None:
        os.close(self.read_end)

    def consumer(self) -> None:
        os.close(self.write_end)

    def put_all(self, message: bytes, count: int) -> None:
        write, fd, pack = os.write, self.write_end, _LENGTH.pack
        for _ in range(count):
            write(fd, pack(len(message)) + message)

    def get_some(self) -> int:
        data = self.rest + os.read(self.read_end, 1 << 16)
        at, found, size = 0, 0, len(data)
        while at + 4 <= size:
            end = at + 4 + _LENGTH.unpack_from(data, at)[0]
            if end > size:
                break
            data[at + 4 : end]
            at, found = end, found + 1
        self.rest = data[at:]
        return found


def make() -> _Pipe:
    return _Pipe()
