"""`zbus config` prints what is in force and who set it, and the commented file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from terminals import invoke

from zbus.broker import settings
from zbus.broker.sample import sample
from zbus.broker.settings import SETTINGS


@pytest.fixture(autouse=True)
def _no_machine_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The files of the machine that runs the tests change nothing."""
    defaults = settings.load.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "etc", tmp_path / "etc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text('[times]\nheartbeat = "500ms"\n')
    return path


def test_what_is_shown_is_a_configuration(path: Path, tmp_path: Path) -> None:
    """TOML with every setting, which is valid and gives the same again."""
    shown = invoke("config", "show", "--config", str(path)).stdout
    tables = tomllib.loads(shown)
    keys = {f"{section}.{name}" for section, table in tables.items() for name in table}
    assert keys == {setting.key for setting in SETTINGS}
    assert tables["times"]["heartbeat"] == "500ms"
    again = tmp_path / "again.toml"
    again.write_text(shown)
    assert invoke("config", "show", "--config", str(again)).stdout == shown


def test_the_origin_of_each_setting_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and line, variable, or default; and it is TOML still."""
    monkeypatch.setenv("ZBUS_TIMES_DRAIN", "3s")
    shown = invoke("config", "show", "--origin", "--config", str(path)).stdout
    lines = [line.partition(" # ") for line in shown.splitlines() if " # " in line]
    origins = {line.split()[0]: origin for line, _, origin in lines}
    assert origins["heartbeat"] == f"file {path}:2"
    assert origins["drain"] == "environment ZBUS_TIMES_DRAIN"
    assert origins["connect"] == "default"
    assert tomllib.loads(shown)["times"]["drain"] == "3s"


def test_json_has_value_and_origin(path: Path) -> None:
    """By dotted key; the value as TOML writes it."""
    said = json.loads(invoke("config", "show", "--json", "--config", str(path)).stdout)
    assert said["times.heartbeat"] == {"value": '"500ms"', "origin": f"file {path}:2"}
    assert said["log.level"] == {"value": '"info"', "origin": "default"}


def test_a_configuration_that_is_not_valid_exits_78(tmp_path: Path) -> None:
    """Nothing is shown of it but what is wrong."""
    path = tmp_path / "bad.toml"
    path.write_text("[times]\nheartbeat = 5\n")
    result = invoke("config", "show", "--config", str(path))
    assert (result.exit_code, result.stdout) == (78, "")
    assert "times.heartbeat = 5" in result.stderr
    assert "(ZB-506)" in result.stderr


def test_it_wants_to_know_what_to_show() -> None:
    """``zbus config`` alone prints its help."""
    result = invoke("config")
    assert result.exit_code == 2
    assert "show" in result.output


def test_the_sample_is_printed_as_it_is(tmp_path: Path) -> None:
    """Byte for byte, so that what is redirected to a file is a configuration that is valid."""
    shown = invoke("config", "sample").stdout
    assert sample() == shown
    path = tmp_path / "zbus.toml"
    path.write_text(shown)
    as_it_was = invoke("config", "show").stdout
    assert invoke("config", "show", "--config", str(path)).stdout == as_it_was


def test_the_sample_is_json_on_demand() -> None:
    """One text, as every command with ``--json`` prints one value a line."""
    shown = invoke("config", "sample", "--json").stdout
    assert len(shown.splitlines()) == 1
    assert json.loads(shown) == sample()
