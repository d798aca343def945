"""The broadcasters of the tests with real processes."""

from tests.path.conftest import make

__all__ = ["make"]
