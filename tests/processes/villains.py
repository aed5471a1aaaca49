"""Handlers that misbehave in every way there is, in a process of their own.

``python -m processes.villains NAME`` serves until SIGTERM; the body of a request names the way.

* ``raise``, ``raise.async``: raise something.
* ``return``, ``return.async``: return something that may not be sent.
* ``hang``, ``hang.async``: do not come back for long, or at all.
* ``die``: end the process; the ledger has a ``die`` of each that began.
* ``meet``: come back once as many handlers are at it as the pool has threads.
* ``hoard``: take so many bytes of memory.
* ``echo``: what a good handler does.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import zbus
from processes.ledger import Ledger

__all__ = ["DEATHS", "HANDLERS", "RAISED", "RETURNED"]

HANDLERS = 8
"""Threads of a pool, where nothing else is said."""
_MEETING_S = 5.0
_ADDRESS_SPACE = 2**30


class Vandal(Exception):
    """One that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Mute(BaseException):
    """One that ends the process that tries to tell it."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Trap(dict[str, object]):
    """A dict that raises what is no ``Exception`` as soon as it is looked at."""

    def __iter__(self) -> Iterator[str]:
        raise KeyboardInterrupt

    items = __iter__  # type: ignore[assignment]


def _endless() -> None:
    _endless()


def _cyclic() -> list[object]:
    cycle: list[object] = []
    cycle.append(cycle)
    return cycle


def _deep(depth: int) -> list[object]:
    nested: list[object] = []
    for _ in range(depth - 1):
        nested = [nested]
    return nested


RAISED: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("as asked"),
    "base": lambda: BaseException("as asked"),
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
    "recursion": lambda: RecursionError(),
    "memory": lambda: MemoryError(),
    "cancelled": lambda: asyncio.CancelledError(),
    "generator": lambda: GeneratorExit(),
    "stop": lambda: StopIteration(1),
    "group": lambda: BaseExceptionGroup("two", [SystemExit(1), KeyboardInterrupt()]),
    "vandal": lambda: Vandal(),
    "mute": lambda: Mute(),
    "surrogate": lambda: ValueError("\ud800"),
    "endless text": lambda: ValueError("x" * 10_000_000),
}
RETURNED: dict[str, Callable[[], object]] = {
    "object": lambda: object(),
    "lock": lambda: threading.Lock(),
    "generator": lambda: (number for number in range(3)),
    "cyclic": _cyclic,
    "deep": lambda: _deep(600),
    "surrogate": lambda: "\ud800",
    "surrogate key": lambda: {"\ud800": 1},
    "huge integer": lambda: 1 << 9_000,
    "objects": lambda: np.array([object()], dtype=object),
    "trap": lambda: Trap(a=1),
    "large": lambda: bytes(100_000_000),
    "nan": lambda: math.nan,
    "infinity": lambda: [math.inf, -math.inf],
    "2**64": lambda: [2**64, -(2**64)],
}


def _segfault() -> None:
    ctypes.string_at(0)


def _eat() -> None:
    """More than the kernel lets this process's group have."""
    hoard = []
    while True:
        hoard.append(os.urandom(1 << 20) * 16)


DEATHS: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(7),
    "abort": os.abort,
    "segfault": _segfault,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "oom": _eat,
}


def _hang_asleep() -> None:
    time.sleep(6.0)


def _hang_busy() -> None:
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        sum(range(1_000))


def _hang_reading() -> None:
    reader, _writer = os.pipe()
    os.read(reader, 1)


def _hang_deaf() -> None:
    """No signal that can be refused ends it, nor an exception from another thread: it waits in
    C, without the interpreter's lock."""
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGUSR1, ctypes.c_void_p(1))
    until = time.monotonic() + 6.0
    while time.monotonic() < until:
        libc.sleep(1)


def _hang_holding() -> None:
    """Two seconds in C, with the interpreter's lock: no other thread runs."""
    ctypes.PyDLL(None).usleep(ctypes.c_uint(2_000_000))


_HANGS: dict[str, Callable[[], None]] = {
    "asleep": _hang_asleep,
    "busy": _hang_busy,
    "reading": _hang_reading,
    "deaf": _hang_deaf,
    "holding": _hang_holding,
}


def _throw(body: str) -> object:
    if body == "recursion":
        _endless()
    raise RAISED[body]()


async def _throw_async(body: str) -> object:
    await asyncio.sleep(0)
    raise RAISED[body]()


async def _give_async(body: str) -> object:
    return RETURNED[body]()


def _hang(body: str) -> str:
    _HANGS[body]()
    return "back"


async def _hang_async(body: str) -> str:
    if body == "asleep":
        await asyncio.sleep(60.0)
    else:
        _HANGS[body]()
    return "back"


def _dispatcher(ledger: Ledger) -> zbus.Dispatcher:
    dispatcher = zbus.Dispatcher()
    meeting = threading.Barrier(HANDLERS)
    dispatcher.add("raise", _throw)
    dispatcher.add("raise.async", _throw_async)
    dispatcher.add("return", lambda body: RETURNED[body]())
    dispatcher.add("return.async", _give_async)
    dispatcher.add("hang", _hang)
    dispatcher.add("hang.async", _hang_async)
    dispatcher.add("hoard", lambda body: len(bytearray(body)))
    dispatcher.add("meet", lambda body: meeting.wait(_MEETING_S) >= 0)
    dispatcher.add("echo", lambda body: body)

    @dispatcher.on("die")
    def die(body: str) -> None:
        ledger.note("die", body)
        DEATHS[body]()

    return dispatcher


def main() -> None:
    """Serve; with a second argument, in this group of the kernel's memory controller."""
    if len(sys.argv) > 2:
        Path(sys.argv[2], "cgroup.procs").write_text(str(os.getpid()))
    elif os.environ.get("VILLAINS_LIMITED"):
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    name = sys.argv[1]
    ledger = Ledger(Path(os.environ["LEDGERS"]) / f"{name}.ledger")
    zbus.serve(_dispatcher(ledger), name=name, drain=1.0)
    ledger.note("served")


if __name__ == "__main__":
    main()
