"""``zbus.engine`` and nvflare 2.9.0 say the same, but for what ``docs/engine.md`` lists.

The cases run in an interpreter that has nvflare: this one, or the one that the environment
variable ``ZBUS_NVFLARE_PYTHON`` names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NVFLARE_PYTHON

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "engine.md"
ROW = re.compile(r"\| D(\d+) \|(?:[^|]+\|){3} ([^|]+) \|")
SECTION = re.compile(r"### Types and builder\n(.*?)(?=\n##|\Z)", re.DOTALL)
NEEDS = "needs nvflare==2.9.0, here or in the interpreter that ZBUS_NVFLARE_PYTHON names"


def rows() -> list[tuple[int, list[str]]]:
    """The number of each row of the page, and what shows it."""
    section = SECTION.search(PAGE.read_text())
    assert section is not None
    found = [ROW.match(line) for line in section[1].splitlines() if line.startswith("| D")]
    assert all(found), "a row of the table cannot be read"
    return [(int(row[1]), re.findall(r"`([^`]+)`", row[2])) for row in found if row]


def said_by(python: str, package: str) -> dict[str, str]:
    command = [python, str(TESTS / "engine_cases.py"), package]
    environment = {"PYTHONPATH": str(TESTS.parent), "PATH": os.defpath, "HOME": "/nonexistent"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    said: dict[str, str] = json.loads(ended.stdout)
    return said


@pytest.mark.real
@pytest.mark.slow
def test_every_difference_is_in_the_table_and_every_row_differs() -> None:
    """A case that differs is on the page, and a case on the page differs."""
    python = sys.executable if importlib.util.find_spec("nvflare") else NVFLARE_PYTHON
    if not python:
        pytest.skip(NEEDS)
    ours, theirs = said_by(sys.executable, "zbus"), said_by(python, "nvflare")
    assert ours.keys() == theirs.keys()
    different = {name for name in ours if ours[name] != theirs[name]}
    assert different == {name for _, names in rows() for name in names if name in ours}


def test_rows_are_numbered_and_each_is_shown() -> None:
    """Rows count from 1, and each names cases that exist, or a test file that does."""
    ours = said_by(sys.executable, "zbus")
    numbers = [number for number, _ in rows()]
    assert numbers == list(range(1, len(numbers) + 1))
    for number, names in rows():
        assert names, f"D{number} says not what shows it"
        for name in names:
            assert name in ours or (TESTS / name).is_file(), f"D{number}: {name}"
