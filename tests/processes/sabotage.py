"""Errors of the kernel that no test can wait for: the next ``accept`` of a process fails.

Two ways, for machines differ: ``strace`` attached to the process injects the error; where there
is none, or where it may not, a library made by ``gcc`` that the process was started with does.

Rules: neither costs the process anything before; who can do neither says why.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

__all__ = ["Accepts", "CannotSabotage", "Preloaded", "Traced", "saboteurs"]

_BOUND_S = 15.0
_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static int refused(void)
{
    const char *path = getenv("ZBUS_TEST_ACCEPT");
    FILE *file = path ? fopen(path, "r") : NULL;
    int number = 0;
    if (!file)
        return 0;
    if (fscanf(file, "%d", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
    int (*real)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");
    errno = refused();
    return errno ? -1 : real(fd, address, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    int (*real)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    errno = refused();
    return errno ? -1 : real(fd, address, length, flags);
}
"""


class CannotSabotage(Exception):
    """Why it cannot be done here."""


class Accepts(Protocol):
    """How the accepts of a process are made to fail."""

    @property
    def variables(self) -> Mapping[str, str]:
        """What the process must have been started with."""

    def fail(self, pid: int, error: str) -> None:
        """From now on they do, with this error, until the process ends."""

    def end(self) -> None:
        """Leave nothing behind."""


class Traced:
    """By a tracer that is attached to the process."""

    variables: Mapping[str, str] = {}

    def __init__(self, place: Path) -> None:
        if shutil.which("strace") is None:
            raise CannotSabotage("strace is not installed")
        self._place = place
        self._tracer: subprocess.Popen[bytes] | None = None

    def fail(self, pid: int, error: str) -> None:
        """See ``Accepts``."""
        log = self._place / "strace.log"
        with log.open("wb") as output:
            self._tracer = subprocess.Popen(
                ["strace", "-f", "-p", str(pid), "-e", "trace=accept,accept4",
                 "-e", f"inject=accept,accept4:error={error}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        deadline = time.monotonic() + _BOUND_S
        while b"attached" not in log.read_bytes():  # it says so once it is, to all threads
            if self._tracer.poll() is not None or time.monotonic() > deadline:
                raise CannotSabotage(f"strace cannot attach: {log.read_text()[:200]}")
            time.sleep(0.01)

    def end(self) -> None:
        """See ``Accepts``."""
        if self._tracer is not None:
            self._tracer.kill()
            self._tracer.wait(_BOUND_S)
            self._tracer = None


class Preloaded:
    """By a library that the process was started with."""

    def __init__(self, place: Path) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise CannotSabotage("gcc is not installed")
        source, library = place / "accept.c", place / "accept.so"
        source.write_text(_LIBRARY)
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
        made = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if made.returncode:
            raise CannotSabotage(f"gcc makes no library: {made.stderr[:200]!r}")
        self._order = place / "accept.errno"
        self.variables: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "ZBUS_TEST_ACCEPT": str(self._order),
        }

    def fail(self, pid: int, error: str) -> None:
        """See ``Accepts``."""
        self._order.write_text(str(getattr(errno, error)))

    def end(self) -> None:
        """See ``Accepts``."""
        with contextlib.suppress(FileNotFoundError):
            self._order.unlink()


saboteurs: Mapping[str, type[Traced | Preloaded]] = {
    "strace": Traced,
    "library": Preloaded,
}
