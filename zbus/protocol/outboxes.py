"""Who does not read what waits for it, and is to be cut (promises P8, P9).

Rules:

* The shell reports, turn by turn, what each full connection has waiting in its outbox. That counts
  in the peer's backlog, so that others are refused before it costs them anything.
* A peer that takes none of it for ``slow_s`` is cut; one that takes something is not, however
  slowly. A stopped process is lost by its silence long before that.
* Answers cannot be refused. Should they lead beyond the whole budget, then whoever has the most
  waiting is cut, and comes back to an empty outbox.
* What waits for a connection that is nobody's any more is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from zbus.protocol.effect import Route
from zbus.protocol.limits import Limits
from zbus.protocol.roster import Roster

__all__ = ["Outboxes", "Verdict", "Waiting"]

_GOODBYE_BYTES = 4_096
"""What may wait for a stranger: why it was refused, or cut."""


class Waiting(NamedTuple):
    """Bytes that wait in an outbox, and how many messages have left it since it was full."""

    size: int
    taken: int


class Verdict(NamedTuple):
    """What waits for this route is to be dropped; ``cut`` says why whoever is there is to be
    told that it is too slow, and is empty where nobody is."""

    route: Route
    cut: str


class Outboxes:
    """The outboxes of full connections, since when nothing left them, and what is to be done."""

    def __init__(self, roster: Roster, limits: Limits) -> None:
        self._roster = roster
        self._slow_s = limits.slow_s
        self._known: dict[Route, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def report(self, outboxes: Mapping[Route, Waiting], now: float) -> list[Verdict]:
        """All that waits in outboxes now; whose is to be dropped."""
        for route in [route for route in self._known if route not in outboxes]:
            del self._known[route]
            self._count(route, 0)
        verdicts: list[Verdict] = []
        for route, waiting in outboxes.items():
            if self._roster.at(route) is not None:
                self._count(route, waiting.size)
                idle_s = self._idle_s(route, waiting.taken, now)
                if idle_s >= self._slow_s:
                    text = f"this peer has read nothing for {idle_s:.0f} s, and much waits for it"
                    verdicts.append(Verdict(route, text))
            elif waiting.size > _GOODBYE_BYTES:
                verdicts.append(Verdict(route, ""))
        return verdicts or self._beyond(outboxes)

    def _idle_s(self, route: Route, taken: int, now: float) -> float:
        before, since = self._known.get(route, (-1, now))
        if before != taken:
            since = now
            self._known[route] = taken, since
        return now - since

    def _count(self, route: Route, size: int) -> None:
        peer = self._roster.at(route)
        if peer is not None:
            self._roster.budget.report(peer.backlog, size)

    def _beyond(self, outboxes: Mapping[Route, Waiting]) -> list[Verdict]:
        known = [route for route in outboxes if self._roster.at(route) is not None]
        if not known or not self._roster.budget.excess:
            return []
        fullest = max(known, key=lambda route: outboxes[route].size)
        return [Verdict(fullest, "the broker's memory is full of what this peer does not read")]
