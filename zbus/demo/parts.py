"""The processes of the demo: how they are started, watched and ended.

Rules of this room:

* A part is started by exec, never a fork that goes on, and leads a process group of its own, so
  that Ctrl-C at the terminal reaches the story alone, which ends the parts in their order.
* Engines are children as ``zbus.engine.children`` starts them, and so is the broker; the server,
  which asks for nothing of that, is a plain process.
* It knows nothing of the ``ZBUS_`` settings of whoever runs the demo, but the runtime directory
  that is made for it.
* Whatever it prints goes to its log. A part that goes wrong is told with the end of that.
* Should the story be killed, its end of the server's standard input closes, and the server ends
  itself (``end_with_parent``); engines have guards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from zbus.engine.children import Graces, Supervised

__all__ = [
    "AT_ONCE",
    "EnginePart",
    "Part",
    "command_of",
    "end_with_parent",
    "environment",
    "living_in",
]

_MARK = "ZBUS_RUNTIME_DIR"
_LINES = 8
"""How much of a log is told."""
_GONE_S = 5.0
"""How long a killed process may take to be gone."""
AT_ONCE = Graces(ask_s=0.0, terminate_s=0.0, kill_s=_GONE_S)
"""The graces of an engine that is neither asked nor told."""
_NOT_OURS = ("ZBUS_", "NOTIFY_SOCKET", "WATCHDOG_")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Six processes share few cores, so none needs threads for its arithmetic."""


class Part:
    """One process."""

    def __init__(
        self, name: str, words: tuple[str, ...], log: Path, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command_of(*words),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._child.poll()

    def ask_to_end(self) -> None:
        """Let it finish what it does (SIGTERM)."""
        self._child.terminate()

    def kill(self) -> None:
        """End it and whatever it started, at once; it is gone when this returns."""
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(_GONE_S)
        if self._child.stdin is not None:
            self._child.stdin.close()

    def last_lines(self) -> str:
        """The end of what it printed."""
        return _last_lines(self._log)


class EnginePart:
    """One engine, a child that its parent's ``Children`` have started."""

    def __init__(self, name: str, engine: Supervised) -> None:
        self.name = name
        self._engine = engine

    @property
    def pid(self) -> int:
        """Its number."""
        return self._engine.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; None while it, or what it started, runs."""
        ending = self._engine.ending
        return None if ending is None else ending.code

    def ask_to_end(self) -> None:
        """Let it finish what it does (SIGTERM)."""
        self._engine.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it started, at once; it is gone when this returns."""
        self._engine.abort(None, AT_ONCE)

    def last_lines(self) -> str:
        """The end of what it printed."""
        log = self._engine.launch.log
        return _last_lines(log) if log is not None else ""


def command_of(*words: str) -> tuple[str, ...]:
    """The command line of a part: a module, and its arguments."""
    return (sys.executable, "-m", *words)


def environment(runtime_dir: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a part."""
    kept = {name: text for name, text in environ.items() if not name.startswith(_NOT_OURS)}
    sources = str(Path(__file__).parent.parent.parent)
    paths = [sources, *filter(None, [environ.get("PYTHONPATH")])]
    return {
        **kept,
        **_ONE_THREAD,
        "PYTHONPATH": os.pathsep.join(paths),
        _MARK: str(runtime_dir),
    }


def living_in(runtime_dir: Path) -> Iterator[int]:
    """Processes that were started for this runtime directory, by us or by what we started."""
    mark = f"{_MARK}={runtime_dir}".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:
            continue  # It has just ended, or is another user's.


def _last_lines(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-_LINES:] or ["(it printed nothing)"]
    return "\n".join(f"    {line}" for line in lines)


def end_with_parent() -> None:
    """End this process when whoever started it is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
