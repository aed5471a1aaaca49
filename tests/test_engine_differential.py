"""``zbus.engine``, ``zbus.nvflare`` and FLARE say the same, but for what the documents list.

The cases run in an interpreter that has nvflare 2.9.0: this one, or the one that the environment
variable ``ZBUS_NVFLARE_PYTHON`` names. The seed era is compared by record, and needs none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import engine_cases  # noqa: F401 - importing it registers cases and records, as the next do
import engine_ends  # noqa: F401
import engine_seed  # noqa: F401
import engine_sends  # noqa: F401
import pytest
from conftest import NVFLARE_PYTHON
from engine_registry import OURS, RECORDS

pytestmark = [pytest.mark.real, pytest.mark.slow]
TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PAGES = {"D": DOCS / "engine.md", "N": DOCS / "nvflare.md"}
ROW = re.compile(r"\| [DN](\d+) \|(?:[^|]+\|){3} ([^|]+) \|")
NEEDS = "needs nvflare==2.9.0, here or in the interpreter that ZBUS_NVFLARE_PYTHON names"


def rows(table: str) -> list[tuple[int, list[str]]]:
    """The number of each row of a table, and the cases that show it."""
    page = PAGES[table].read_text()
    lines = [line for line in page.splitlines() if re.match(rf"\| {table}\d", line)]
    found = [ROW.fullmatch(line) for line in lines]
    assert all(found), "a row of the tables cannot be read"
    return [(int(row[1]), re.findall(r"`([^`]+)`", row[2])) for row in found if row]


def listed(table: str) -> list[str]:
    """Every case in a table."""
    return [name for _, names in rows(table) for name in names]


def said_by(python: str, package: str, place: Path) -> dict[str, str]:
    command = [python, str(TESTS / "engine_compared.py"), package]
    environment = {"PYTHONPATH": str(TESTS.parent), "PATH": os.defpath, "HOME": "/nonexistent"}
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=place, check=False
    )
    assert ended.returncode == 0, ended.stderr
    said: dict[str, str] = json.loads(ended.stdout)
    return said


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return said_by(sys.executable, "zbus", tmp_path_factory.mktemp("zbus"))


def not_as_the_seed(ours: dict[str, str]) -> set[str]:
    return {name for name, record in RECORDS.items() if ours[name] != record.outcome}


def test_every_difference_is_in_the_tables_and_every_case_in_them_differs(
    ours: dict[str, str], tmp_path: Path
) -> None:
    """From the released package or from what is on record of the seed era; each stands once."""
    python = sys.executable if importlib.util.find_spec("nvflare") else NVFLARE_PYTHON
    if not python:
        pytest.skip(NEEDS)
    theirs = said_by(python, "nvflare", tmp_path)
    assert ours.keys() - theirs.keys() == OURS.keys()
    assert theirs.keys() <= ours.keys()
    different = {name for name in theirs if ours[name] != theirs[name]} | not_as_the_seed(ours)
    hidden = different - set(listed("D"))
    assert not hidden, {name: (ours[name], theirs.get(name), RECORDS.get(name)) for name in hidden}
    assert sorted(listed("D")) == sorted(different), "a case stands twice, or does not differ"


@pytest.mark.skipif(not importlib.util.find_spec("nvflare"), reason="needs the extra nvflare")
def test_engines_for_nvflare_differ_as_their_page_says(tmp_path: Path) -> None:
    """Those of ``zbus.nvflare`` from nvflare's own."""
    theirs = said_by(sys.executable, "nvflare", tmp_path)
    ours = said_by(sys.executable, "zbus.nvflare", tmp_path)
    different = {name for name in theirs if ours[name] != theirs[name]}
    hidden = different - set(listed("N"))
    assert not hidden, {name: (ours[name], theirs[name]) for name in hidden}
    assert sorted(listed("N")) == sorted(different), "a case stands twice, or does not differ"


def test_the_seed_era_is_judged_without_nvflare(ours: dict[str, str]) -> None:
    """Every difference from a record is in the tables; some records are what we say, too, so
    that they are written in a form in which they could all be."""
    different = not_as_the_seed(ours)
    assert different <= set(listed("D"))
    assert different < RECORDS.keys()
    assert OURS.keys() - different


@pytest.mark.parametrize("table", PAGES)
def test_rows_are_numbered_and_each_has_cases(table: str, ours: dict[str, str]) -> None:
    """Rows count from 1, and each names cases that there are."""
    numbers = [number for number, _ in rows(table)]
    assert numbers == list(range(1, len(numbers) + 1))
    for number, names in rows(table):
        assert names, f"no case shows {table}{number}"
        assert set(names) <= ours.keys(), f"{table}{number} names a case that is none"


def test_every_record_is_of_a_case_and_says_where_it_is_from(ours: dict[str, str]) -> None:
    """And whatever runs with zbus alone has one."""
    assert OURS.keys() <= RECORDS.keys() <= ours.keys()
    for name, record in RECORDS.items():
        assert re.match(r"\d+(\.\d+)?", record.section), name
