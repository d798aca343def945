"""Events as ``kubectl get events`` prints them: a table, JSON, YAML or names (spec F6). Pure, but for the printing.

Nothing that somebody wrote into an event reaches a terminal as a control character: the table writes them out, JSON and
YAML escape them.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import typer

from mpbroadcast.event.table import GET_COLUMNS, NAMESPACE, WIDE_COLUMNS, Table, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mpbroadcast.event.model import Event

__all__ = ["FORMATS", "JSONPrinter", "NamePrinter", "Printer", "TablePrinter", "YAMLPrinter", "make_printer"]

FORMATS: Final = ("wide", "json", "yaml", "name")

# What JSON leaves as it is and a terminal obeys or shows in another order: DEL, C1, separators, direction marks.
_UNSAFE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


_GO_ESCAPES: Final = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}
"""What Go's JSON encoder, and with it kubectl, escapes besides."""


def _escaped(text: str) -> str:
    r"""Write unsafe characters as ``\uXXXX``. Only for text in which they stand inside of double quotes."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Printer(Protocol):
    """Prints events: all at once, or one batch after another as they come in."""

    def print_list(self, events: Sequence[Event]) -> None:
        """Print everything there is."""
        ...  # pragma: no cover

    def print_more(self, events: Iterable[Event]) -> None:
        """Print what is new while watching."""
        ...  # pragma: no cover


class TablePrinter:
    """Prints kubectl's columns; the headings once.

    Args:
        wide: with the columns of ``-o wide``.
        namespaces: with the namespace in front.
        headings: whether to print headings.
        now_ns: what ages are measured to.
    """

    def __init__(
        self, *, wide: bool, namespaces: bool, headings: bool, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        columns = WIDE_COLUMNS if wide else GET_COLUMNS
        self._table = Table((NAMESPACE, *columns) if namespaces else columns, headings=headings)
        self._now_ns = now_ns

    def print_list(self, events: Sequence[Event]) -> None:
        """Print the lines of these events."""
        self.print_more(events)

    def print_more(self, events: Iterable[Event]) -> None:
        """Print the lines of these events; a column never gets narrower."""
        found = list(events)
        if found:
            print("\n".join(self._table.lines(found, self._now_ns())), flush=True)


class NamePrinter:
    """Prints ``event/NAME`` for each."""

    def print_list(self, events: Sequence[Event]) -> None:
        """Print their names."""
        self.print_more(events)

    def print_more(self, events: Iterable[Event]) -> None:
        """Print their names."""
        for event in events:
            print(f"event/{visible(event.name)}", flush=True)


def _listed(events: Iterable[Event]) -> dict[str, Any]:
    """Return what kubectl makes of a list: a ``List`` of plain objects, without a version of its own."""
    items = [event.to_core_v1() for event in events]
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}


class JSONPrinter:
    """Prints one ``List``, or one object after another while watching; keys sorted, as kubectl does."""

    def print_list(self, events: Sequence[Event]) -> None:
        """Print a ``List`` of them."""
        self._print(_listed(events))

    def print_more(self, events: Iterable[Event]) -> None:
        """Print each as a document of its own."""
        for event in events:
            self._print(event.to_core_v1())

    def _print(self, body: dict[str, Any]) -> None:
        text = json.dumps(body, indent=4, sort_keys=True, ensure_ascii=False)
        print(_escaped(text.translate(_GO_ESCAPES)), flush=True)


class YAMLPrinter:
    """Prints one ``List``, or one document after another while watching; keys sorted, as kubectl does."""

    def __init__(self) -> None:
        import yaml  # noqa: PLC0415 - a dependency of the official client, needed for this format alone

        class Dumper(yaml.SafeDumper):
            """Texts with line breaks as blocks, unsafe ones in double quotes; no anchors for what comes twice."""

            def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
                return True

            def choose_scalar_style(self) -> str:
                style: str = super().choose_scalar_style()
                # As kubectl quotes: double where it would be read as a number or a time, single where it would break.
                is_plain_text = getattr(self.event, "implicit", (True,))[0]
                return '"' if style == "'" and not is_plain_text else style

        def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
            if _UNSAFE.search(text):
                style: str | None = '"'
            else:
                style = "|" if "\n" in text else None
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

        Dumper.add_representer(str, represent_text)
        self._yaml, self._dumper = yaml, Dumper
        self._first = True

    def print_list(self, events: Sequence[Event]) -> None:
        """Print a ``List`` of them."""
        self._print(_listed(events))

    def print_more(self, events: Iterable[Event]) -> None:
        """Print each as a document of its own."""
        for event in events:
            if not self._first:
                print("---")
            self._first = False
            self._print(event.to_core_v1())

    def _print(self, body: dict[str, Any]) -> None:
        text = self._yaml.dump(body, Dumper=self._dumper, allow_unicode=True, default_flow_style=False, width=4096)
        print(_escaped(text), end="", flush=True)


def make_printer(output: str | None, *, namespaces: bool, headings: bool) -> Printer:
    """Return the printer of an ``-o`` option.

    Raises:
        typer.BadParameter: there is no such format.
    """
    if output in {None, "", "wide"}:
        return TablePrinter(wide=output == "wide", namespaces=namespaces, headings=headings)
    if output == "json":
        return JSONPrinter()
    if output == "yaml":
        return YAMLPrinter()
    if output == "name":
        return NamePrinter()
    raise typer.BadParameter(f"unknown output format {output!r}; there are: {', '.join(FORMATS)}")
