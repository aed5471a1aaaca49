"""One slice of each workload over one system: what is done, and the figures that come of it.

Rules of this room:

* A slice is short, and the slices of the systems take turns, so that the machine's mood is the
  same for all.
* Processor time is of whole processes, libzmq's own threads and the kernel's work for them
  included, and is given for each message.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actor import BenchFailed
from systems import System

__all__ = ["MEASURES", "SAMPLES", "Figures", "Measure", "percentile"]

Figures = dict[str, Any]
SAMPLES = "took_us"
"""The one figure that is a list: how long each request took, in microseconds."""
MIB = 1_048_576
_ALONE_S = 1.0
_PIPELINED_S = 1.2
_PUSHED_S = 0.6
_SETTLE_S = 30.0
_LOST_AFTER_S = 2.0
_POLL_S = 0.004


@dataclass(frozen=True, slots=True)
class Measure:
    """A slice of a workload: over how many client processes, and what it does."""

    title: str
    clients: int
    slice: Callable[[System], Figures]


def percentile(ordered: list[float], share: float) -> float:
    """Of values in order."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# -- requests ----------------------------------------------------------------------------------


def _sequential(system: System) -> Figures:
    before = _before(system, 1)
    said = system.clients[0].tell(sequential={"seconds": _ALONE_S})
    took = sorted(said[SAMPLES])
    return {
        "p50_us": statistics.median(took),
        "p99_us": percentile(took, 0.99),
        SAMPLES: took,
        **_costs(system, before, said["done"], 1),
    }


def _pipelined(clients: int, width: int) -> Callable[[System], Figures]:
    def measure(system: System) -> Figures:
        before = _before(system, clients)
        for client in system.clients[:clients]:
            client.begin(pipelined={"seconds": _PIPELINED_S, "width": width})
        said = [client.finish() for client in system.clients[:clients]]
        rate = sum(each["done"] / each["seconds"] for each in said)
        done = sum(each["all"] for each in said)
        return {"rate": rate, **_costs(system, before, done, clients)}

    return measure


# -- pushes ------------------------------------------------------------------------------------


def _pushed(clients: int) -> Callable[[System], Figures]:
    def measure(system: System) -> Figures:
        assert system.server is not None
        counted = system.server.tell(counted={})["count"]
        before = _before(system, clients)
        for client in system.clients[:clients]:
            client.begin(push={"seconds": _PUSHED_S})
        said = [client.finish() for client in system.clients[:clients]]
        sent = sum(each["sent"] for each in said)
        handled, ended = _settled(system, counted, sent)
        took_s = ended - min(each["began"] for each in said)
        costs = _costs(system, before, max(handled, 1), clients)
        return {"rate": handled / took_s, "lost": sent - handled, **costs}

    return measure


def _settled(system: System, counted: int, sent: int) -> tuple[int, float]:
    """How many of those sent were handled, and when the last one was known to be."""
    assert system.server is not None
    deadline = time.monotonic() + _SETTLE_S
    handled, since = 0, time.monotonic()
    while time.monotonic() < deadline:
        told = system.server.tell(counted={})
        if told["count"] - counted > handled:
            handled, since = told["count"] - counted, told["at"]
        if handled >= sent or time.monotonic() > since + _LOST_AFTER_S:
            break
        time.sleep(_POLL_S)
    return handled, since


# -- arrays ------------------------------------------------------------------------------------


def _arrays(size: int, times: int) -> Callable[[System], Figures]:
    def measure(system: System) -> Figures:
        system.clients[0].tell(arrays={"size": size, "times": 1})
        before = _before(system, 1)
        said = system.clients[0].tell(arrays={"size": size, "times": times})
        speed = size / statistics.median(said["seconds"]) / 1e6
        return {"mb_s": speed, **_costs(system, before, times, 1)}

    return measure


# -- what it costs -----------------------------------------------------------------------------


def _before(system: System, clients: int) -> dict[str, Any]:
    system.check()
    system.forget_peaks()
    return system.used(clients)


def _costs(system: System, before: dict[str, Any], messages: int, clients: int) -> Figures:
    """Processor microseconds a message, and the highest memory in MiB, of each kind of process;
    how much the broker grew in the slice."""
    system.check()
    if not messages:
        raise BenchFailed("nothing was done")
    figures: Figures = {}
    after = system.used(clients)
    for part, processes in after.items():
        if processes:
            spent = sum(each.cpu_s for each in processes) - sum(each.cpu_s for each in before[part])
            figures[f"{part}_cpu_us"] = spent / messages * 1e6
            figures[f"{part}_peak_mib"] = max(each.peak_kib for each in processes) / 1_024
    if after["broker"]:
        grown = after["broker"][0].peak_kib - before["broker"][0].rss_kib
        figures["broker_grown_mib"] = max(grown, 0) / 1_024
    return figures


MEASURES = {
    "sequential": Measure("A sequential request, 128 B", 1, _sequential),
    "pipelined": Measure("Requests, one client, 128 open", 1, _pipelined(1, 128)),
    "clients": Measure("Requests, 8 client processes, 16 open each", 8, _pipelined(8, 16)),
    "pushes": Measure("Pushes handled, 1 producer", 1, _pushed(1)),
    "producers": Measure("Pushes handled, 8 producer processes", 8, _pushed(8)),
    "array": Measure("An array of 64 MiB, small reply", 1, _arrays(64 * MIB, 3)),
    "large": Measure("An array of 1,023 MiB, small reply", 1, _arrays(1_023 * MIB, 1)),
}
"""By name."""
