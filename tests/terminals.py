"""Terminals for the tests of the command line: `zbus` commands as real processes.

Rules of this room:

* A process that was started here has ended when its ``with`` block has, and its group with it.
* Nothing sleeps to wait: ``Beside.line`` waits for a line, ``until`` for a condition, each with
  a bound after which the test fails and shows what was printed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from click.testing import CliRunner, Result

from zbus.cli.main import root

ROOT = Path(__file__).resolve().parent.parent
BOUND_S = 30.0


class Terminals:
    """Commands that share a runtime directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment = {
            **{name: text for name, text in os.environ.items() if not _is_ours(name)},
            "PYTHONPATH": str(ROOT),
            "ZBUS_RUNTIME_DIR": str(place),
        }

    def zbus(
        self, *words: str, text: str | bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "zbus", *words],
            input=text.encode() if isinstance(text, str) else text,
            env=self.environment,
            cwd=cwd or self.place,
            capture_output=True,
            timeout=BOUND_S,
            check=False,
        )

    def beside(self, *words: str, cwd: Path | None = None) -> AbstractContextManager[Beside]:
        """Run a command beside the test, until the block ends or it does."""
        return self._beside(["-m", "zbus", *words], cwd)

    def python(self, script: str, *words: str) -> AbstractContextManager[Beside]:
        """Run a Python program beside the test."""
        return self._beside(["-c", script, *words], None)

    @contextmanager
    def _beside(self, words: list[str], cwd: Path | None) -> Iterator[Beside]:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment,
                cwd=cwd or self.place,
                start_new_session=True,
            )
            try:
                yield Beside(process, errors)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(BOUND_S)
                assert process.stdout is not None
                process.stdout.close()

    def here(self, *words: str, text: str | bytes | None = None) -> Result:
        """Run a command in this process, which is quicker."""
        return invoke(*words, text=text, environment={"ZBUS_RUNTIME_DIR": str(self.place)})


class Beside:
    """A command that runs beside the test."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors
        self._read = b""

    @property
    def errors(self) -> str:
        """What it has written to standard error until now."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode("utf-8", "replace")

    def line(self) -> str:
        """The next line of its standard output."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + BOUND_S
        with contextlib.closing(selectors.DefaultSelector()) as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                ready = selector.select(max(deadline - time.monotonic(), 0.0))
                chunk = os.read(self.process.stdout.fileno(), 65_536) if ready else b""
                assert chunk, f"no further line; standard error:\n{self.errors}"
                self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(BOUND_S)


def _is_ours(variable: str) -> bool:
    """What changes how zbus behaves; unbuffered output is not what a user has."""
    return variable.startswith("ZBUS_") or variable == "PYTHONUNBUFFERED"


def invoke(
    *words: str,
    text: str | bytes | None = None,
    environment: Mapping[str, str | None] | None = None,
) -> Result:
    """Run a command in this process; nothing it prints goes to a terminal."""
    return CliRunner().invoke(root, words, input=text, env=environment, prog_name="zbus")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {BOUND_S:g} s: {what}"
        time.sleep(0.01)


@contextmanager
def terminals() -> Iterator[Terminals]:
    """Terminals with a runtime directory of their own, and no broker."""
    place = Path(tempfile.mkdtemp(prefix="zbus-"))
    try:
        yield Terminals(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def bus(*words: str) -> Iterator[Terminals]:
    """The same, with a broker in one of them."""
    with terminals() as here, here.beside("broker", *words) as broker:
        assert "ready" in broker.line()
        yield here
