"""The stub of the extension: it names what the extension has, no more and no less, and says something of each."""

from __future__ import annotations

import ast

from mpbroadcast.ring import _ring
from tests.ring.building import RING

TREE = ast.parse((RING / "_ring.pyi").read_text())
MAGIC = {"__new__"}


def names_in(body):
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id


def public(obj):
    return {name for name in vars(obj) if not name.startswith("__")}


def test_stub_and_extension_list_the_same_names():
    assert public(_ring) == set(names_in(TREE.body))


def test_stub_and_extension_list_the_same_names_in_each_class():
    for node in TREE.body:
        if isinstance(node, ast.ClassDef):
            assert public(getattr(_ring, node.name)) == set(names_in(node.body)) - MAGIC, node.name


def test_every_function_of_the_stub_says_what_it_does():
    for node in ast.walk(TREE):
        if isinstance(node, ast.FunctionDef) and node.name not in MAGIC:
            assert ast.get_docstring(node), node.name


def test_constants_are_numbers():
    constants = [node.target.id for node in TREE.body if isinstance(node, ast.AnnAssign)]
    assert {int} == {type(getattr(_ring, name)) for name in constants}
