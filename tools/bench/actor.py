"""The outside of an actor: a process of the bench that is told what to do, and what it used."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usage import Usage, forget_peak, used_by

__all__ = ["ROOT", "Actor", "BenchFailed", "Middle", "python_environment"]

ROOT = Path(__file__).resolve().parents[2]
_READY_S = 60.0
_ANSWER_S = 120.0


class BenchFailed(Exception):
    """Something that is measured does not do what it should."""


class Middle:
    """A process that is only watched: a broker, or whoever is in its place."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                list(command), stderr=errors, env=python_environment(), **options
            )

    def used(self) -> Usage:
        """What it has used until now."""
        return used_by(self.process.pid)

    def forget_peak(self) -> None:
        """Begin its highest memory anew."""
        forget_peak(self.process.pid)

    def end(self) -> None:
        """Be gone."""
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        """The last line that it wrote to standard error."""
        lines = self.log.read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


class Actor(Middle):
    """A process that does what it is told by lines of JSON (``orders.obey``)."""

    def __init__(self, python: str, script: str, role: str, address: Any, log: Path) -> None:
        command = [python, str(Path(__file__).with_name(script)), role, json.dumps(address)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        super().__init__(command, log, **pipes)
        self.is_ready = False
        self._read = b""

    def await_ready(self) -> None:
        """Wait until it takes orders."""
        if not self.is_ready:
            self._line(_READY_S)
            self.is_ready = True

    def tell(self, **order: Any) -> Any:
        """Give it an order, and wait for the answer."""
        self.begin(**order)
        return self.finish()

    def begin(self, **order: Any) -> None:
        """Give it an order."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BenchFailed(f"ended: {self.said()}") from None

    def finish(self) -> Any:
        """Wait for the answer to its order."""
        return json.loads(self._line(_ANSWER_S))

    def end(self) -> None:
        """Be gone."""
        super().end()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self, within_s: float) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(deadline - time.monotonic(), 0.0)):
                    raise BenchFailed(f"no answer in {within_s:g} s")
                chunk = os.read(self.process.stdout.fileno(), 1 << 20)
                if not chunk:
                    raise BenchFailed(f"ended: {self.said()}")
                self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line


def python_environment() -> dict[str, str]:
    """Where this checkout's package is found, and nobody's settings are."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ZBUS_")}
    return kept | {"PYTHONPATH": str(ROOT), "PATH": _path()}


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
