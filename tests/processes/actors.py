"""What the processes of a cluster do.

Started by ``python -m processes.actors ROLE ...`` in the cluster's
environment. They use the public API only, as users do.

* ``server NAME``: serves ``work`` (notes start and end of each id, after ``pause`` seconds),
  ``misbehave``, ``busy`` and the push topic ``metric`` (with ``pause`` per push).
* ``engine NAME``: sends requests at a rate for a time and notes begin and end of each.
* ``pusher NAME``: pushes numbers to ``metric`` as fast as the bus takes them, then flushes.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import zbus
from processes.ledger import Ledger

LEDGERS = Path(os.environ.get("LEDGERS", "."))


def serve(name: str, pause: float) -> None:
    """Serve until SIGTERM."""
    ledger = Ledger(LEDGERS / f"{name}.ledger")
    dispatcher = zbus.Dispatcher()

    @dispatcher.on("work")
    def work(body: Any, request: zbus.Incoming) -> Any:
        ledger.note("start", body["id"], f"{request.remaining():.6f}")
        time.sleep(body.get("pause", pause))
        ledger.note("end", body["id"])
        return {"id": body["id"], "by": name}

    @dispatcher.on("metric")
    def metric(body: Any, request: zbus.Incoming) -> None:
        ledger.note("push", f"{request.source}:{body}")
        if pause:
            time.sleep(pause)

    dispatcher.add("misbehave", _misbehave)
    dispatcher.add("busy", _busy)
    zbus.serve(dispatcher, name=name, drain=5.0)
    ledger.note("served")


def _misbehave(body: Any) -> Any:
    if body == "exit":
        sys.exit(3)
    if body == "interrupt":
        raise KeyboardInterrupt
    if body == "bad":
        return object()
    if body == "hang":
        threading.Event().wait(20.0)
    raise ValueError("as asked")


def _busy(body: Any) -> str:
    """Burn Python, or hold the interpreter lock inside C, for so many seconds."""
    if body["how"] == "c":
        # PyDLL keeps the lock, so that no other thread of this process runs.
        ctypes.PyDLL(None).usleep(ctypes.c_uint(int(body["s"] * 1e6)))
        return "done"
    until = time.monotonic() + body["s"]
    while time.monotonic() < until:
        sum(range(1_000))
    return "done"


def ask(name: str, rate: float, seconds: float, timeout: float) -> None:
    """Send ``rate`` requests a second, each from a future, for ``seconds``."""
    ledger = Ledger(LEDGERS / f"{name}.ledger")
    with zbus.connect(name=name, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        futures = []
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            _wait_until(began + number / rate)
            key = f"{name}-{number}"
            ledger.note("begin", key)
            future = bus.submit("work", {"id": key}, timeout=timeout)
            future.add_done_callback(functools.partial(_note_end, ledger, key))
            futures.append(future)
        for future in futures:
            future.exception(timeout=timeout + 5.0)
    ledger.note("asked")


def _note_end(ledger: Ledger, key: str, done: Any) -> None:
    error = done.exception()
    if error is None:
        ledger.note("end", key, f"reply {done.result()['id']}")
    else:
        ledger.note("end", key, f"{type(error).__name__} {error.executed}")


def push(name: str, count: int, seconds: float) -> None:
    """Push the numbers from 0 to ``count``, waiting only where the bus refuses."""
    ledger = Ledger(LEDGERS / f"{name}.ledger")
    with zbus.connect(name=name, timeout=10.0) as bus:
        bus.wait_served("metric", timeout=10.0)
        for number in range(count):
            _push_one(bus, number)
        bus.flush(timeout=seconds)
        counters = bus.counters()
    peak = _peak_kib()
    ledger.note(
        "pushed",
        "-",
        f"{counters.accepted} {counters.delivered} {counters.dropped} {counters.queued} {peak}",
    )


def _peak_kib() -> int:
    # Not ru_maxrss, in which a child begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _push_one(bus: zbus.Peer, number: int) -> None:
    while True:
        try:
            bus.push("metric", number)
        except zbus.Backpressure as refused:
            time.sleep(refused.retry_after_s)
        else:
            return


def _wait_until(instant: float) -> None:
    time.sleep(max(instant - time.monotonic(), 0.0))


def main() -> None:
    """Play the part that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("server", "engine", "pusher"))
    parser.add_argument("name")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=1_000)
    given = parser.parse_args()
    if given.part == "server":
        serve(given.name, given.pause)
    elif given.part == "engine":
        ask(given.name, given.rate, given.seconds, given.timeout)
    else:
        push(given.name, given.count, given.seconds)


if __name__ == "__main__":
    main()
