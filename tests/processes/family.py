"""Parents, engines and what engines start: real processes for the tests of ``engine.children``.

``python -m processes.family FOLDER DEPTH WAY`` is a parent of a parent of ... an engine, which
behaves in the way that is named. Every process of a family has its folder in its environment, so
that whatever is left of it can be found, guards too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from zbus.engine.children import Children, Launch, handed_over

__all__ = ["MARK", "end", "engine", "environ_of", "is_there", "living", "noted", "parent_of"]

MARK = "ZBUS_TEST_FAMILY"
_LONG_S = 600.0


def environ_of(folder: Path) -> dict[str, str]:
    """The environment of a family."""
    return os.environ | {MARK: str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def engine(folder: Path, way: str, depth: int = 0) -> tuple[str, ...]:
    """How an engine, or at a depth above 0 the parent of one, is started."""
    return sys.executable, "-m", "processes.family", str(folder), str(depth), way


def living(folder: Path) -> list[int]:
    """The processes of a family that are there. Zombies have no environment, nor has a process
    in the instant of its exec."""
    mark = f"{MARK}={folder}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                pids.append(int(entry.name))
        except OSError:
            continue
    return pids


def is_there(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def end(folder: Path) -> None:
    """Leave nothing, however a test ended."""
    for pid in living(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def noted(folder: Path, what: str) -> list[int]:
    """The numbers noted of one kind; those of a depth are its processes."""
    try:
        return [int(line) for line in (folder / what).read_text().split()]
    except FileNotFoundError:
        return []


def parent_of(pid: int) -> int:
    """The parent's number."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _note(folder: Path, what: str, number: int) -> None:
    with (folder / what).open("a") as file:
        file.write(f"{number}\n")


def _raise_a_child(folder: Path, depth: int, way: str) -> None:
    """From a thread that has ended when the parent says that it is ready."""
    children = Children()
    launch = Launch(argv=engine(folder, way, depth - 1), name=f"level-{depth - 1}")
    thread = threading.Thread(target=children.start, args=(launch,))
    thread.start()
    thread.join()
    _note(folder, f"depth-{depth}", os.getpid())
    signal.pause()


def _behave(folder: Path, way: str) -> None:
    if way == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if way == "polite":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
    if way == "motherly":
        subprocess.Popen(["sleep", "600"])
    if way == "prolific":
        for new_session in (False, True):
            subprocess.Popen(["sleep", "600"], start_new_session=new_session)
    if way == "leaves":
        subprocess.Popen(["sleep", "600"])
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        _note(folder, "depth-0", os.getpid())
        sys.exit(3)
    handed = handed_over()
    if handed is not None:
        _note(folder, "epochs", handed.epoch)
        _note(folder, "tokens", int(handed.token or "0", 16))
    _note(folder, "depth-0", os.getpid())
    if way == "execs":
        os.execvp("sleep", ["sleep", "600"])
    if way == "blocked":
        # PyDLL keeps the interpreter's lock, so that no thread of this process runs Python.
        ctypes.PyDLL(None).sleep(ctypes.c_uint(int(_LONG_S)))
    while way == "beats":
        _note(folder, "beats", 1)
        time.sleep(0.01)
    time.sleep(_LONG_S)


def main(folder: Path, depth: int, way: str) -> None:
    """Play a generation."""
    if depth:
        _raise_a_child(folder, depth, way)
    else:
        _behave(folder, way)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
