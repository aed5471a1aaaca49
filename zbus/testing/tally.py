"""What has been seen over many runs, and what has never been: a run without it was no test of it.

Rules of this room:

* A fault that never happened, an error that never arose and an ``executed`` that was never said
  were not tested, however many requests went by: that is a failure, called vacuous.
* What must be seen is listed here and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from zbus.errors import ZbusError
from zbus.protocol.message import Parcel
from zbus.testing.bus import Bus

__all__ = ["ERRORS", "EXECUTED", "FAULTS", "REFUSED", "Tally"]

FAULTS = (
    "break",
    "crash broker",
    "crash engine",
    "crash server",
    "cut",
    "drain broker",
    "full",
    "learn",
    "leave broker",
    "stop broker",
    "stop engine",
    "stop server",
    "vanish",
)
"""Troubles of networks and processes, by their names in ``Bus.counters``."""
ERRORS = (
    "BadReply",
    "BrokerUnreachable",
    "Cancelled",
    "Draining",
    "HandlerError",
    "Malformed",
    "NoHandler",
    "NoTarget",
    "NotAuthorized",
    "Overloaded",
    "RequestTimeout",
    "TargetLost",
)
"""How a request can end without a reply, where all peers keep the rules."""
REFUSED = ("Backpressure", "Overloaded", "TooLarge")
"""What a call can raise at once."""
EXECUTED = ("maybe", "no", "yes")


class Tally:
    """Counts of many runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.requests = 0
        self.pushes = 0
        self.turns = 0
        self.outcomes: Counter[str] = Counter()
        self.executed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()

    def add(self, bus: Bus) -> None:
        """Count what happened on a bus."""
        self.runs += 1
        self.turns += bus.stage.turns
        self.requests += len(bus.history.requests)
        self.pushes += sum(len(lane.accepted) for lane in bus.history.lanes.values())
        self.refused += bus.history.refused
        self.happened += bus.counters
        for asked in bus.history.requests.values():
            outcome = asked.outcome
            if isinstance(outcome, ZbusError):
                self.outcomes[type(outcome).__name__] += 1
                self.executed[outcome.executed.value] += 1
            elif isinstance(outcome, Parcel):
                self.outcomes["a reply"] += 1
            else:
                self.outcomes["nothing, its process died"] += 1

    def missing(self) -> Iterator[str]:
        """What should have been seen and was not."""
        yield from (f"fault: {name}" for name in FAULTS if not self.happened[name])
        yield from (f"error: {name}" for name in ERRORS if not self.outcomes[name])
        yield from (f"refused: {name}" for name in REFUSED if not self.refused[name])
        yield from (f"executed: {name}" for name in EXECUTED if not self.executed[name])

    def lines(self) -> Iterator[str]:
        """A summary for people."""
        yield f"{self.requests} requests, {self.pushes} pushes"
        yield f"{self.turns} turns in {self.runs} runs"
        for title, counts in (
            ("outcomes", self.outcomes),
            ("executed", self.executed),
            ("refused", self.refused),
            ("happened", self.happened),
        ):
            listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            yield f"{title}: {listed or 'nothing'}"
