"""Events of a cluster, for the commands that read or record there. Runs in: the command's process, on its own loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mpbroadcast.errors import SinkRejected
from mpbroadcast.kube.client import EventsClient
from mpbroadcast.kube.config import Access, load_configuration
from mpbroadcast.kube.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence

    from mpbroadcast.event.model import Event
    from mpbroadcast.store.selection import Selection

__all__ = ["Cluster", "ClusterSource", "context_namespace"]

_T = TypeVar("_T")
_GONE: Final = 410
_EVERYTHING: Final = 1 << 31  # events of one page, for "all at once"


def context_namespace(kubeconfig: str | None, context: str | None) -> str | None:
    """Return the namespace that the context of a kubeconfig names, as kubectl uses it; None where there is none."""
    from kubernetes import config  # noqa: PLC0415 - 0.65 s, for those who ask for a cluster

    try:
        contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)
    except Exception:  # noqa: BLE001 - whatever is wrong with the file is said when the connection is made
        return None
    chosen = next((one for one in contexts if one.get("name") == context), None) if context else active
    return (chosen or {}).get("context", {}).get("namespace") or None


class Cluster:
    """A connection to an API server and the event loop it lives on. One thread at a time.

    Args:
        kubeconfig: its path; None for where kubectl looks.
        context: of the kubeconfig; None for the current one.

    Raises:
        SinkUnavailable: one line: no such file, or nothing that can be used in it.
    """

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        configuration = load_configuration(kubeconfig, context)
        self._loop = asyncio.new_event_loop()
        self.client = EventsClient(Transport(Access(configuration)))

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a coroutine. Ctrl-C ends the waiting."""
        return self._loop.run_until_complete(work)

    def each(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        """Iterate over what an asynchronous iterator gives."""

        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        while (found := self.run(following()))[0]:
            yield found[1]

    def close(self) -> None:
        """Close the connections and the loop."""
        if not self._loop.is_closed():
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self.run(self.client.close())
            self.run(self._loop.shutdown_asyncgens())
            self._loop.close()


class ClusterSource:
    """The events that an API server has, as `mpbroadcast.cli.source.EventSource`.

    Args:
        selection: which events.
        kubeconfig: its path; None for where kubectl looks.
        context: of the kubeconfig.

    Raises:
        SinkUnavailable, SinkRejected: one line: no connection, or the server refuses.
    """

    unreadable = 0

    def __init__(self, selection: Selection, *, kubeconfig: str | None, context: str | None) -> None:
        self._cluster = Cluster(kubeconfig, context)
        self._selection = selection
        self._version = ""

    @property
    def _field_selector(self) -> str:
        # The kind is not asked for: it may be typed as a plural or in another case, and the name says nearly all.
        wanted = {"involvedObject.name": self._selection.involved.name}
        if len(self._selection.types) == 1:
            wanted["type"] = self._selection.types[0]
        return ",".join(f"{field}={value}" for field, value in wanted.items() if value)

    def pages(self, chunk: int) -> Iterator[Sequence[Event]]:
        """See `EventSource.pages`."""
        namespace = self._selection.namespace or None
        pages = self._cluster.client.pages(namespace, field_selector=self._field_selector, limit=chunk or _EVERYTHING)
        for page in self._cluster.each(pages):
            self._version = page.resource_version
            yield self._meant(page.events)

    def follow(self) -> Iterator[Sequence[Event]]:
        """See `EventSource.follow`. After an interruption that the server does not remember, it lists again."""
        client, namespace = self._cluster.client, self._selection.namespace or None
        try:
            changes = client.watch(namespace, resource_version=self._version, field_selector=self._field_selector)
            yield from self._shown(changes)
        except SinkRejected as error:
            if error.code != _GONE:
                raise
        yield from self._shown(client.follow(namespace, field_selector=self._field_selector))

    def _shown(self, changes: AsyncIterator[Any]) -> Iterator[Sequence[Event]]:
        for change in self._cluster.each(changes):
            events = [] if change.type == "DELETED" else self._meant([change.event])
            if events:
                yield events

    def _meant(self, events: Sequence[Event]) -> list[Event]:
        return [event for event in events if self._selection.matches(event)]

    def close(self) -> None:
        """Close the connection."""
        self._cluster.close()
