"""Actors whose ledgers an offline checker reads (``processes.history``), also after kill -9.

Started by ``python -m processes.troupe ROLE NAME ...`` in a cluster's environment. Each notes the
beginning of its life, so that what one life did is told from what the next one of that name does.

* ``server``: serves ``work`` (``start`` and ``end`` of each id) and the push topic ``metric``.
* ``engine``: asks at a rate until an instant (``begin`` with its timeout, ``end`` with what came).
* ``pusher``: pushes numbers at a rate until an instant (``accept``), and at last ``counted``. A
  number that is refused is tried again.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import zbus
from processes.ledger import Ledger

_LATE_S = 5.0


def begun(name: str) -> Ledger:
    """The ledger of a new life of this name, which is its process's number."""
    ledger = Ledger(Path(os.environ["LEDGERS"]) / f"{name}.ledger")
    ledger.note("life", str(os.getpid()))
    return ledger


def serve(name: str, pause_s: float) -> None:
    """Serve until SIGTERM."""
    ledger = begun(name)
    dispatcher = zbus.Dispatcher()

    @dispatcher.on("work")
    def work(body: Any) -> Any:
        ledger.note("start", body)
        time.sleep(pause_s)
        ledger.note("end", body)
        return [body, name, os.getpid()]

    @dispatcher.on("metric")
    def metric(body: Any, request: zbus.Incoming) -> None:
        ledger.note("push", f"{request.source}:{body}")

    zbus.serve(dispatcher, name=name, drain=5.0)
    ledger.note("done")


def ask(name: str, rate: float, until: float, timeout_s: float) -> None:
    """Send ``rate`` requests a second, whatever becomes of those before."""
    ledger = begun(name)
    with zbus.connect(name=name, timeout=20.0) as bus:
        bus.wait_served("work", timeout=20.0)
        futures = []
        began = time.monotonic()
        for number in range(int(rate * max(until - began, 0.0))):
            time.sleep(max(began + number / rate - time.monotonic(), 0.0))
            key = f"{name}.{os.getpid()}.{number}"
            ledger.note("begin", key, f"{timeout_s:g}")
            future = bus.submit("work", key, timeout=timeout_s)
            future.add_done_callback(functools.partial(_note_end, ledger, key))
            futures.append(future)
        for future in futures:
            with suppress(TimeoutError):
                future.exception(timeout=timeout_s + _LATE_S)
    ledger.note("done")


def _note_end(ledger: Ledger, key: str, done: Any) -> None:
    error = done.exception()
    if error is None:
        ledger.note("end", key, "reply {} {} {}".format(*done.result()))
    else:
        ledger.note("end", key, f"{type(error).__name__} {error.executed}")


def push(name: str, rate: float, until: float) -> None:
    """Push the numbers from 0, and count at last what the bus says became of them."""
    ledger = begun(name)
    with zbus.connect(name=name, timeout=20.0) as bus:
        bus.wait_served("metric", timeout=20.0)
        began, number = time.monotonic(), 0
        for tick in range(int(rate * max(until - began, 0.0))):
            time.sleep(max(began + tick / rate - time.monotonic(), 0.0))
            with suppress(zbus.Backpressure):
                bus.push("metric", number)
                ledger.note("accept", f"{name}:{number}")
                number += 1
        bus.flush(timeout=20.0)
        counted = bus.counters()
    told = (counted.accepted, counted.delivered, counted.dropped, counted.queued)
    ledger.note("counted", name, " ".join(map(str, told)))
    ledger.note("done")


def main() -> None:
    """Play the part that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("server", "engine", "pusher"))
    parser.add_argument("name")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument(
        "--until", type=float, default=0.0, help="by this machine's monotonic clock"
    )
    parser.add_argument("--timeout", type=float, default=5.0)
    given = parser.parse_args()
    if given.part == "server":
        serve(given.name, given.pause)
    elif given.part == "engine":
        ask(given.name, given.rate, given.until, given.timeout)
    else:
        push(given.name, given.rate, given.until)


if __name__ == "__main__":
    main()
