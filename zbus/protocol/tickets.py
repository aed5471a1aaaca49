"""The broker's note of every request under way: who asked, who has it, until when.

A ticket lives from the request's arrival to its answer, its deadline or the loss of who could
use it. Answers are matched against it, so that nobody can answer what it was not asked and
nobody gets an answer to what it did not ask (spec 6.7).

A ticket without a handler waits: for the topic to be served, or for the source to send the
request again so that the next server can be asked whether it knows the id (spec 6.6).

A ticket that is overdue or given up is closed, but its handler may still be at it: a peer's
newest of these are kept with it until it answers them.

A ticket whose handler was lost is no longer open, but kept with its verdict until its deadline,
so that a repeat is told the same. There are at most ``judged_max`` of them for one source.
"""

from __future__ import annotations

from zbus.errors import ZbusError
from zbus.protocol.deadlines import Deadlines
from zbus.protocol.roster import Peer, Ticket

__all__ = ["Tickets"]

_UNANSWERED_MAX = 256


class Tickets:
    """All tickets, by origin, handler, deadline and awaited topic."""

    def __init__(self, judged_max: int) -> None:
        self._judged_max = judged_max
        self._deadlines: Deadlines[Ticket] = Deadlines()
        self._judged: Deadlines[Ticket] = Deadlines()
        self._awaited: dict[str, dict[Ticket, None]] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def open(self, ticket: Ticket) -> None:
        """Note a request that nobody has yet."""
        ticket.origin.asked[ticket.key.number] = ticket
        self._deadlines.set(ticket, ticket.deadline)

    def give(self, ticket: Ticket, handler: Peer | None) -> None:
        """The request is with another handler from now on, or with none."""
        if ticket.handler is not None:
            ticket.handler.holds.pop(ticket, None)
        ticket.handler = handler
        if handler is not None:
            handler.holds[ticket] = None

    def await_topic(self, ticket: Ticket) -> None:
        """The request waits until its topic is served."""
        ticket.waits = True
        self._awaited.setdefault(ticket.topic, {})[ticket] = None

    def awaiting(self, topic: str) -> list[Ticket]:
        """The requests that wait for this topic."""
        return list(self._awaited.get(topic, ()))

    def close(self, ticket: Ticket) -> None:
        """The request is over, for the broker."""
        self._deadlines.remove(ticket)
        self._release(ticket)

    def give_up(self, ticket: Ticket) -> None:
        """Nobody waits for the answer any more."""
        handler = ticket.handler
        if handler is not None and not ticket.asking:
            handler.unanswered[ticket.key] = ticket
            if len(handler.unanswered) > _UNANSWERED_MAX:
                del handler.unanswered[next(iter(handler.unanswered))]
        self.close(ticket)

    def judge(self, ticket: Ticket, verdict: ZbusError) -> None:
        """The handler is lost, and with it the request; a repeat is told the same."""
        self.close(ticket)
        ticket.verdict = verdict
        judged = ticket.origin.judged
        if len(judged) >= self._judged_max:
            self._judged.remove(judged.pop(next(iter(judged))))
        judged[ticket.key.number] = ticket
        self._judged.set(ticket, ticket.deadline)

    def forget_judged(self, origin: Peer) -> None:
        """Nobody will repeat what this peer asked."""
        for ticket in origin.judged.values():
            self._judged.remove(ticket)
        origin.judged.clear()

    def due(self, now: float) -> list[Ticket]:
        """The tickets whose time is up; they are closed. Their origins know it by themselves."""
        tickets = self._deadlines.due(now)
        for ticket in tickets:
            self.give_up(ticket)
        for ticket in self._judged.due(now):
            del ticket.origin.judged[ticket.key.number]
        return tickets

    def next_at(self) -> float | None:
        """When a ticket's time is next up."""
        return self._deadlines.next_at()

    def _release(self, ticket: Ticket) -> None:
        if ticket.origin.asked.get(ticket.key.number) is ticket:
            del ticket.origin.asked[ticket.key.number]
        if ticket.handler is not None:
            ticket.handler.holds.pop(ticket, None)
            ticket.handler = None
        if ticket.waits:
            awaited = self._awaited.get(ticket.topic, {})
            awaited.pop(ticket, None)
            if not awaited:
                self._awaited.pop(ticket.topic, None)
