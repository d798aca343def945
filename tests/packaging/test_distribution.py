"""The wheel and the source distribution: built from the files as they are, and looked into."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEFT_OUT: Final = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "_build", "bench")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=170, **options
    )
    assert 0 == done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source distribution from a copy of the tree, and from that, not from the tree, a wheel."""
    for needed in ("build", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    if int(run(sys.executable, "-c", "import setuptools; print(setuptools.__version__)").split(".")[0]) < 77:
        pytest.skip("setuptools is older than 77")
    if not (ROOT / "MANIFEST.in").is_file():
        pytest.skip("this is no source tree")
    tree = tmp_path_factory.mktemp("built") / "tree"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    run(sys.executable, "-m", "build", "--no-isolation", tree)
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    (wheel,) = (tree / "dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def files(built):
    """What is in the source distribution, without its folder, and in the wheel."""
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        return inside, set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(built):
    with zipfile.ZipFile(built[1]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def source_files(folder, *patterns):
    return {
        str(path.relative_to(ROOT))
        for pattern in patterns
        for path in (ROOT / folder).rglob(pattern)
        if not {"__pycache__", "_build"} & set(path.parts)
    }


def test_one_wheel_serves_every_python_from_3_11(built):
    """The limited API: the tag says so, and so does the extension's name."""
    assert re.fullmatch(r"mpbroadcast-[\d.]+-cp311-abi3-linux_\w+\.whl", built[1].name)


def test_the_wheel_has_the_package_and_nothing_else(files):
    _, wheel = files
    package = {name for name in wheel if ".dist-info/" not in name}
    wanted = source_files("mpbroadcast", "*.py", "*.pyi", "*.sql", "py.typed") | {"mpbroadcast/ring/_ring.abi3.so"}
    assert wanted == package


def test_the_source_distribution_has_all_that_its_tests_need(files):
    sdist, _ = files
    wanted = source_files("mpbroadcast", "*.py", "*.pyi", "*.sql", "*.c", "*.h", "py.typed")
    wanted |= source_files("tests", "*.py", "*.toml", "*.yaml", "*.c", "*.h") | source_files("docs", "*.md", "*.yaml")
    wanted |= {"LICENSE", "README.md", "Makefile", "pyproject.toml"}
    assert set() == wanted - sdist
    assert not [name for name in sdist if name.endswith((".pyc", ".so", ".db"))]


def test_the_metadata_name_the_licence_the_readme_and_every_extra(metadata, files):
    assert ("Apache-2.0", ["LICENSE"]) == (metadata["License-Expression"], metadata.get_all("License-File"))
    assert "mpbroadcast-0" in next(name for name in files[1] if name.endswith("/licenses/LICENSE"))
    assert set(PROJECT["optional-dependencies"]) == set(metadata.get_all("Provides-Extra"))
    assert "text/markdown" == metadata["Description-Content-Type"]
    assert PROJECT["requires-python"] == metadata["Requires-Python"]
    assert len(metadata.get_payload()) > 2000


def test_the_extra_all_has_every_other_one():
    extras = dict(PROJECT["optional-dependencies"])
    (everything,) = extras.pop("all")
    assert set(extras) == set(re.search(r"\[(.*)\]", everything)[1].split(","))


def test_a_registry_would_take_both(built):
    if importlib.util.find_spec("twine") is None:
        pytest.skip("twine is not installed")
    run(sys.executable, "-m", "twine", "check", "--strict", *built)


def test_the_extension_uses_nothing_but_the_limited_api_and_gives_one_name(built, tmp_path):
    """What a later Python need not have would fail there when it is loaded; what is visible could meet another one."""
    if shutil.which("nm") is None:
        pytest.skip("no nm here")
    with zipfile.ZipFile(built[1]) as archive:
        extension = archive.extract("mpbroadcast/ring/_ring.abi3.so", tmp_path)
    names = [line.split() for line in run("nm", "-D", extension).splitlines()]
    used = {name[-1] for name in names if name[0] == "U" and re.match(r"_?Py", name[-1])}
    assert used
    private = {name for name in used if name.startswith("_Py") and not name.endswith("_SizeT")}
    assert set() == private - {"_Py_NoneStruct", "_Py_TrueStruct", "_Py_FalseStruct", "_Py_Dealloc"}
    assert {"PyInit__ring"} == {name[-1] for name in names if len(name) == 3 and name[1] in "TDBR"}
