"""`zbus check` judges a configuration whole, and says what would be bound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminals import invoke

from zbus.broker import settings
from zbus.cli.check import problems_of
from zbus.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_machine_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The files of the machine that runs the tests change nothing."""
    defaults = settings.load.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "etc", tmp_path / "etc")
    monkeypatch.setenv("ZBUS_RUNTIME_DIR", "/run/zbus-test")


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "zbus.toml"
    path.write_text(text)
    return str(path)


def test_a_valid_configuration_says_what_would_be_bound(tmp_path: Path) -> None:
    """From the file, the environment and the defaults together."""
    path = written(tmp_path, '[listen]\npipe = "ipc:///run/other/pipe"\n')
    result = invoke("check", path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "the configuration is valid; a broker would bind",
        "  frontend  ipc:///run/zbus-test/frontend",
        "  backend   ipc:///run/zbus-test/backend",
        "  pipe      ipc:///run/other/pipe",
        "and lock /run/zbus-test",
    ]
    said = json.loads(invoke("check", path, "--json").stdout)
    assert said["valid"] is True
    assert said["problems"] == []
    assert said["pipe"] == ["ipc:///run/other/pipe"]
    assert invoke("check").exit_code == 0


def test_every_problem_is_listed_and_exit_code_78(tmp_path: Path) -> None:
    """One a line, with file, line and what would have fitted; nothing beside them."""
    path = written(tmp_path, '[times]\nheartbeet = "1s"\ndrain = 5\n\n[limits]\npeers = 0\n')
    result = invoke("check", path)
    assert result.exit_code == 78
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert f"{path}:2" in lines[0]
    assert '"times.heartbeat"' in lines[0]
    assert "times.drain = 5" in lines[1]
    assert "limits.peers = 0" in lines[2]
    said = json.loads(invoke("check", path, "--json").stdout)
    assert (said["valid"], said["problems"]) == (False, lines)


def test_one_problem_is_one_line(tmp_path: Path) -> None:
    """Also a file that is not there, and one that is no TOML."""
    for path in (str(tmp_path / "none.toml"), written(tmp_path, "[times\n")):
        result = invoke("check", path)
        assert result.exit_code == 78
        assert len(result.stdout.splitlines()) == 1
        assert path in result.stdout


def test_problems_are_those_of_the_error() -> None:
    """However many it tells of."""
    assert problems_of(ConfigError("a: b")) == ["a: b"]
    story = "2 problems:\n  a: b\n  c: d\nthe configuration is refused"
    assert problems_of(ConfigError(story)) == ["a: b", "c: d"]
