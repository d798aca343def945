"""How the documentation is built: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""  # noqa: INP001 - sphinx runs it

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "mpbroadcast"
author = "The mpbroadcast developers"
copyright = "2026, The mpbroadcast developers"  # noqa: A001 - the name that sphinx wants
release = version = version_of("mpbroadcast")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_help",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mpbroadcast {release}"
html_copy_source = False

default_role = "py:obj"  # a name in single backticks is a link where there is something to link to
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_ivar = True  # attributes are told in the class's own text
myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "colon_fence"]


def _skip(_app: Any, _what: str, _name: str, obj: Any, skip: bool, _options: Any) -> bool | None:
    """Leave out what a named tuple says of its fields: the class's text says more."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else skip or None


def setup(app: Any) -> None:
    """Called by sphinx."""
    app.connect("autodoc-skip-member", _skip)
