"""The commented file of settings: zbus/broker/sample.py. test_deploy.py compares the file."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zbus.broker.sample import sample
from zbus.broker.settings import SETTINGS, Settings, load

SETTING_LINE = re.compile(r"^#(\w+ = )", re.MULTILINE)


def test_it_changes_nothing_as_it_comes() -> None:
    """It holds empty sections and comments."""
    tables = tomllib.loads(sample())
    assert [name for name, table in tables.items() if table] == []
    assert list(tables) == list(dict.fromkeys(s.key.partition(".")[0] for s in SETTINGS))


def test_uncommented_it_is_the_defaults(tmp_path: Path) -> None:
    """Every setting stands there, once, with its default; nothing else does."""
    (tmp_path / "zbus.toml").write_text(SETTING_LINE.sub(r"\1", sample()))
    found = load(environ={}, uid=0, etc=tmp_path)
    assert Settings() == found.settings
    assert "default" not in found.origins.values()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_explained(setting: object) -> None:
    """Reason, form, variable and flag stand above it."""
    assert isinstance(setting, type(SETTINGS[0]))
    flat = " ".join(sample().replace("\n# ", " ").split())
    for part in (setting.text, setting.form.expected, f"{setting.variable}, {setting.flag}"):
        assert " ".join(part.split()) in flat


def test_it_is_a_command() -> None:
    """``python -m zbus.broker.sample`` prints it."""
    shown = subprocess.run(
        [sys.executable, "-m", "zbus.broker.sample"], capture_output=True, text=True, check=True
    )
    assert sample() == shown.stdout
