"""Options that all commands share: times, help, how long to try, one object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.sections import TimesSection
from zbus.cli import options
from zbus.cli.options import (
    CommandOptions,
    ExampleFirst,
    PeerOptions,
    command_options,
    connect_time,
    gathered,
    peer_options,
    seconds,
)
from zbus.errors import ConfigError
from zbus.peer.channel import CONNECT_S


def unset(connect_s: float | None = None) -> PeerOptions:
    return PeerOptions(as_json=False, debug=False, endpoint=None, connect_s=connect_s)


@pytest.mark.parametrize(
    ("text", "time_s"),
    [("5", 5.0), ("0.25", 0.25), ("250ms", 0.25), ("2min", 120.0), ("1e-3", 0.001)],
)
def test_a_time_is_seconds_or_has_its_unit(text: str, time_s: float) -> None:
    """A number is seconds, as in the Python API; with a unit it is what settings take."""
    assert seconds(text) == time_s


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "5 apples", "", "ms", "1_0 s"])
def test_what_is_no_time_above_zero_is_wrong_usage(text: str) -> None:
    """The message quotes it."""
    with pytest.raises(click.BadParameter, match="is no time"):
        seconds(text)


@given(st.floats(min_value=0.001, max_value=1e6))
def test_any_number_of_seconds_is_read_back(time_s: float) -> None:
    """What Python writes is read as the same time."""
    assert seconds(repr(time_s)) == time_s


def test_the_default_time_to_connect_is_that_of_the_settings_and_of_the_api() -> None:
    """One number, wherever it is asked for."""
    assert options.CONNECT_S == TimesSection().connect_s == CONNECT_S


def test_how_long_to_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The flag wins over the environment, and that over the default."""
    monkeypatch.setattr(options, "_ETC", tmp_path / "none")
    assert connect_time(unset()) == CONNECT_S
    monkeypatch.setenv("ZBUS_TIMES_CONNECT", "250ms")
    assert connect_time(unset()) == 0.25
    assert connect_time(unset(1.5)) == 1.5
    monkeypatch.setenv("ZBUS_TIMES_CONNECT", "soon")
    with pytest.raises(ConfigError, match="ZBUS_TIMES_CONNECT"):
        connect_time(unset())


def test_help_opens_with_the_example() -> None:
    """Then comes what click says."""

    @click.command("x", cls=ExampleFirst, example=("zbus x 1", "zbus x 2"))
    def command() -> None:
        """Do x."""

    lines = CliRunner().invoke(command, ["--help"]).output.splitlines()
    assert lines[:4] == ["  zbus x 1", "  zbus x 2", "", "Usage: x [OPTIONS]"]


def test_options_come_as_one_object() -> None:
    """Those of every command, those of every peer, and the command's own."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Own(PeerOptions):
        topic: str

    seen: list[Own] = []

    @click.command()
    @click.argument("topic")
    @peer_options("ZBUS_ENDPOINT")
    @gathered(Own)
    def command(own: Own) -> None:
        """Take them."""
        seen.append(own)

    runner = CliRunner()
    words = ["a", "--endpoint", "ipc:///x", "--connect", "2", "--json", "--debug", "--key", "k"]
    words += ["--server-key", "s", "--server-key", "t"]
    assert runner.invoke(command, words).exit_code == 0
    assert runner.invoke(command, ["b"], env={"ZBUS_ENDPOINT": "ipc:///y"}).exit_code == 0
    assert seen == [
        Own(
            topic="a",
            endpoint="ipc:///x",
            connect_s=2.0,
            as_json=True,
            debug=True,
            key=Path("k"),
            server_key=(Path("s"), Path("t")),
        ),
        Own(topic="b", endpoint="ipc:///y", connect_s=None, as_json=False, debug=False),
    ]


def test_a_command_without_a_peer_takes_less() -> None:
    """``--json`` and ``--debug``, and no endpoint."""
    seen: list[CommandOptions] = []

    @click.command()
    @command_options
    @gathered(CommandOptions)
    def command(own: CommandOptions) -> None:
        """Take them."""
        seen.append(own)

    assert CliRunner().invoke(command, ["--json"]).exit_code == 0
    assert CliRunner().invoke(command, ["--endpoint", "x"]).exit_code == 2
    assert seen == [CommandOptions(as_json=True, debug=False)]
