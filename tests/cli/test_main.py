"""The program as a whole: help, failures in one line, exit codes, what is loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mpbroadcast.cli.main import run

from .conftest import PROGRAM, clean_environment, eventually, make_event

BAD = [
    (2, "get", "--types", "Normal,Fatal"),
    (2, "get", "--for", "pod"),
    (2, "get", "--for", "pod/"),
    (2, "get", "--for", "/web"),
    (2, "get", "--for", "a/b/c"),
    (2, "get", "--for", "po d/web"),
    (2, "get", "-n", "Upper_Case"),
    (2, "get", "-n", ""),
    (2, "get", "-o", "jsonpath={.items}"),
    (2, "get", "--chunk-size", "-1"),
    (2, "get", "--chunk-size", "many"),
    (2, "get", "--nonsense"),
    (2, "get", "surplus"),
    (2, "get", "--store", ""),
    (2, "get", "-w", "--sort-by", ".count"),
    (2, "get", "--store", "a", "--kubeconfig", "b"),
    (1, "get"),
    (1, "get", "--store", "/nowhere/at/all.db"),
    (1, "get", "--store", "/"),
    (1, "get", "--store", "/dev/null"),
    (1, "get", "--store", "/etc/hostname"),
    (1, "get", "--kubeconfig", "/nowhere/config"),
    (1, "get", "-w", "--store", "/nowhere/at/all.db"),
    (2, "record"),
    (2, "record", "pod/web"),
    (2, "record", "web", "--reason", "A", "--message", "b"),
    (2, "record", "pod/web", "--reason", "", "--message", "b"),
    (2, "record", "pod/web", "--reason", "A" * 129, "--message", "b"),
    (2, "record", "pod/web", "--reason", "A\x1b[31m", "--message", "b"),
    (2, "record", "pod/web", "--reason", "A", "--message", "b", "--type", "Fatal"),
    (2, "record", "pod/web", "--reason", "A", "--message", "b", "--type", "Normal,Warning"),
    (2, "record", "pod/web", "--reason", "A", "--message", "b", "--annotation", "novalue"),
    (2, "record", "pod/web", "--reason", "A", "--message", "b", "-n", "no/such"),
    (1, "record", "pod/web", "--reason", "A", "--message", "b", "--store", "/nowhere/at/all.db"),
    (1, "record", "pod/web", "--reason", "A", "--message", "b", "--store", "/etc/hostname"),
    (1, "record", "pod/web", "--reason", "A", "--message", "b", "--kubeconfig", "/nowhere/config"),
    (2, "demo", "--workers", "0"),
    (2, "demo", "--workers", "few"),
    (2, "demo", "--events", "0"),
    (1, "demo", "--store", "/nowhere/at/all.db"),
    (1, "demo", "--store", "/etc/hostname"),
    (1, "top", "--pid", "999999999"),
    (1, "top", "--name", "no broadcaster is called so"),
    (1, "top", "--pid", "1", "--name", "no broadcaster is called so"),
    (2, "top", "--interval", "0"),
    (2, "top", "--pid", "me"),
    (2, "stats", "--format", "xml"),
    (1, "stats", "--name", "no broadcaster is called so", "--format", "json"),
    (2, "rbac", "-n", "Not A Namespace"),
    (2, "nonsense"),
    (2, "--nonsense"),
]


def is_one_line(out, err):
    assert "" == out
    assert 1 == len(err.splitlines())
    assert err.startswith("mpbroadcast: ")
    assert "internal error" not in err
    assert "\x1b" not in err


@pytest.mark.parametrize(("code", "args"), [(code, args) for code, *args in BAD])
def test_what_cannot_be_done_is_said_in_one_line(tmp_path, monkeypatch, capfd, code, args):
    """In this process, for speed; the next test does some of them in one of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MPBROADCAST_STORE", raising=False)
    assert code == run(args)
    is_one_line(*capfd.readouterr())


@pytest.mark.parametrize(("code", "args"), [(code, args) for code, *args in BAD[::7]])
def test_a_process_that_cannot_do_it_exits_with_that_code(cli, code, args):
    done = cli(*args, code=code)
    is_one_line(done.stdout, done.stderr)


