"""Runs the README's commands as they are written, and compares what they print.

Rules of this room:

* A ``console`` block is a session: a line that starts with ``$`` is a command, the lines below
  it are what it prints. A command that ends with ``&`` runs beside the next ones until the block
  ends. ``…`` at the end of a line stands for the rest of it.
* A command is tried again until it prints what the README says, or ``PATIENCE_S`` is over: a
  reader takes a moment to open the next terminal, too.
* Blocks of other languages are not run. The session gets a runtime directory of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
PATIENCE_S = 20.0
COMMAND_S = 15.0


@dataclass(frozen=True, slots=True)
class Step:
    """One command and what it prints."""

    command: str
    expected: tuple[str, ...]

    @property
    def beside(self) -> str | None:
        """The command without its ``&``, if it runs beside the others."""
        return self.command[:-1].rstrip() if self.command.endswith("&") else None


def sessions(text: str) -> list[list[Step]]:
    """The steps of each ``console`` block of a Markdown text."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [list(_steps(block)) for block in blocks]


def _steps(block: str) -> Iterator[Step]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip("\n").split("\n")
        yield Step(command, tuple(expected))


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Whether that is what the README says, line by line."""
    lines = [line.rstrip() for line in printed.splitlines()]
    if len(lines) != len(expected):
        return False
    return all(
        line.startswith(wanted[:-1]) if wanted.endswith("…") else line == wanted.rstrip()
        for wanted, line in zip(expected, lines, strict=True)
    )


def play(steps: list[Step], environment: dict[str, str], folder: Path) -> str | None:
    """Run one session; what went wrong, or None."""
    with ExitStack() as beside:
        for number, step in enumerate(steps):
            if step.beside is not None:
                log = folder / f"beside-{number}.log"
                beside.enter_context(_running(step.beside, environment, log))
                continue
            printed = _until_it_matches(step, environment)
            if not matches(step.expected, printed):
                wanted = "\n".join(step.expected)
                logs = "".join(path.read_text() for path in sorted(folder.glob("*.log")))
                return f"$ {step.command}\n-- wanted\n{wanted}\n-- printed\n{printed}\n{logs}"
    return None


def _until_it_matches(step: Step, environment: dict[str, str]) -> str:
    ends = time.monotonic() + PATIENCE_S
    while True:
        printed = _printed(step.command, environment)
        if matches(step.expected, printed) or time.monotonic() > ends:
            return printed
        time.sleep(0.2)


def _printed(command: str, environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"(nothing within {COMMAND_S:g} s)"
    return done.stdout


@contextmanager
def _running(command: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        child = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            os.killpg(child.pid, number)
        try:
            child.wait(COMMAND_S)
        except subprocess.TimeoutExpired:
            continue
        return


def main() -> int:
    """Play every session of the README; 1 if one went otherwise than it says."""
    played = sessions(README.read_text("utf-8"))
    if not played:
        print("the README has no console block to play")
        return 1
    for steps in played:
        with tempfile.TemporaryDirectory(prefix="zbus-") as folder:
            environment = {
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "ZBUS_RUNTIME_DIR": folder,
                "NO_COLOR": "1",
            }
            if wrong := play(steps, environment, Path(folder)):
                print(wrong)
                return 1
    print(f"readme: {sum(len(steps) for steps in played)} commands went as written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
