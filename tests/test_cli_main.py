"""The door of the command line: lazy commands, help, versions, and how everything ends."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from terminals import ROOT, invoke, terminals

from zbus.cli import main
from zbus.cli.main import COMMANDS, Room, versions


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``zbus explain`` raise this."""

    def fail() -> None:
        raise error

    command = click.Command("explain", callback=fail)
    monkeypatch.setattr(main.Root, "get_command", lambda self, ctx, name: command)


def test_help_shows_an_example_first_and_every_command() -> None:
    """The first line is something to type; each command stands in the list with its summary."""
    result = invoke("--help")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].strip().startswith("zbus ")
    for name, room in COMMANDS.items():
        assert f"  {name} " in result.stdout
        assert room.summary.split()[0] in result.stdout


def test_without_a_command_there_is_help_and_exit_code_2() -> None:
    """Nothing was asked for, so what can be asked for is shown."""
    result = invoke()
    assert result.exit_code == 2
    assert "Commands:" in result.output


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_each_command_has_help_with_an_example_and_json(name: str) -> None:
    """Every command has ``--json`` (a group's commands have it), and shows how it is used."""
    words = (name, "show") if name in {"config", "poison"} else (name,)
    result = invoke(*words, "--help")
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[0].strip()
    assert first.startswith(("zbus ", "tail "))
    assert name in first
    assert "--json" in result.stdout


def test_help_imports_no_command_and_no_socket() -> None:
    """``zbus --help`` loads what it needs and nothing else; so does each command (W10)."""
    script = (
        "import sys; from zbus.cli.main import root\n"
        "try: root.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "zbus.cli.main" in loaded
    assert not loaded & {room.module for room in COMMANDS.values()}
    assert not loaded & {"zmq", "msgspec", "rich", "asyncio"}


def test_an_unknown_command_names_the_nearest() -> None:
    """A slip of the finger is answered with what was meant."""
    result = invoke("explan")
    assert result.exit_code == 2
    assert result.stderr.startswith("zbus: There is no command 'explan'. Did you mean 'explain'?")
    assert "Did you mean" not in invoke("xyzzy").stderr


def test_an_unknown_option_is_wrong_usage() -> None:
    """Exit code 2, and where to read on; also for an option of the whole."""
    assert invoke("explain", "--nope").exit_code == 2
    assert "See zbus explain --help." in invoke("explain", "--nope").stderr
    assert invoke("--nope").exit_code == 2
    assert "See zbus --help." in invoke("--nope").stderr


def test_version_names_what_zbus_stands_on() -> None:
    """A report of a bug needs all four."""
    result = invoke("--version")
    assert result.exit_code == 0
    assert [part.split()[0] for part in result.stdout.split(", ")] == list(versions())
    assert list(versions()) == ["zbus", "pyzmq", "libzmq", "msgpack"]


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """130, and not a word."""
    raising(KeyboardInterrupt(), monkeypatch)
    result = invoke("explain")
    assert (result.exit_code, result.output) == (130, "")


def test_abort_ends_like_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """click raises it where a prompt is left."""
    raising(click.Abort(), monkeypatch)
    assert invoke("explain").exit_code == 130


def test_what_nobody_foresaw_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """70 and the code of an internal error; the traceback with ``--debug`` only."""
    monkeypatch.setattr("zbus.cli.explain.find_error", lambda text: {}[text])
    result = invoke("explain", "301")
    assert result.exit_code == 70
    assert "KeyError" in result.stderr
    assert "(ZB-901)" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in invoke("explain", "301", "--debug").stderr


def test_a_result_of_a_command_is_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands return it; what is no number is 0."""
    for returned, code in ((3, 3), (None, 0), ("text", 0)):
        command = click.Command("explain", callback=lambda returned=returned: returned)
        monkeypatch.setattr(main.Root, "get_command", lambda self, ctx, name, c=command: c)
        assert invoke("explain").exit_code == code


def test_completion_names_commands_without_importing_them() -> None:
    """What begins with the letters typed so far, with its summary."""
    context = click.Context(main.root, info_name="zbus")
    items = main.root.shell_complete(context, "p")
    assert [(item.value, item.help) for item in items] == [
        ("push", COMMANDS["push"].summary),
        ("ping", COMMANDS["ping"].summary),
        ("poison", COMMANDS["poison"].summary),
    ]


def test_every_command_has_its_room() -> None:
    """The table names rooms that exist, each called like its command."""
    for name, room in COMMANDS.items():
        assert isinstance(room, Room)
        assert room.module == f"zbus.cli.{name}"
        if name != "demo":
            assert (ROOT / f"zbus/cli/{name}.py").exists()


@pytest.mark.real
def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    """``zbus explain | head -1``: no traceback, and an exit code like that of SIGPIPE."""
    script = f"set -o pipefail; {sys.executable} -m zbus explain | head -c 1"
    with terminals() as here:
        done = subprocess.run(
            ["bash", "-c", script],
            env=here.environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert done.stderr == b""
    assert done.returncode in (0, 141)


def test_a_broken_pipe_inside_a_command_is_141() -> None:
    """However early it is noticed."""
    script = (
        "def broken(text): raise BrokenPipeError(32, 'gone')\n"
        "import zbus.cli.explain as room; room.print_text = broken\n"
        "from zbus.cli.main import root; root.main(['explain', '301'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.real
def test_completion_works_as_the_help_says() -> None:
    """The line of the help, in bash: a script that completes ``zbus``."""
    with terminals() as here:
        here.environment["_ZBUS_COMPLETE"] = "bash_source"
        done = here.zbus()
        assert b"_ZBUS_COMPLETE=bash_complete" in done.stdout
        here.environment |= {
            "_ZBUS_COMPLETE": "bash_complete",
            "COMP_WORDS": "zbus li",
            "COMP_CWORD": "1",
        }
        assert here.zbus().stdout.split() == [b"plain,listen"]