def test_help_names_every_command_in_80_columns(cli):
    text = cli("--help", COLUMNS="80").stdout
    for command in ("demo", "get", "record", "serve", "top", "stats", "rbac"):
        assert f" {command} " in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text == cli(COLUMNS="80").stdout


@pytest.mark.parametrize("command", ["demo", "get", "record", "serve", "top", "stats", "rbac"])
def test_every_command_has_help(cli, command):
    assert f"Usage: mpbroadcast {command}" in cli(command, "--help").stdout


def test_the_version_is_that_of_the_package(cli):
    name, version = cli("--version").stdout.split()
    assert "mpbroadcast" == name
    assert version[0].isdigit()


@pytest.mark.parametrize("missing", ["typer", "rich"])
@pytest.mark.parametrize("called", [["-m", "mpbroadcast"], ["-c", "from mpbroadcast.__main__ import main; main()"]])
def test_a_missing_extra_is_named_in_one_line(tmp_path, missing, called):
    """A library that is not there is played by one that says so, as the import system does."""
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('No module named {missing}', name='{missing}')")
    environment = clean_environment(PYTHONPATH=str(tmp_path))
    command = [sys.executable, *called, "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "" == done.stdout
    assert "mpbroadcast: the command line needs the extra 'cli': pip install 'mpbroadcast[cli]'\n" == done.stderr


def test_reading_a_store_loads_neither_the_official_client_nor_the_ring(cli, store):
    store.create(make_event())
    program = (
        "import sys; from mpbroadcast.cli.main import run; code = run(['get']); "
        "unwanted = ('kubernetes', 'aiohttp', 'psutil', 'mpbroadcast.ring._ring'); "
        "print([name for name in unwanted if name in sys.modules]); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cli.directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[]" == done.stdout.splitlines()[-1]


def test_ctrl_c_ends_a_watch_quietly(cli, store):
    store.create(make_event())
    with cli.started("get", "-w") as process:
        assert process.stdout.readline().startswith("LAST SEEN")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert 130 == process.returncode
    assert "" == err


def test_a_reader_of_the_pipe_that_goes_away_is_no_error(cli, store):
    store.begin()
    for number in range(5000):
        store.create(make_event(f"web-{number}"))
    store.commit()
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*PROGRAM, "get"], cwd=cli.directory, env=clean_environment(), stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert os.read(reader, 9).startswith(b"LAST SEEN")
    os.close(reader)
    _, err = process.communicate(timeout=30)
    assert 141 == process.returncode
    assert "" == err


def test_a_bug_is_one_line_too_and_shows_its_traceback_only_on_demand(cli):
    program = (
        "from mpbroadcast.cli import main\n"
        "import mpbroadcast.kube.rbac as module\n"
        "def broken(**_): raise ZeroDivisionError('sum\\x1b[31m')\n"
        "module.rbac_yaml = broken\n"
        "raise SystemExit(main.run(['rbac']))"
    )

    def outcome(**environment):
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env=clean_environment(**environment), capture_output=True, text=True, check=False
        )

    plain = outcome()
    assert 1 == plain.returncode
    assert 1 == len(plain.stderr.splitlines())
    assert "internal error, please report it: ZeroDivisionError: sum^[[31m" in plain.stderr
    assert "Traceback" in outcome(MPBROADCAST_DEBUG="1").stderr


def test_the_role_for_recording_is_yaml_that_kubectl_takes(cli):
    yaml = pytest.importorskip("yaml")
    role, binding = yaml.safe_load_all(cli("rbac", "-n", "shop", "--read").stdout)
    assert ("Role", "RoleBinding") == (role["kind"], binding["kind"])
    assert ["create", "patch", "get", "list", "watch"] == role["rules"][0]["verbs"]


def test_a_terminal_that_lacks_a_character_gets_an_escape(cli, store):
    store.create(make_event(message="caf\u00e9 \u4e16"))
    done = cli("get", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert r"caf\xe9 \u4e16" in done.stdout


def test_eventually_is_not_always_true():
    """The helper that other tests wait with does fail."""
    with pytest.raises(AssertionError):
        eventually(lambda: False, timeout=0.05)
