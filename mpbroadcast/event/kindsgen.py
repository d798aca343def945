"""Writes `kinds`, the table of the official client's kinds, from the client's own API classes.

Runs in: a developer's shell, never in a program that uses this package::

    python -m mpbroadcast.event.kindsgen                     # add the kinds of the installed client
    python -m mpbroadcast.event.kindsgen FOLDER/kubernetes   # of another version, unpacked somewhere
    python -m mpbroadcast.event.kindsgen --check             # exit status 1 when the table lacks a kind

The table is the union of the client's versions, so that it serves whichever is installed; nothing is ever taken out.

An API class names, for each of its methods, the path of the request and the class of the answer. The path of an object
or of a list says the ``apiVersion``; the class says the kind. The sources are read, not imported: that takes 2 s, not
10, and any version can be read.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mpbroadcast.event.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["client_kinds", "installed_client", "main", "merged", "table_text"]

_OBJECT_PATH: Final = re.compile(
    r"/(?:api/(?P<core>v\w+)|apis/(?P<group_version>[^/{}]+/v\w+))"
    r"/(?:namespaces/\{namespace\}/)?[a-z]+(?:/\{name\})?"
)
_SUCCESS: Final = frozenset({"200", "201", "202"})
_METHOD: Final = re.compile(r"_?(?P<operation>\w+?)(?:_serialize|_with_http_info|_without_preload_content)?")
_MODEL: Final = re.compile(r"[A-Z]\w*V\d|V\d")

# Their paths are those of other objects' subresources, or of every group: the client does not say where they belong.
_ELSEWHERE: Final = {
    "V1Status": "v1",
    "V1Scale": "autoscaling/v1",
    "V1Eviction": "policy/v1",
    "AuthenticationV1TokenRequest": "authentication.k8s.io/v1",
}
_WIDTH: Final = 110


def _strings(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


def _answers(node: ast.AST) -> Iterator[str]:
    """The classes in a method's map from status codes to answers."""
    for child in ast.walk(node):
        if not isinstance(child, ast.Dict):
            continue
        for key, value in zip(child.keys, child.values, strict=True):
            if isinstance(key, ast.Constant) and str(key.value) in _SUCCESS and isinstance(value, ast.Constant):
                yield str(value.value)


def _operations(source: str) -> Iterator[tuple[set[str], set[str]]]:
    """The paths and answers of each operation; the client's versions spread them over different methods."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for cls in ast.parse(source).body:
        for method in cls.body if isinstance(cls, ast.ClassDef) else ():
            match = _METHOD.fullmatch(method.name) if isinstance(method, ast.FunctionDef) else None
            if match is not None:
                paths, answers = found[match["operation"]]
                paths.update(text for text in _strings(method) if text.startswith("/api"))
                answers.update(_answers(method))
    yield from found.values()


def client_kinds(folder: Path) -> dict[str, str]:
    """Read a client.

    Args:
        folder: of its package ``kubernetes``.

    Returns:
        For each model class that is a kind the ``apiVersion`` it has.

    Raises:
        ValueError: a class with two of them: the rules in here do not hold for this version.
        OSError: the sources cannot be read.
    """
    kinds: dict[str, str] = {}
    for path in sorted((folder / "client" / "api").glob("*_api.py")):
        for paths, answers in _operations(path.read_text(encoding="utf-8")):
            for match in filter(None, map(_OBJECT_PATH.fullmatch, paths)):
                version = match["core"] or match["group_version"]
                for name in answers - _ELSEWHERE.keys():
                    if _MODEL.match(name) and kinds.setdefault(name, version) != version:
                        raise ValueError(f"{name} is both {kinds[name]} and {version} in {folder}")
    models = (folder / "client" / "models" / "__init__.py").read_text(encoding="utf-8")
    kinds |= {name: version for name, version in _ELSEWHERE.items() if re.search(rf"\b{name}\b", models)}
    return kinds


def installed_client() -> Path | None:
    """The folder of the installed client; None where there is none."""
    spec = find_spec("kubernetes")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def merged(table: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """Add kinds to a table in the form of `KINDS`."""
    classes: dict[str, set[str]] = defaultdict(set)
    for version, names in table.items():
        classes[version].update(names.split())
    for name, version in kinds.items():
        classes[version].add(name)
    return {version: " ".join(sorted(classes[version])) for version in sorted(classes)}


def _lines(words: Iterable[str]) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) >= _WIDTH:
            yield line
            line = ""
        line += word + " "
    yield line.rstrip()


def table_text(table: Mapping[str, str]) -> str:
    """The source of `kinds` for a table."""
    head = Path(__file__).with_name("kinds.py").read_text(encoding="utf-8").partition("KINDS: Final")[0]
    out = [head, "KINDS: Final = {\n"]
    for version, names in table.items():
        lines = list(_lines(names.split()))
        if len(lines) == 1 and len(version) + len(lines[0]) < _WIDTH:
            out.append(f'    "{version}": "{lines[0]}",\n')
        else:
            out += [f'    "{version}": (\n', *[f'        "{line}"\n' for line in lines], "    ),\n"]
    out.append('}\n"""Model classes by ``apiVersion``, separated by blanks."""\n')
    return "".join(out)


def main(argv: list[str] | None = None) -> int:
    """Run the generator; the exit status is 1 where a client lacks or, with ``--check``, the table does."""
    parser = argparse.ArgumentParser(prog="python -m mpbroadcast.event.kindsgen", description="Write the kinds table.")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="of a package kubernetes")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the table lacks a kind")
    options = parser.parse_args(argv)
    folders = options.folders or [folder for folder in [installed_client()] if folder is not None]
    if not folders:
        sys.stderr.write("no client is installed: name the folder of a package kubernetes\n")
        return 1
    table: dict[str, str] = dict(KINDS)
    for folder in folders:
        table = merged(table, client_kinds(folder))
    new = sum(len(names.split()) for names in table.values()) - sum(len(names.split()) for names in KINDS.values())
    if not options.check:
        Path(__file__).with_name("kinds.py").write_text(table_text(table), encoding="utf-8")
    sys.stdout.write(f"{new} kinds {'are missing' if options.check else 'added'}\n")
    return 1 if options.check and new else 0


if __name__ == "__main__":
    sys.exit(main())
