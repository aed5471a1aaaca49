"""Cells of nvflare's in processes of their own, each in an empty directory, for bench and tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["CellProcess", "environment", "free_port"]

_ACTOR = Path(__file__).with_name("flare_cell.py")
_SOURCES = Path(__file__).parents[2]


class CellProcess:
    """A cell in a process of its own, in an empty directory."""

    def __init__(self, place: Path, fqcn: str, *urls: str, scheme: str) -> None:
        (place / fqcn).mkdir()
        self.events: list[tuple[str, str]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(_ACTOR), fqcn, *urls],
            cwd=place / fqcn,
            env=environment(scheme),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.listener = str(self._line()["listener"])

    def tell(self, **order: Any) -> Any:
        """Have it do something, and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._line()["answer"]

    def await_event(self, event: str, fqcn: str) -> None:
        """Wait until it has told of this. Its input is left alone."""
        while (event, fqcn) not in self.events:
            self._note(self._read())

    def end(self) -> None:
        """Be gone."""
        self.process.kill()
        self.process.communicate()

    def _line(self) -> dict[str, Any]:
        while "event" in (line := self._read()):
            self._note(line)
        return line

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the cell has ended: {self.process.args!r}")
        return dict(json.loads(line))

    def _note(self, line: dict[str, Any]) -> None:
        self.events.append((line["event"], line["fqcn"]))


def environment(scheme: str) -> dict[str, str]:
    """What a process needs to use this scheme, internally too."""
    made = os.environ | {"NVFLARE_INTERNAL_CONN_SCHEME": scheme, "PYTHONPATH": str(_SOURCES)}
    if scheme == "zmq":
        made["NVFLARE_COMM_DRIVER_PATH"] = str(_SOURCES / "zbus" / "nvflare" / "f3")
    return made


def free_port() -> int:
    """A TCP port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
