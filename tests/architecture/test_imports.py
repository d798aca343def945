"""What importing the package loads, and what it does not."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import mpbroadcast

PACKAGE: Final = Path(mpbroadcast.__file__).parent
HEAVY: Final = (
    "aiohttp", "asyncio", "kubernetes", "multiprocessing", "nats", "orjson", "prometheus_client", "psutil", "pytest",
    "rich", "sqlite3", "ssl", "starlette", "typer", "uvicorn",
)  # fmt: skip
RECORDING: Final = ("aiohttp", "kubernetes", "nats", "prometheus_client", "psutil", "rich", "sqlite3", "ssl", "typer")
"""What a program that records has no use for."""


def loaded_by(code):
    """The top-level packages that a fresh interpreter has loaded after running some code."""
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_importing_the_package_loads_nothing_heavy():
    """The names are there; what they need is imported when they are used."""
    assert set() == (loaded_by("import mpbroadcast") - loaded_by("")) & set(HEAVY)


def test_importing_the_package_loads_none_of_its_own_modules():
    code = "import mpbroadcast, sys; assert not [name for name in sys.modules if name.startswith('mpbroadcast.')]"
    loaded_by(code)


def test_a_program_that_records_loads_no_library_of_a_sink_or_of_the_command_line():
    code = "from mpbroadcast import EventBroadcaster, EventRecorder, ObjectReference, klog"
    assert set() == loaded_by(code) & set(RECORDING)


def test_making_sinks_loads_no_library_of_a_cluster():
    """The official client is imported in the process that posts."""
    code = "from mpbroadcast.sinks import KubernetesSink; KubernetesSink()"
    assert set() == loaded_by(code) & {"aiohttp", "kubernetes", "sqlite3"}


def test_the_pytest_plugin_loads_no_library_of_a_sink_and_no_shared_memory():
    """Every run of pytest loads it, also in projects that do not use it."""
    loaded = loaded_by("import mpbroadcast.testing.plugin, sys; assert 'mpbroadcast.ring' not in sys.modules")
    assert set() == loaded & set(RECORDING)


@pytest.mark.parametrize(
    "code",
    [
        "from mpbroadcast import EventBroadcaster",
        "from mpbroadcast.sinks import JSONLinesSink, KubernetesSink, SQLiteSink",
        "from mpbroadcast.correlator import EventCorrelator",
        "from mpbroadcast.workqueue import RateLimitingQueue",
        "import mpbroadcast.testing",
    ],
)
def test_no_module_starts_anything_when_it_is_imported(code):
    """No thread and no child process."""
    loaded_by(
        f"{code}\n"
        "import os, pathlib\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
        "assert not pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text()\n"
    )


def test_nobody_inside_takes_a_name_from_the_root():
    """That habit alone makes circles of imports; tests and programs outside do it."""
    guilty = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "mpbroadcast" and path != PACKAGE / "__init__.py":
                modules = {p.stem for p in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
                guilty += [f"{path.name}: {alias.name}" for alias in node.names if alias.name not in modules]
    assert guilty == []


@pytest.mark.parametrize(
    ("what", "home"),
    [
        ("os.fork", {"helper.py"}),
        ("sqlite3", {"store"}),
        ("psutil", {"stats.py"}),
        ("prometheus_client", {"metrics.py"}),
    ],
)
def test_each_foreign_library_has_one_home(what, home):
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [ast.unparse(node)] if isinstance(node, ast.Attribute)
                else []
            )  # fmt: skip
            if what in imported:
                found.add(path.relative_to(PACKAGE).parts[0])
    assert home == found
