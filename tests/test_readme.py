"""The README can be trusted: its sessions are played as written, its Python names exist."""

from __future__ import annotations

import os
import re
import time
from importlib import import_module
from pathlib import Path

import pytest

import readme
import zbus
from readme import Step, matches, play, sessions

TEXT = readme.README.read_text("utf-8")


def test_sessions_are_read_as_they_are_written() -> None:
    """A ``console`` block is a session; other blocks are not; output may have many lines."""
    text = "```sh\n$ no\n```\n```console\n$ a &\n$ b\n1\n\n2\n```\nprose\n```console\n$ c\n```\n"
    assert sessions(text) == [
        [Step("a &", ()), Step("b", ("1", "", "2"))],
        [Step("c", ())],
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ((), "", True),
        (("hi",), "hi\n", True),
        (("hi",), "hi \n", True),
        (("hi…",), "hi there\n", True),
        (("hi",), "hi there\n", False),
        (("hi",), "hi\nhi\n", False),
        (("hi",), "", False),
        ((), "surprise\n", False),
    ],
)
def test_output_is_compared_line_by_line(
    expected: tuple[str, ...], printed: str, same: bool
) -> None:
    """Nothing may be missing, other or surplus; only an ellipsis leaves the rest of a line open."""
    assert matches(expected, printed) is same


@pytest.mark.real
def test_a_session_waits_for_what_runs_beside_it_and_ends_it(tmp_path: Path) -> None:
    """A command is tried until it prints what is written; what runs beside ends with the block."""
    steps = [
        Step(f"bash -c 'echo $$ >{tmp_path}/pid; exec sleep 60' &", ()),
        Step(f"test -s {tmp_path}/pid && echo there", ("there",)),
    ]
    assert play(steps, dict(os.environ), tmp_path) is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.real
def test_a_session_that_goes_otherwise_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the README wants, what was printed and what runs beside said are all in the report."""
    monkeypatch.setattr(readme, "PATIENCE_S", 0.5)
    monkeypatch.setattr(readme, "COMMAND_S", 0.5)
    began = time.monotonic()
    steps = [Step("echo beside; sleep 60 &", ()), Step("echo other", ("this",))]
    wrong = play([steps[0], steps[1]], dict(os.environ), tmp_path)
    assert wrong is not None
    assert "$ echo other\n-- wanted\nthis\n-- printed\nother\n" in wrong
    assert play([Step("sleep 60", ("done",))], dict(os.environ), tmp_path) is not None
    assert time.monotonic() - began < 30


def test_the_readme_shows_the_two_commands_and_a_session() -> None:
    """A newcomer finds ``tools/demo`` and ``tools/check``, and a session that is checked."""
    assert "\ntools/demo " in TEXT
    assert "\ntools/check " in TEXT
    commands = [step.command for steps in sessions(TEXT) for step in steps]
    assert any(command.startswith("zbus req ") for command in commands)


def test_the_python_of_the_readme_is_ours() -> None:
    """Every Python block compiles, and each ``zbus.name`` in one is a public name, as is each that
    it imports from a package of ours."""
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        for name in re.findall(r"(?<!from )\bzbus\.(\w+)", block):
            assert name in zbus.__all__
        for package, names in re.findall(r"^from (zbus\.\w+) import (.+)$", block, re.MULTILINE):
            assert set(names.split(", ")) <= set(import_module(package).__all__)


def test_the_links_of_the_readme_lead_somewhere() -> None:
    """Each relative link is a file of the checkout."""
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    for link in links:
        assert (readme.README.parent / link).exists(), link
