"""The broker's way with requests: who gets one, who may answer it, who is told of its loss.

Rules (spec 6.3 to 6.10):

* A request by topic goes to the least busy attached server with room; one by name to that peer.
  If there is none, its source is told why at once (P3), and that it was not run (P4).
* A repeat of a known ticket goes to the same handler. One without a ticket goes to the only
  server; where there are several, or no room, each is asked in turn whether it knows the id
  (P5), so that a request that runs already is neither started elsewhere nor refused.
* What ended the processes it was given to is given to no further one (see ``quarantine``).
* An answer counts only from the ticket's handler. Everything else is dropped and counted.
"""

from __future__ import annotations

from collections import Counter

from zbus.errors import Draining, NoHandler, Overloaded, TargetLost, ZbusError
from zbus.protocol.answerer import fault_item
from zbus.protocol.budget import weigh
from zbus.protocol.choice import (
    BUSY_RETRY_S,
    ask_receipts,
    candidates,
    is_full,
    least_busy,
    misdirected,
    no_room,
    say,
)
from zbus.protocol.effect import Asked, BrokerEffect, Send
from zbus.protocol.limits import Limits
from zbus.protocol.message import (
    AGAIN,
    NO_FRAMES,
    UNKNOWN_ID,
    Cancel,
    Fault,
    Flag,
    Frames,
    Item,
    Key,
    Parcel,
    Reply,
    Request,
    with_flags,
    with_ttl,
)
from zbus.protocol.quarantine import Quarantine
from zbus.protocol.roster import Peer, Roster, Ticket
from zbus.protocol.tickets import Tickets
from zbus.protocol.topics import is_reserved

__all__ = ["Switchboard"]

_REPEAT, _ASK = int(Flag.REPEAT), int(Flag.ASK)
_WAIT, _PROBE = int(Flag.WAIT), int(Flag.PROBE)
_DETACHED_RETRY_MS = 100
_STALLED_RETRY_MS = 50


