"""The simulator's long profile: many buses, each with troubles of its own, for hours if need be.

    python tools/soak.py --requests 1000000            about 20 minutes on one core
    python tools/soak.py --seed 4711 --each 500 --runs 1 --trace trace.txt

It prints what was seen and exits 0. At the first broken promise, and where a kind of trouble or of
outcome never came up in a run that is long enough, it says so and exits 1; the printed command
repeats a failing run byte for byte.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zbus.testing.plug import Traced
from zbus.testing.swarm import Scenario, Swarm
from zbus.testing.tally import Tally

EACH = 500
"""Requests of one bus. Short runs see more of different settings, long ones more of each."""
ENOUGH = 100_000
"""From so many requests on, everything that can happen must have happened."""
_SAY_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for."""

    requests: int
    each: int
    seed: int
    runs: int | None
    trace: Path | None

    def seeds(self) -> Iterator[int]:
        """The seeds, one a run."""
        runs = self.runs if self.runs is not None else max(1, self.requests // self.each)
        yield from range(self.seed, self.seed + runs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print, and return the exit code."""
    order = _order(arguments)
    logging.disable(logging.CRITICAL)  # Handlers that raise are part of the play.
    tally, began = Tally(), time.monotonic()
    try:
        _soak(order, tally, began)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed goes with it
        print(f"soak: FAILED: {type(error).__name__}: {error}")
        print("\n".join(getattr(error, "__notes__", ())))
        return 1
    finally:
        logging.disable(logging.NOTSET)
    _say(tally, began, *tally.lines())
    missing = list(tally.missing()) if tally.requests >= ENOUGH else []
    if missing:
        print(f"soak: VACUOUS: never seen: {', '.join(missing)}")
    return 1 if missing else 0


def _soak(order: Order, tally: Tally, began: float) -> None:
    said = began
    for seed in order.seeds():
        run = Swarm(Scenario.draw(seed, order.each), traced=order.trace is not None)
        try:
            run.play(tally)
        finally:
            if order.trace is not None:
                order.trace.write_text("".join(map(_line, run.bus.trace)), "utf-8")
        if time.monotonic() - said > _SAY_EVERY_S:
            said = time.monotonic()
            _say(tally, began)


def _line(event: Traced) -> str:
    return f"{event.at:.9f} {event.what} {event.who} {event.size}\n"


def _say(tally: Tally, began: float, *lines: str) -> None:
    took_s = max(time.monotonic() - began, 1e-9)
    print(
        f"soak: {tally.requests} requests in {tally.runs} runs, {took_s:.0f} s,"
        f" {tally.requests / took_s:.0f} a second",
        flush=True,
    )
    for line in lines:
        print(f"  {line}")


def _order(arguments: Sequence[str] | None) -> Order:
    parser = argparse.ArgumentParser(
        prog="soak.py", description="Simulate buses with troubles, from seeds."
    )
    parser.add_argument("--requests", type=int, default=1_000_000, help="in all (%(default)s)")
    parser.add_argument("--each", type=int, default=EACH, help="of one bus (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first bus (%(default)s)")
    parser.add_argument("--runs", type=int, help="how many buses, instead of --requests")
    parser.add_argument("--trace", type=Path, help="write what the last network did to this file")
    given = parser.parse_args(arguments)
    return Order(given.requests, given.each, given.seed, given.runs, given.trace)


if __name__ == "__main__":
    sys.exit(main())
