"""A program as a handler: what it is given, what it replies, and that nothing of it is left."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from terminals import until

from zbus.cli import program
from zbus.cli.program import OUTPUT_MAX_BYTES, Program, ProgramFailed

pytestmark = pytest.mark.real


class Asked:
    """A request as a handler sees it."""

    def __init__(self, time_s: float = 20.0) -> None:
        self.cancelled = False
        self._until = time.monotonic() + time_s

    @property
    def is_push(self) -> bool:
        return self._until == math.inf

    def remaining(self) -> float:
        return self._until if self.is_push else max(self._until - time.monotonic(), 0.0)


def replied(code: str, body: Any = None, asked: Asked | None = None) -> str | bytes:
    """What a Python program replies."""
    request: Any = asked or Asked()
    return Program([sys.executable, "-c", code])(body, request)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


ECHO = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        ("grüezi", "grüezi"),
        ("one\n", "one"),
        ("two\n\n", "two\n"),
        (b"\xff\x00", b"\xff\x00"),
        (None, ""),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        (7, "7"),
    ],
)
def test_the_body_is_its_input_and_its_output_the_reply(body: Any, reply: str | bytes) -> None:
    """Text and bytes as they are, anything else as JSON; the last line end is not the reply's."""
    assert replied(ECHO, body) == reply


def test_much_goes_both_ways_at_once() -> None:
    """More than pipes hold, which would be a deadlock if one way waited for the other."""
    body = "x" * 3_000_000
    assert replied(ECHO, body) == body


def test_a_program_that_does_not_read_its_input_is_fine() -> None:
    """It may end first, or close it."""
    assert replied("print('done')", "x" * 1_000_000) == "done"


def test_an_exit_code_is_an_error_with_its_last_words(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever asks reads the last line; the operator reads all of it."""
    with pytest.raises(ProgramFailed, match=r"ended with exit code 3: no such job$"):
        replied("import sys; print('first\\nno such job', file=sys.stderr); sys.exit(3)")
    assert capfd.readouterr().err == "first\nno such job\n"


def test_a_signal_is_an_error() -> None:
    """A program that crashes is not one that replies."""
    with pytest.raises(ProgramFailed, match="was killed by signal 11"):
        replied(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")


def test_a_program_that_is_not_there_is_an_error() -> None:
    """It names the program."""
    request: Any = Asked()
    with pytest.raises(ProgramFailed, match="cannot start no-such-program: No such file"):
        Program(["no-such-program"])(None, request)


def test_words_are_not_given_to_a_shell() -> None:
    """What a peer sends is never a command."""
    request: Any = Asked()
    assert Program(["echo", "$HOME; id"])("; id", request) == "$HOME; id"


CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open({path!r}, "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
{then}
"""


def test_when_its_time_is_up_the_whole_group_is_killed(tmp_path: Path) -> None:
    """The program and what it started: in time, and nothing is left."""
    path = tmp_path / "pids"
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match="took too long"):
        replied(CHILD.format(path=str(path), then="time.sleep(60)"), None, Asked(1.5))
    assert 1.4 < time.monotonic() - began < 10
    for pid in map(int, path.read_text().split()):
        until(lambda pid=pid: not is_running(pid), f"process {pid} is gone")  # type: ignore[misc]


def test_what_a_program_leaves_behind_is_killed(tmp_path: Path) -> None:
    """Its reply counts once it has exited, even where a child still holds its output."""
    path = tmp_path / "pids"
    began = time.monotonic()
    assert replied(CHILD.format(path=str(path), then="print('replied', flush=True)")) == "replied"
    assert time.monotonic() - began < 15
    child = int(path.read_text().split()[1])
    until(lambda: not is_running(child), "the child is gone")


def test_when_nobody_waits_any_more_it_is_killed(tmp_path: Path) -> None:
    """A caller that gives up is noticed while the program runs."""
    path = tmp_path / "pids"
    asked = Asked()

    def give_up() -> None:
        until(lambda: path.exists() and " " in path.read_text(), "the program runs")
        asked.cancelled = True

    giving_up = threading.Thread(target=give_up)
    giving_up.start()
    with pytest.raises(ProgramFailed, match="nobody waits"):
        replied(CHILD.format(path=str(path), then="time.sleep(60)"), None, asked)
    giving_up.join()
    for pid in map(int, path.read_text().split()):
        until(lambda pid=pid: not is_running(pid), f"process {pid} is gone")  # type: ignore[misc]


def test_a_push_has_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it, so it has no deadline of its own."""
    monkeypatch.setattr(program, "PUSH_MAX_S", 0.5)
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match="took too long"):
        replied("import time; time.sleep(60)", None, Asked(math.inf))
    assert time.monotonic() - began < 10


def test_output_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error before it fills the memory of this process."""
    monkeypatch.setattr(program, "OUTPUT_MAX_BYTES", 100_000)
    with pytest.raises(ProgramFailed, match="more than 100000 bytes"):
        replied("while True: print('x' * 1000)")
    assert OUTPUT_MAX_BYTES == 67_108_864


def test_no_descriptor_is_left() -> None:
    """However a run ends (P24)."""
    replied(ECHO, "x")
    before = len(os.listdir("/proc/self/fd"))
    for code in (ECHO, "raise SystemExit(3)"):
        try:
            replied(code, json.dumps("x"))
        except ProgramFailed:
            continue
    assert len(os.listdir("/proc/self/fd")) == before
