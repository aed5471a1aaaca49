"""What zbus is to reach, each a bound on a ratio or on a figure, and whether a run reached it.

The workloads have the numbers W1 to W12. A target is judged on what was measured: one whose peer
could not be had is *not measured*, which is no success.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from results import Results

__all__ = ["TARGETS", "Target", "Verdict", "judged"]


@dataclass(frozen=True, slots=True)
class Target:
    """``figure`` of ``ours``, divided by that of ``theirs`` if there are any, against a bound."""

    workload: str
    text: str
    measure: str
    ours: str
    theirs: str
    figure: str
    how: Literal["at most", "at least"]
    bound: float
    other_measure: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of a target; ``value`` is None where it was not measured, ``margin`` is the
    share of the bound by which it may be missed."""

    target: Target
    value: float | None
    margin: float = 0.0

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        if self.value is None:
            return False
        if self.target.how == "at most":
            return self.value <= self.target.bound * (1 + self.margin)
        return self.value >= self.target.bound * (1 - self.margin)

    @property
    def word(self) -> str:
        """In a word."""
        return "not measured" if self.value is None else "met" if self.met else "MISSED"

    def line(self) -> str:
        """In a line."""
        value = "-" if self.value is None else f"{self.value:,.2f}"
        target = self.target
        return (
            f"{target.workload}: {target.text}: {value}, {target.how} {target.bound:g}: {self.word}"
        )


def judged(results: Results, workloads: set[str], margin: float = 0.0) -> list[Verdict]:
    """Every target of these workloads."""
    return [
        Verdict(target, _value(results, target), margin)
        for target in TARGETS
        if target.workload in workloads
    ]


def _value(results: Results, target: Target) -> float | None:
    ours = (target.measure, target.ours)
    if target.figure == "lost":
        return max(results.rounds(*ours, "lost"), default=None)
    if not target.theirs:
        return results.median(*ours, target.figure)
    theirs = (target.other_measure or target.measure, target.theirs)
    return results.ratio(ours, theirs, target.figure)


_COUNTED = {"pipelined": "requests", "clients": "requests of 8 clients", "pushes": "pushes"}


def _alone() -> list[Target]:
    targets = []
    for over in ("ipc", "tcp"):
        plain, spun = f"zbus {over}, no spin", f"zbus {over}"
        for ours, theirs, figure, bound in (
            (plain, f"bare {over}", "p50_us", 1.15),
            (plain, "NATS", "p50_us", 0.9),
            (spun, "NATS", "p50_us", 0.5),
            (spun, "NATS", "p99_us", 0.85),
        ):
            text = f"{ours}, {figure[:3]} to {theirs}"
            targets.append(Target("W1", text, "sequential", ours, theirs, figure, "at most", bound))
    text = "zbus ipc, p50 to Redis"
    return [
        *targets,
        Target("W1", text, "sequential", "zbus ipc", "Redis", "p50_us", "at most", 1.0),
    ]


def _rates(workload: str, measure: str, *bounds: tuple[str, str, float]) -> list[Target]:
    return [
        Target(workload, f"{ours} to {theirs}, {_COUNTED[measure]} a second", measure, ours,
               theirs, "rate", "at least", bound)
        for ours, theirs, bound in bounds
    ]  # fmt: skip


def _pushes() -> list[Target]:
    targets = []
    for measure, who in (("pushes", "1 producer"), ("producers", "8 producers")):
        for theirs, bound in (("NATS", 7.0), ("bare tcp", 2.5)):
            text = f"{who}, zbus tcp to {theirs}, handled a second"
            targets.append(
                Target("W4", text, measure, "zbus tcp", theirs, "rate", "at least", bound)
            )
        lost = f"{who}, lost"
        targets.append(Target("W4", lost, measure, "zbus tcp", "", "lost", "at most", 0))
    return targets


def _arrays() -> list[Target]:
    targets = []
    for measure, size in (("array", "64 MiB"), ("large", "1,023 MiB")):
        text = f"{size}, zbus ipc to bare ipc, MB/s"
        targets.append(Target("W5", text, measure, "zbus ipc", "bare ipc", "mb_s", "at least", 2.5))
        text = f"{size}, the broker grows, MiB"
        targets.append(
            Target("W5", text, measure, "zbus ipc", "", "broker_grown_mib", "at most", 32)
        )
    text = "64 MiB, zbus tcp to NATS, MB/s"
    return [*targets, Target("W5", text, "array", "zbus tcp", "NATS", "mb_s", "at least", 6.0)]


def _growth() -> list[Target]:
    return [
        Target("W8", f"cost of a request, {grown} to {small}", "growth", grown, small, "cpu_us",
               "at most", 1.2)
        for grown, small in (
            ("1,000 topics", "1 topic"),
            ("2,000 peers", "1 peer"),
            ("100,000 open", "1 open"),
        )
    ]  # fmt: skip


TARGETS = (
    *_alone(),
    *_rates("W2", "pipelined", ("zbus tcp", "NATS", 5.0), ("zbus tcp", "bare tcp", 3.0),
            ("zbus ipc", "bare ipc", 3.0), ("zbus ipc", "Redis", 1.1)),
    *_rates("W3", "clients", ("zbus tcp", "NATS", 3.5), ("zbus tcp", "bare tcp", 2.0)),
    *_pushes(),
    *_arrays(),
    Target("W6", "broker CPU a request, zbus tcp to NATS", "pipelined", "zbus tcp", "NATS",
           "broker_cpu_us", "at most", 0.6),
    Target("W6", "broker CPU a request, zbus tcp to the bare proxy", "pipelined", "zbus tcp",
           "bare tcp", "broker_cpu_us", "at most", 1.0),
    Target("W7", "2,000 idle peers, KiB of the broker each", "idle", "zbus ipc", "", "peer_kib",
           "at most", 40),
    Target("W7", "2,000 idle peers, % of a core in the broker", "idle", "zbus ipc", "",
           "core_percent", "at most", 3),
    *_growth(),
    Target("W9", "FLARE face, p50, nvflare to zbus", "flare", "nvflare 2.9", "zbus", "p50_us",
           "at least", 30),
    Target("W9", "FLARE face, requests a second, 8 threads", "flare", "zbus", "nvflare 2.9",
           "requests_per_s_8_threads", "at least", 200),
    Target("W9", "FLARE face, fire-and-forget handled a second", "flare", "zbus", "nvflare 2.9",
           "fired_handled_per_s", "at least", 500),
    Target("W10", "import zbus and its face, CPU ms", "start", "zbus", "", "import_cpu_ms",
           "at most", 110),
    Target("W10", "broker ready, ms", "start", "zbus", "", "broker_ready_ms", "at most", 300),
    Target("W10", "zbus req, whole process, ms", "start", "zbus", "", "req_ms", "at most", 300),
    *_rates("W11", "pipelined", ("zbus tcp, CURVE", "zbus tcp", 0.7)),
    *_rates("W11", "pushes", ("zbus tcp, CURVE", "zbus tcp", 0.7)),
    Target("W12", "asyncio face, p50 to the blocking one", "sequential", "zbus ipc, asyncio",
           "zbus ipc", "p50_us", "at most", 1.25),
    *_rates("W12", "pipelined", ("zbus ipc, asyncio", "zbus ipc", 0.8)),
)  # fmt: skip
"""Every target."""
