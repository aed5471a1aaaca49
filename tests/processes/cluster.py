"""A cluster of real processes below one directory, which leaves nothing behind.

Rules: nothing sleeps to wait, but looks at a condition until a bound; every process is in the
cluster's list and is killed at the end; a failure shows what the processes wrote.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from processes.ledger import Entry, read

__all__ = ["Cluster", "wait_for"]

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Look until the condition holds; fail, saying what was awaited, when the time is up."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.005)


class Cluster:
    """Broker, servers and engines of one test."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environ = os.environ | {
            "ZBUS_RUNTIME_DIR": str(place / "run"),
            "LEDGERS": str(place),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "PYTHONUNBUFFERED": "1",
        }
        self.frontend = f"ipc://{place}/run/frontend"
        self.backend = f"ipc://{place}/run/backend"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs = 0

    def start(self, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        """A process of this cluster; its output goes to a file of its own."""
        self._logs += 1
        with open(self.place / f"{self._logs:02}.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def broker(self, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        """A broker that is ready."""
        process = self.start("-m", "zbus", "broker", *options, **variables)
        log = self.place / f"{self._logs:02}.log"
        wait_for(lambda: b"frontend" in log.read_bytes() or process.poll(), 10.0, "broker ready")
        assert process.poll() is None, log.read_text()
        return process

    def actor(self, part: str, name: str, **options: object) -> subprocess.Popen[bytes]:
        """An actor; see ``actors``."""
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        return self.start("-m", "processes.actors", part, name, *words)

    def ledger(self, name: str) -> list[Entry]:
        """What an actor has noted until now."""
        return list(read(self.place / f"{name}.ledger"))

    def events(self, name: str, event: str) -> list[Entry]:
        """What an actor has noted of one kind."""
        return [entry for entry in self.ledger(name) if entry.event == event]

    def logs(self) -> str:
        """What the processes wrote, for the message of a failure."""
        texts = (path.read_text(errors="replace") for path in sorted(self.place.glob("*.log")))
        return "\n".join(text[-2_000:] for text in texts if text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._living():
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10.0)
        if error is not None:
            error.add_note(self.logs())

    def _living(self) -> Iterator[subprocess.Popen[bytes]]:
        return (process for process in self._processes if process.poll() is None)
