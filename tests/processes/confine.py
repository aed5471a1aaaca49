"""A group of the kernel's memory controller, for processes that shall have no more than this.

Rules: a machine on which no group can be made is no failure, but says why; a group is gone at the
end, and every process in it.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["CannotConfine", "kills_in", "memory_group"]

_ROOT = Path("/sys/fs/cgroup")
_BOUND_S = 10.0


class CannotConfine(Exception):
    """Why no group can be made here."""


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A directory whose ``cgroup.procs`` takes the processes. Past the limit the kernel kills."""
    parent, files = _parent()
    try:
        group = Path(tempfile.mkdtemp(prefix="zbus-test-", dir=parent))
    except OSError as error:
        raise CannotConfine(f"no group can be made in {parent}: {error.strerror}") from None
    try:
        for file in files:
            try:
                (group / file).write_text(str(limit_bytes))
            except OSError as error:
                raise CannotConfine(f"{file} cannot be set: {error.strerror}") from None
        yield group
    finally:
        _end(group)


def kills_in(group: Path) -> int:
    """How many processes of the group the kernel has killed for want of memory."""
    for name in ("memory.oom_control", "memory.events"):
        with suppress(OSError):
            words = (group / name).read_text().split()
            return int(words[words.index("oom_kill") + 1])
    return 0


def _parent() -> tuple[Path, tuple[str, ...]]:
    """The group that this process is in, and the files that hold a limit of one below it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _ROOT / "memory" / path.lstrip("/"), ("memory.limit_in_bytes",)
        own = _ROOT / path.lstrip("/")
        if not controllers and "memory" in _words(own / "cgroup.subtree_control"):
            return own, ("memory.max", "memory.swap.max")
    raise CannotConfine("the memory controller is not there for the group of this process")


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _end(group: Path) -> None:
    deadline = time.monotonic() + _BOUND_S
    while time.monotonic() < deadline:
        for pid in _words(group / "cgroup.procs"):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.01)
