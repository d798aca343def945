"""`Scheme`: which kind and version a class stands for. Runs in: the recording process.

Objects out of a list of the official client, and most that a program builds itself, do not say what they are: their
``kind`` and ``api_version`` are None. As in client-go the scheme knows it by their class.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from mpbroadcast.errors import NotRegistered

__all__ = ["DEFAULT_SCHEME", "Scheme", "TypeMeta"]

_CLIENT: Final = re.compile(r"kubernetes(?:_asyncio|\.aio)?\.client\.models(?:\.|$)")
_VERSION: Final = re.compile(r"(?:[A-Z][A-Za-z]*?)?V\d+(?:(?:alpha|beta)\d+)?(?=[A-Z])")  # CoreV1Event, V1beta1Lease
_API_VERSION: Final = re.compile(r"(?:[^/\s]+/)?[^/\s]+")
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_MATURITY: Final = re.compile(r"(?:.*/)?v(\d+)(?:(alpha|beta)(\d+))?")


class TypeMeta(NamedTuple):
    """What an object is: Kubernetes' ``TypeMeta``.

    Attributes:
        api_version: ``group/version``, or just the version for the core group.
        kind: such as ``Pod``.
    """

    api_version: str
    kind: str


@lru_cache(maxsize=1)
def _client_kinds() -> dict[str, TypeMeta]:
    """The official client's kinds by class name, read when they are first asked for: 30 us."""
    from mpbroadcast.event.kinds import KINDS  # noqa: PLC0415 - most processes never need the table

    return {
        name: TypeMeta(api_version, _VERSION.sub("", name, count=1))
        for api_version, names in KINDS.items()
        for name in names.split()
    }


def _check(pattern: re.Pattern[str], value: object, what: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{what}, not {value!r:.100}")


def _age(meta: TypeMeta) -> tuple[int, bool, int, int]:
    """Sorts versions as Kubernetes prefers them: stable, beta, alpha; the core group first; then the higher number."""
    grouped = "/" in meta.api_version
    match = _MATURITY.fullmatch(meta.api_version)
    if match is None:
        return 3, grouped, 0, 0
    number, word, revision = match.groups()
    return {None: 0, "beta": 1, "alpha": 2}[word], grouped, -int(number), -int(revision or 0)


class Scheme:
    """The kinds of classes: every one of the official client, and what was registered.

    A class may stand for several versions of a kind; the one registered first is used, as in client-go. A subclass
    stands for what its nearest registered base stands for. Safe in any thread; register before sharing it between
    processes. Picklable where the registered classes are.

    Args:
        client_kinds: whether it knows the official client's kinds (of the versions 36 and 37, installed or not).
    """

    __slots__ = ("_client", "_found", "_registered")

    def __init__(self, *, client_kinds: bool = True) -> None:
        self._client = client_kinds
        self._registered: dict[type, tuple[TypeMeta, ...]] = {}
        self._found: dict[type, tuple[TypeMeta, ...]] = {}

    def register(self, cls: type, api_version: str, kind: str | None = None) -> None:
        """Say what a class stands for; once more for each further version.

        Args:
            cls: the class of the objects, which need a ``metadata`` attribute.
            api_version: ``group/version``, or just the version for the core group.
            kind: the name of the class by default.

        Raises:
            TypeError: ``cls`` is no class.
            ValueError: the version or the kind is none.
        """
        if not isinstance(cls, type):
            raise TypeError(f"a class is registered, not {cls!r:.100}")
        kind = cls.__name__ if kind is None else kind
        _check(_API_VERSION, api_version, "an apiVersion is 'version' or 'group/version'")
        _check(_KIND, kind, "a kind is a name such as 'CronTab'")
        meta = TypeMeta(api_version, kind)
        known = self._registered.get(cls, ())
        if meta not in known:
            self._registered[cls] = (*known, meta)
            self._found.clear()

    def kinds(self, cls: type) -> tuple[TypeMeta, ...]:
        """What a class stands for, the one that is used first. Does not block.

        Raises:
            NotRegistered: the scheme does not know the class.
        """
        found = self._found.get(cls)
        if found is None:
            found = self._find(cls)
            if len(self._found) >= 1024:  # classes made on the fly must not stay for ever
                self._found.clear()
            self._found[cls] = found
        if not found:
            raise NotRegistered(
                f"no kind is registered for the type {cls.__module__}.{cls.__qualname__}: "
                "set kind and apiVersion in the object, or register the class with Scheme.register()"
            )
        return found

    def find(self, kind: str) -> tuple[TypeMeta, ...]:
        """Every version of a kind by its name, in any case of letters; stable and newer ones first, () for none."""
        wanted = kind.lower()
        metas = [meta for found in self._registered.values() for meta in found]
        if self._client:
            metas += _client_kinds().values()
        return tuple(sorted({meta for meta in metas if meta.kind.lower() == wanted}, key=lambda m: (_age(m), m)))

    def _find(self, cls: type) -> tuple[TypeMeta, ...]:
        for base in cls.__mro__:
            client = self._of_client(base)
            found = self._registered.get(base, ())
            if client is not None:
                return (client, *[meta for meta in found if meta != client])
            if found:
                return found
        return ()

    def _of_client(self, cls: type) -> TypeMeta | None:
        if not self._client or not _CLIENT.match(str(cls.__module__)):
            return None
        return _client_kinds().get(cls.__name__)

    def __contains__(self, cls: object) -> bool:
        return isinstance(cls, type) and bool(self._found.get(cls) or self._find(cls))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self._client, self._registered)

    def __repr__(self) -> str:
        known = "the official client's kinds" if self._client else "no kinds of the official client"
        return f"<Scheme: {known}, {len(self._registered)} registered classes>"


def _rebuild(client_kinds: bool, registered: dict[type, tuple[TypeMeta, ...]]) -> Scheme:
    scheme = Scheme(client_kinds=client_kinds)
    scheme._registered = registered  # noqa: SLF001 - its own kind
    return scheme


DEFAULT_SCHEME: Final = Scheme()
"""The scheme of recorders that are given none. What is registered here, is registered for all of them."""