class Switchboard:
    """Requests and their answers, between the peers of a roster."""

    def __init__(self, roster: Roster, limits: Limits, engine_to_engine: bool) -> None:
        self.tickets = Tickets(limits.open_requests)
        self.quarantine = Quarantine(limits)
        self.draining = False
        self.settled_at = float("-inf")
        self.counts: Counter[str] = Counter()
        self._roster = roster
        self._limits = limits
        self.engine_to_engine = engine_to_engine

    # -- a request comes -------------------------------------------------------------------

    def asked(
        self,
        origin: Peer,
        parcel: Parcel,
        waited_s: float,
        now: float,
        effects: list[BrokerEffect],
    ) -> None:
        """A Request came from ``origin``; it may have waited here for ``waited_s``, because we
        were stalled."""
        item = parcel.item
        assert isinstance(item, Request)
        if item.ttl_ms == 0:
            self.counts["expired"] += 1
            return
        if waited_s:
            left_ms = item.ttl_ms - int(waited_s * 1000.0) - 1
            if left_ms <= 0:
                self._again(_key(item), origin, _STALLED_RETRY_MS, effects)
                return
            parcel = Parcel(with_ttl(item, left_ms), parcel.frames)
        if item.flags & _ASK:
            parcel = self._marked(parcel, asking=False)  # only a broker asks (spec 4.5)
        known = origin.asked.get(item.number)
        if known is not None:
            self._repeat(known, parcel, effects)
        else:
            self._open(origin, parcel, now, effects)

    def _open(self, origin: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]) -> None:
        item: Request = parcel.item  # type: ignore[assignment]
        refusal = self._refusal(origin, item)
        if refusal is None and origin.grants is not None:
            refusal = origin.grants.refusal(parcel, now)
        content = self.quarantine.content(parcel)
        if refusal is None and self.quarantine.suspects:
            refusal = self.quarantine.refusal(parcel, content, now)
        if refusal is not None:
            self._refuse(_key(item), origin, refusal, effects)
            return
        deadline = now + item.ttl_ms / 1000.0
        ticket = Ticket(_key(item), item.topic, origin, deadline, content=content)
        if is_reserved(item.topic):
            self.tickets.open(ticket)
            effects.append(Asked(ticket.key, item.topic))
        elif item.flags & _REPEAT and now < self.settled_at:
            # Servers are still coming back after our start: the one that knows this id may
            # be among them.
            self._again(ticket.key, origin, int((self.settled_at - now) * 1000) + 1, effects)
        else:
            self._place(ticket, parcel, effects)

    def _refusal(self, origin: Peer, item: Request) -> ZbusError | None:
        judged = origin.judged.get(item.number) if origin.judged else None
        if judged is not None:
            return judged.verdict
        if self.draining:
            return Draining(retry_after_s=0.25)
        if len(origin.asked) >= self._limits.open_requests:
            text = f"{origin.name} has {len(origin.asked)} requests open"
            return Overloaded(text, retry_after_s=BUSY_RETRY_S)
        return None

    def _place(self, ticket: Ticket, parcel: Parcel, effects: list[BrokerEffect]) -> None:
        """Give a new ticket to a handler, or let it wait, or refuse it."""
        item: Request = parcel.item  # type: ignore[assignment]
        engines_may = self.engine_to_engine
        if item.target and (refusal := misdirected(item, ticket.origin, self._roster, engines_may)):
            self._refuse(ticket.key, ticket.origin, refusal, effects)
            return
        possible = candidates(item, self._roster)
        if not possible:
            self._unserved(ticket, item, effects)
            return
        if item.flags & _PROBE:
            _tell(ticket.origin, Reply(*ticket.key, b"", 0), effects)
            return
        self.tickets.open(ticket)
        if item.flags & _REPEAT and (len(possible) > 1 or is_full(possible[0])):
            self._ask_next(ticket, parcel, possible, effects)
        else:
            self._forward(ticket, parcel, possible, effects)

    def _forward(
        self,
        ticket: Ticket,
        parcel: Parcel,
        candidates: list[Peer],
        effects: list[BrokerEffect],
    ) -> None:
        attached = [peer for peer in candidates if peer.route is not None]
        if not attached:
            self.tickets.close(ticket)
            self._again(ticket.key, ticket.origin, _DETACHED_RETRY_MS, effects)
            return
        if self.quarantine.suspects and not (attached := self.quarantine.apart(ticket, attached)):
            self.tickets.close(ticket)
            self._again(ticket.key, ticket.origin, self.quarantine.park(ticket), effects)
            return
        handler = least_busy(attached, self._roster.budget, weigh(parcel))
        if handler is None:
            self.tickets.close(ticket)
            refusal = no_room(ticket.topic, attached, self._roster.budget, effects)
            self._refuse(ticket.key, ticket.origin, refusal, effects)
            return
        self.quarantine.given(ticket, handler)
        self._hand_over(ticket, handler, parcel, effects)

    def _hand_over(
        self, ticket: Ticket, handler: Peer, parcel: Parcel, effects: list[BrokerEffect]
    ) -> None:
        if not handler.owes:
            # It owes from now on; silence while it owed nothing is no evidence (spec 8.3).
            handler.pulse.heard = max(handler.pulse.heard, ticket.origin.pulse.heard)
        self.tickets.give(ticket, handler)
        ticket.mark = say(handler, parcel, self._roster.budget, effects)

    def _unserved(self, ticket: Ticket, item: Request, effects: list[BrokerEffect]) -> None:
        if item.flags & _WAIT:
            ticket.probe = bool(item.flags & _PROBE)
            self.tickets.open(ticket)
            self.tickets.await_topic(ticket)
            return
        error = NoHandler(f'no peer serves topic "{item.topic}"')
        self._refuse(ticket.key, ticket.origin, error, effects)

    # -- a repeat comes --------------------------------------------------------------------

    def _repeat(self, ticket: Ticket, parcel: Parcel, effects: list[BrokerEffect]) -> None:
        """A request came again whose ticket is open: to the same handler, if it has one."""
        self.counts["repeats"] += 1
        handler = ticket.handler
        if handler is not None:
            if self._roster.budget.admits(handler.backlog, weigh(parcel)):
                again = self._marked(parcel, ticket.asking)
                say(handler, again, self._roster.budget, effects)
            else:
                ask_receipts([handler], self._roster.budget, effects)
                self._again(ticket.key, ticket.origin, _STALLED_RETRY_MS, effects)
            return
        if ticket.waits or is_reserved(ticket.topic):
            return
        item: Request = parcel.item  # type: ignore[assignment]
        self._ask_next(ticket, parcel, candidates(item, self._roster), effects)

    def _ask_next(
        self,
        ticket: Ticket,
        parcel: Parcel,
        candidates: list[Peer],
        effects: list[BrokerEffect],
    ) -> None:
        """Ask the next server whether it knows this id; once all said no, it is a new one."""
        undecided = [peer for peer in candidates if peer.name not in ticket.denied_by]
        for peer in undecided:
            if peer.route is not None and self._roster.budget.admits(peer.backlog, weigh(parcel)):
                ticket.asking = True
                self._hand_over(ticket, peer, self._marked(parcel, asking=True), effects)
                return
        if undecided:
            # A server that may know the id is away for a moment, or has no room; it is asked
            # when it is back, or has.
            ask_receipts(undecided, self._roster.budget, effects)
            self._again(ticket.key, ticket.origin, _DETACHED_RETRY_MS, effects)
            return
        ticket.asking = False
        if candidates:
            self._forward(ticket, self._marked(parcel, asking=False), candidates, effects)
            return
        self.tickets.close(ticket)
        error = NoHandler(f'no peer serves topic "{ticket.topic}"')
        self._refuse(ticket.key, ticket.origin, error, effects)

    def _marked(self, parcel: Parcel, asking: bool) -> Parcel:
        item: Request = parcel.item  # type: ignore[assignment]
        flags = item.flags | _ASK if asking else item.flags & ~_ASK
        return Parcel(with_flags(item, flags), parcel.frames)

    # -- an answer comes -------------------------------------------------------------------

    def answered(self, peer: Peer, parcel: Parcel, effects: list[BrokerEffect]) -> None:
        """A Reply or Fault came from ``peer``: passed on if it was asked, else dropped."""
        item = parcel.item
        assert isinstance(item, Reply | Fault)
        if not item.source:  # an id of nobody: how far it has read (spec 5.7)
            self._roster.budget.received(peer.backlog, item.number)
            return
        origin = self._roster.named(item.source)
        ticket = origin.asked.get(item.number) if origin is not None else None
        if ticket is None or ticket.handler is not peer or ticket.key.epoch != item.epoch:
            self.counts["late_answers"] += 1
            late = peer.unanswered.pop(Key(item.source, item.epoch, item.number), None)
            if late is not None:
                self._roster.budget.prove(peer.backlog, late.mark)
                self.survived(peer, late, item, effects)
            return
        self._roster.budget.prove(peer.backlog, ticket.mark)
        if isinstance(item, Fault) and item.code == UNKNOWN_ID:
            self._denied(peer, ticket, effects)
            return
        self.tickets.close(ticket)
        self.counts["answers"] += 1
        if ticket.origin.route is not None:
            effects.append(Send(ticket.origin.route, parcel))
        self.survived(peer, ticket, item, effects)

    def _denied(self, peer: Peer, ticket: Ticket, effects: list[BrokerEffect]) -> None:
        if not ticket.asking:
            # It was asked twice, and has been given the request since: that counts, not this.
            self.counts["late_answers"] += 1
            return
        ticket.denied_by += (peer.name,)
        self.tickets.give(ticket, None)
        self._again(ticket.key, ticket.origin, 0, effects)

    def survived(
        self, peer: Peer, ticket: Ticket, item: Reply | Fault, effects: list[BrokerEffect]
    ) -> None:
        """The handler has answered, and lives: what was kept back for that may go on."""
        if self.quarantine.suspects:
            for key in self.quarantine.answered(peer, ticket, item):
                origin = self._roster.named(key.source)
                if origin is not None and origin.epoch == key.epoch:
                    self._again(key, origin, 0, effects)

    def answer(self, key: Key, body: bytes, frames: Frames, effects: list[BrokerEffect]) -> None:
        """The broker itself answers a request on one of its own topics."""
        ticket = self._own(key)
        if ticket is not None:
            self.tickets.close(ticket)
            _tell(ticket.origin, Reply(*key, body, len(frames)), effects, frames)

    def refuse(self, key: Key, error: ZbusError, effects: list[BrokerEffect]) -> None:
        """The broker itself refuses a request on one of its own topics."""
        ticket = self._own(key)
        if ticket is not None:
            self.tickets.close(ticket)
            self._refuse(key, ticket.origin, error, effects)

    def cancelled(self, origin: Peer, item: Cancel, effects: list[BrokerEffect]) -> None:
        """A caller gave up: its handler is told, and the ticket is closed."""
        ticket = origin.asked.get(item.number)
        if ticket is not None and ticket.key.epoch == item.epoch == origin.epoch:
            self._cancel(ticket, effects)

    # -- peers come and go -----------------------------------------------------------------

    def handler_lost(self, peer: Peer, effects: list[BrokerEffect], died: bool = False) -> None:
        """Whoever waits for this peer is told that it is lost (P10). It may have run even what
        it was only asked about, for who runs it says nothing (spec 6.4)."""
        self.quarantine.lost(peer, died, effects)
        for ticket in list(peer.holds):
            lost = TargetLost(f'"{peer.name}" is lost while it had "{ticket.topic}"')
            error = self.quarantine.verdict(ticket) or lost
            self.tickets.judge(ticket, error)
            self._refuse(ticket.key, ticket.origin, error, effects)

    def origin_lost(self, peer: Peer, effects: list[BrokerEffect]) -> None:
        """Nobody waits any more for what this peer asked."""
        for ticket in list(peer.asked.values()):
            self._cancel(ticket, effects)
        self.tickets.forget_judged(peer)

    def handler_back(self, peer: Peer, effects: list[BrokerEffect]) -> None:
        """A handler is back on a new connection: what was under way to it, or from it, may be
        lost, so its origins say those requests again and it answers from memory (spec 6.6). What
        it answered to nobody is not said again."""
        peer.unanswered.clear()
        for ticket in peer.holds:
            self._again(ticket.key, ticket.origin, 0, effects, executed=1)

    def served(self, topic: str, effects: list[BrokerEffect]) -> None:
        """Somebody serves this topic now: those who waited for it may go on."""
        for ticket in self.tickets.awaiting(topic):
            self.tickets.close(ticket)
            if ticket.probe:
                _tell(ticket.origin, Reply(*ticket.key, b"", 0), effects)
            else:
                self._again(ticket.key, ticket.origin, 0, effects)

    def expire(self, now: float) -> None:
        """Close the tickets whose time is up."""
        self.counts["expired_tickets"] += len(self.tickets.due(now))

    # -- small things ----------------------------------------------------------------------

    def _own(self, key: Key) -> Ticket | None:
        origin = self._roster.named(key.source)
        ticket = origin.asked.get(key.number) if origin is not None else None
        return ticket if ticket is not None and ticket.key == key else None

    def _cancel(self, ticket: Ticket, effects: list[BrokerEffect]) -> None:
        handler = ticket.handler
        self.tickets.give_up(ticket)
        if handler is not None:
            _tell(handler, Cancel(*ticket.key), effects)

    def _refuse(
        self, key: Key, origin: Peer, error: ZbusError, effects: list[BrokerEffect]
    ) -> None:
        self.counts[type(error).__name__] += 1
        _tell(origin, fault_item(key, error), effects)

    def _again(
        self,
        key: Key,
        origin: Peer,
        retry_after_ms: int,
        effects: list[BrokerEffect],
        *,
        executed: int = 0,
    ) -> None:
        self.counts["again"] += 1
        _tell(origin, Fault(*key, AGAIN, executed, retry_after_ms, ""), effects)


def _key(item: Request) -> Key:
    return Key(item.source, item.epoch, item.number)


def _tell(peer: Peer, item: Item, effects: list[BrokerEffect], frames: Frames = NO_FRAMES) -> None:
    # A detached peer is told nothing: it asks again when it is back.
    if peer.route is not None:
        effects.append(Send(peer.route, Parcel(item, frames)))
