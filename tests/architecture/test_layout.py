"""The shape of the package: the drawing, the names of each module, and what lies where."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

import mpbroadcast

PACKAGE: Final = Path(mpbroadcast.__file__).parent
FILES: Final = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
DRAWING: Final = mpbroadcast.__doc__.split("::", 1)[1].split("The modules of this folder")[0]
LIST: Final = mpbroadcast.__doc__.split("the stops are\nbuilt from:")[1]
STOPS: Final = ("recorder", "lane", "distributor", "watcher")
FORWARDED: Final = ("mpbroadcast", "mpbroadcast.sinks")
"""Packages that import a name when it is first asked for."""


def listed():
    """The modules that the docstring of the package lists."""
    return re.findall(r"^    (\w+) {2,}\S", LIST, flags=re.MULTILINE)


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public_names(tree):
    """What ``__all__`` says, read from the source: importing every module would need every extra."""
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and target.id == "__all__":
            return ast.literal_eval(node.value)
    return None


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_module_says_what_it_is_and_what_is_public(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a docstring"
    names = public_names(tree)
    assert names is not None, "__all__"
    assert sorted(set(names)) == sorted(names), "no name twice"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_what_a_module_calls_public_is_there(path):
    """Each name of ``__all__`` is defined or imported in the module, or is one that it imports when it is asked for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    assert set() == set(public_names(tree)) - defined


def test_the_stops_of_the_drawing_are_modules_in_the_order_of_the_path():
    """What stands before and behind each arrow begins with the name of a module; the list below is in that order."""
    path = next(line for line in DRAWING.splitlines() if line.count("→") == 4)
    words = [re.match(r"\w+", part.strip())[0] for part in path.split("→")]
    assert [*STOPS[:3], "watcher", "watcher"] == words  # the watcher's ring, then the watcher
    for name in words:
        assert (PACKAGE / f"{name}.py").is_file(), name
    assert list(STOPS) == listed()[: len(STOPS)]


def test_each_stop_says_where_it_runs():
    """The first line of a stop's docstring: its number, where it runs, what it reads and writes."""
    for number, name in enumerate(STOPS, 1):
        first = ast.get_docstring(ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))).splitlines()[0]
        assert first.startswith(f"Stop {number}: the {name}. Runs in: "), first


def test_the_root_holds_the_stops_and_what_owns_or_watches_them_and_nothing_else():
    """A file in the root that the docstring of the package does not list belongs into a folder."""
    found = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert set(listed()) == found


def test_the_readme_and_the_first_page_of_the_documentation_show_the_drawing():
    """The page includes it from the package; the README has a copy, line by line."""
    repository = PACKAGE.parent
    if not (repository / "docs").is_dir():
        pytest.skip("this is an installed package")
    assert "../mpbroadcast/__init__.py" in (repository / "docs" / "index.md").read_text(encoding="utf-8")
    readme = (repository / "README.md").read_text(encoding="utf-8")
    for line in filter(str.strip, DRAWING.splitlines()):
        assert line.strip() in readme or not readme.strip()


def test_public_names_are_what_dir_shows_and_can_be_imported():
    assert sorted(mpbroadcast.__all__) == mpbroadcast.__all__
    for name in mpbroadcast.__all__:
        assert getattr(mpbroadcast, name) is not None
        assert name in dir(mpbroadcast)


@pytest.mark.parametrize("name", FORWARDED)
def test_a_package_that_imports_lazily_knows_where_each_of_its_names_lives(name):
    package = import_module(name)
    for public in package.__all__:
        assert getattr(package, public) is not None, public


def test_a_name_that_is_not_public_is_missing_in_the_usual_words():
    with pytest.raises(AttributeError, match="module 'mpbroadcast' has no attribute 'no_such_name'"):
        mpbroadcast.no_such_name  # noqa: B018


def test_what_a_type_checker_sees_is_what_is_public():
    """The names imported for type checkers, the table of homes, and ``__all__`` agree."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in checked.body for alias in node.names}
    assert set(mpbroadcast.__all__) == seen
