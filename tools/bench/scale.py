"""How zbus bears size: 2,000 idle peers (W7), and the cost of a request beside many (W8).

The cost is the processor time of broker, server and client together for each request, 128 open.
The many are real: peers that are attached and beat, topics that are served, requests that a
handler holds.
Small and grown are measured in turn; what has grown stays, so each kind has a bus of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from actor import Actor, BenchFailed
from peers import Peers
from results import Results
from systems import RECIPES, System

__all__ = ["CROWD", "measure_growth", "measure_idle"]

CROWD = 2_000
TOPICS = 1_000
OPEN = 100_000
_CROWDS = 2
"""Processes that the crowd is in."""
_IDLE_S = 4.0
_BUSY_S = 1.0
_WIDTH = 128


def measure_idle(results: Results, peers: Peers, place: Path, rounds: int) -> None:
    """W7, and beside it W8 for peers."""
    with _bus(place / "idle", peers) as system:
        alone = [_cost(system) for _ in range(rounds)]
        assert system.middle is not None
        before = system.middle.used()
        with _crowd(system, place):
            time.sleep(_IDLE_S / 2)
            for _ in range(rounds):
                results.add("idle", "zbus ipc", _idle(system, before.rss_kib))
            for cost in alone:
                results.add("growth", "1 peer", cost)
                results.add("growth", f"{CROWD:,} peers", _cost(system))


def measure_growth(results: Results, peers: Peers, place: Path, rounds: int) -> None:
    """W8 for topics and for open requests."""
    with _bus(place / "topics", peers, topics=TOPICS) as system:
        for _ in range(rounds):
            results.add("growth", "1 topic", _cost(system, topics=1))
            results.add("growth", f"{TOPICS:,} topics", _cost(system, topics=TOPICS))
    with _bus(place / "open", peers, window=2 * OPEN) as system:
        alone = [_cost(system) for _ in range(rounds)]
        system.begin(clients=2)
        system.await_ready()
        said = system.clients[1].tell(hold={"count": OPEN})
        if said["open"] != OPEN:
            raise BenchFailed(f"only {said['open']} of {OPEN} requests stay open")
        for cost in alone:
            results.add("growth", "1 open", cost)
            results.add("growth", f"{OPEN:,} open", _cost(system))


@contextmanager
def _bus(place: Path, peers: Peers, **server: int) -> Iterator[System]:
    """A bus of its own, whose server is told ``server``."""
    plain = RECIPES["zbus ipc"]

    def make(here: Path, there: Peers) -> tuple[list[str], dict[str, object]]:
        command, address = plain.make(here, there)
        return [*command, "--window", "1000000"], address | server

    system = System("zbus ipc", replace(plain, make=make), peers, place)
    try:
        system.begin(clients=1)
        system.await_ready()
        yield system
    finally:
        system.end()


@contextmanager
def _crowd(system: System, place: Path) -> Iterator[None]:
    with ExitStack() as stack:
        actors = []
        for number in range(_CROWDS):
            log = place / f"crowd-{number}.log"
            address = system.address
            actors.append(Actor(sys.executable, "actor_crowd.py", "crowd", address, log))
            stack.callback(actors[-1].end)
        for actor in actors:
            actor.await_ready()
            actor.begin(attach={"count": CROWD // _CROWDS})
        for actor in actors:
            said = actor.finish()
            if said["attached"] != CROWD // _CROWDS:
                raise BenchFailed(f"only {said['attached']} peers of a process are attached")
        yield


def _idle(system: System, before_kib: int) -> dict[str, float]:
    assert system.middle is not None
    before, began = system.middle.used(), time.monotonic()
    time.sleep(_IDLE_S)
    after, took_s = system.middle.used(), time.monotonic() - began
    return {
        "peer_kib": (after.rss_kib - before_kib) / CROWD,
        "core_percent": (after.cpu_s - before.cpu_s) / took_s * 100,
    }


def _cost(system: System, topics: int = 0) -> dict[str, float]:
    """Processor microseconds for each request: of broker, server and client, and together."""
    before = system.used(1)
    order = {"seconds": _BUSY_S, "width": _WIDTH, "topics": topics}
    requests = system.clients[0].tell(pipelined=order)["all"]
    costs = {
        f"{part}_cpu_us": (after[0].cpu_s - before[part][0].cpu_s) / requests * 1e6
        for part, after in system.used(1).items()
    }
    return {"cpu_us": sum(costs.values()), **costs}
