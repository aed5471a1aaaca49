"""MACHINE: the broker (spec sections 5 to 8).

What it is: it takes peers in, routes requests to who serves them, carries answers back to who
asked, moves pushes, and judges: is it alive, is it allowed, is there room, is there time. It
never opens a body and never stores one. This room holds attaching and liveness; requests are
the ``Switchboard``'s and pushes the ``Conveyor``'s.

    who       says                      then
    stranger  Hello                     known: Welcome; or refused: Bye
    stranger  anything else             Bye "hello first"
    known     Request                   forwarded; or Fault: no target, no handler, overloaded
    known     Reply, Fault, its ticket  to the origin; the ticket is closed
    known     Reply, Fault, no ticket   dropped and counted
    pipe      Push                      forwarded to the lane's server; or Credit "keep it"
    known     unreachable               detached: may come back within one heartbeat
    known     silence, Bye              forgotten: Fault "target lost" to those who wait for it
    clock     a ticket's time is up     closed; its origin has told its caller already
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zbus.errors import ZbusError
from zbus.protocol.admission import Admission, not_pushed
from zbus.protocol.budget import Budget
from zbus.protocol.conveyor import Conveyor
from zbus.protocol.deadlines import Deadlines
from zbus.protocol.effect import BrokerEffect, Happened, Lane, Route, Send
from zbus.protocol.limits import TOPICS_MAX, Limits
from zbus.protocol.liveness import BEATS_WHEN_BUSY, PATIENCE, PATIENCE_IDLE, Vigil
from zbus.protocol.message import (
    LARGE,
    NO_FRAMES,
    Bye,
    Cancel,
    Cause,
    Credit,
    Fault,
    Frames,
    Heartbeat,
    Hello,
    Item,
    Key,
    Parcel,
    Push,
    Reply,
    Request,
    Role,
    Serve,
    Welcome,
)
from zbus.protocol.notices import bye, happened
from zbus.protocol.outboxes import Outboxes
from zbus.protocol.policy import Policy
from zbus.protocol.relay import Relay
from zbus.protocol.roster import Peer, Roster
from zbus.protocol.switchboard import Switchboard

__all__ = ["Broker"]

_GRACE = 1.0
"""Heartbeats that a detached peer has to come back."""
_NEARLY = 0.9


class Broker:
    """One life of a broker.

    ``tokens`` gives unguessable integers below 2^63: the first is this broker's incarnation, the
    others its sessions. ``pipe`` holds the endpoints that peers are told to push to.
    """

    def __init__(
        self,
        limits: Limits,
        tokens: Iterator[int],
        *,
        pipe: tuple[str, ...],
        engine_to_engine: bool = True,
        policy: Policy | None = None,
        now: float = 0.0,
    ) -> None:
        self.limits = limits
        self.incarnation = next(tokens)
        self.roster = Roster(Budget(limits.target_bytes, limits.memory_bytes))
        self.switchboard = Switchboard(self.roster, limits, engine_to_engine)
        self.switchboard.settled_at = now + limits.restart_settle_s
        self.relay = Relay(self.roster, self.switchboard)
        self.conveyor = Conveyor(self.roster, limits)
        self.outboxes = Outboxes(self.roster, limits)
        self.reaches: Callable[[Route], bool] = lambda route: True
        """Whether the shell still has a connection there."""
        self.admission = Admission(self.roster, limits, policy or Policy())
        self._tokens = tokens
        self._pipe = pipe
        self._vigil = Vigil(now, limits.heartbeat_s / BEATS_WHEN_BUSY)
        self._checks: Deadlines[Peer] = Deadlines()

    # -- the three verbs ------------------------------------------------------------------

    def receive(self, route: Route, parcels: Iterable[Parcel], now: float) -> list[BrokerEffect]:
        """What came on a route. Anything from a known peer counts as life (spec 8.1)."""
        effects: list[BrokerEffect] = []
        self._vigil.turn(now)
        if route.lane is Lane.PIPE:
            for parcel in parcels:
                if type(parcel.item) is Push:
                    self.conveyor.pushed(parcel, now, effects)
            for denied, topic in self.conveyor.denied.items():
                self._expel(denied, not_pushed(topic), effects, Cause.DENIED)
            self.conveyor.denied.clear()
            return effects
        peer = self.roster.at(route)
        for parcel in parcels:
            if type(parcel.item) is Hello:
                self._hello(route, parcel.item, now, effects)
                peer = self.roster.at(route)
            elif peer is None:
                effects.append(bye(route, Cause.HELLO_FIRST, "say hello first"))
                break
            else:
                peer.pulse.heard = self._vigil.clock(now)
                _SAID[type(parcel.item)](self, peer, parcel, now, effects)
                peer = self.roster.at(route)
        return effects

    def tick(self, now: float) -> list[BrokerEffect]:
        """Time has passed: close overdue tickets, beat, and judge who is lost."""
        effects: list[BrokerEffect] = []
        self._vigil.turn(now)
        self.switchboard.expire(now)
        self.conveyor.tick(now, effects)
        awake = self._vigil.clock(now)
        for peer in self._checks.due(awake):
            self._check(peer, awake, effects)
        return effects

    def wake_at(self) -> float:
        """When ``tick`` is next due."""
        due = self._vigil.next_turn()
        for at in (self.switchboard.tickets.next_at(), self.conveyor.next_at()):
            due = due if at is None else min(due, at)
        return due

    # -- what the shell learns -------------------------------------------------------------

    def gone(self, route: Route, now: float) -> list[BrokerEffect]:
        """The socket says that this route cannot be reached."""
        peer = self.roster.at(route)
        if peer is None:
            return []
        awake = self._vigil.clock(now)
        self.roster.detach(peer, awake)
        self._check_later(peer, awake)
        return [happened("peer_detached", peer)]

    def cut(self, route: Route, cause: Cause, text: str, now: float) -> list[BrokerEffect]:
        """Whoever is at this route is sent away: it sent garbage, or does not read."""
        effects: list[BrokerEffect] = [bye(route, cause, text)]
        peer = self.roster.at(route)
        if peer is not None:
            self._forget(peer, cause.name.lower(), effects)
        return effects

    def answer(self, key: Key, body: bytes, frames: Frames = NO_FRAMES) -> list[BrokerEffect]:
        """Answer an ``Asked``."""
        effects: list[BrokerEffect] = []
        self.switchboard.answer(key, body, frames, effects)
        return effects

    def refuse(self, key: Key, error: ZbusError) -> list[BrokerEffect]:
        """Refuse an ``Asked``."""
        effects: list[BrokerEffect] = []
        self.switchboard.refuse(key, error, effects)
        return effects

    def drain(self) -> None:
        """Take no new requests from now on; open ones go on (P18)."""
        self.switchboard.draining = True

    def adopt(self, policy: Policy, engine_to_engine: bool) -> list[BrokerEffect]:
        """Other rules or keys hold from now on (P19): whom they do not allow is sent away."""
        effects: list[BrokerEffect] = []
        self.switchboard.engine_to_engine = engine_to_engine
        self.admission.policy = policy
        for peer in self.roster:
            pushed = [lane.topic for lane in self.conveyor.lanes.of_origin(peer)]
            if unfit := self.admission.unfit(peer, pushed):
                self._expel(peer, unfit, effects, Cause.DENIED)
        return effects

    def close(self) -> list[BrokerEffect]:
        """Say goodbye to everybody."""
        text = "the broker is going down"
        return [
            bye(peer.route, Cause.DRAINING, text) for peer in self.roster if peer.route is not None
        ]

    # -- attaching -------------------------------------------------------------------------

    def _hello(self, route: Route, hello: Hello, now: float, effects: list[BrokerEffect]) -> None:
        refusal = self.admission.refusal(route, hello)
        if refusal is not None:
            effects.append(bye(route, *refusal))
            fields = (("peer", hello.name), ("cause", refusal[0].name.lower()))
            effects.append(Happened("hello_refused", fields))
            return
        other = self.roster.at(route)
        known = self.roster.named(hello.name)
        if other is not None and other is not known:
            self._forget(other, "said hello as another", effects)
        if known is not None and known.epoch < hello.epoch:
            self._supersede(known, effects)
            known = None
        awake = self._vigil.clock(now)
        if known is None:
            self.switchboard.quarantine.acquit(hello.name, hello.epoch)
        peer = known or self.roster.add(hello, self._window(hello), awake)
        self.admission.grant(peer, route)
        self._attach(peer, route, hello, awake, effects)

    def _window(self, hello: Hello) -> int:
        return max(1, min(hello.window, self.limits.window))

    def _attach(
        self,
        peer: Peer,
        route: Route,
        hello: Hello,
        awake: float,
        effects: list[BrokerEffect],
    ) -> None:
        back = peer.session != 0
        peer.pulse.heard = awake
        peer.window = self._window(hello)
        self.roster.attach(peer, route, next(self._tokens))
        welcome = self.admission.welcome(peer, self.incarnation, self._pipe)
        self._tell(peer, welcome, effects)
        effects.append(happened("peer_attached", peer))
        self._check_later(peer, awake)
        if back:
            self.switchboard.handler_back(peer, effects)
            self.conveyor.server_back(peer, effects)
            self.conveyor.origin_back(peer, effects)
        served = set(hello.topics)
        withdrawn = [topic for topic in peer.topics if topic not in served]
        self._serve(peer, hello.topics, withdrawn, effects)

    def _serve(
        self,
        peer: Peer,
        added: Iterable[str],
        withdrawn: Iterable[str],
        effects: list[BrokerEffect],
    ) -> None:
        self.roster.serve(peer, added, withdrawn)
        if peer.role is Role.SERVER:
            for topic in added:
                self.switchboard.served(topic, effects)
                self.conveyor.served(topic, effects)

    def _supersede(self, peer: Peer, effects: list[BrokerEffect]) -> None:
        died = peer.route is None or not self.reaches(peer.route)
        if peer.route is not None:
            text = f'a newer start of "{peer.name}" took over'
            effects.append(bye(peer.route, Cause.SUPERSEDED, text))
        self._forget(peer, "superseded", effects, died)

    def _forget(
        self, peer: Peer, why: str, effects: list[BrokerEffect], died: bool = False
    ) -> None:
        self._checks.remove(peer)
        self.admission.release(peer)
        self.roster.remove(peer)
        self.switchboard.handler_lost(peer, effects, died)
        self.switchboard.origin_lost(peer, effects)
        self.conveyor.server_lost(peer, effects)
        self.conveyor.origin_lost(peer)
        effects.append(happened("peer_lost", peer, why))

    # -- liveness --------------------------------------------------------------------------

    def _check(self, peer: Peer, awake: float, effects: list[BrokerEffect]) -> None:
        interval_s = self.limits.heartbeat_s
        if peer.route is None and awake - peer.detached_at >= _GRACE * interval_s:
            self._forget(peer, "did not come back", effects, died=True)
            return
        if peer.pulse.lost(awake, self._patience_s(peer)):
            self._forget(peer, "silent", effects)
            return
        if peer.route is not None and peer.pulse.must_speak(awake, interval_s * _NEARLY):
            self._tell(peer, Heartbeat(), effects)
            peer.pulse.spoke = awake
        self._check_later(peer, awake)

    def _check_later(self, peer: Peer, awake: float) -> None:
        interval_s = self.limits.heartbeat_s
        if peer.route is None:
            due = peer.detached_at + _GRACE * interval_s
        else:
            due = peer.pulse.spoke + interval_s * _NEARLY
        lost_at = peer.pulse.heard + self._patience_s(peer)
        self._checks.set(peer, max(min(due, lost_at), awake))

    def _patience_s(self, peer: Peer) -> float:
        return (PATIENCE if peer.owes else PATIENCE_IDLE) * self.limits.heartbeat_s

    # -- one method a kind of item -----------------------------------------------------------

    def _requested(
        self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]
    ) -> None:
        item: Request = parcel.item  # type: ignore[assignment]
        if item.source != peer.name or item.epoch != peer.epoch:
            self._expel(peer, "a request in another's name", effects)
            return
        waited_s = self._vigil.waited_s(now)
        self.switchboard.asked(peer, parcel, waited_s, now, effects)

    def _answered(
        self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]
    ) -> None:
        self.switchboard.answered(peer, parcel, effects)

    def _cancelled(
        self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]
    ) -> None:
        item: Cancel = parcel.item  # type: ignore[assignment]
        if item.source == peer.name:
            self.switchboard.cancelled(peer, item, effects)

    def _relayed(self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]) -> None:
        self.relay.said(peer, parcel, effects)

    def _credited(
        self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]
    ) -> None:
        item: Credit = parcel.item  # type: ignore[assignment]
        self.conveyor.credited(peer, item, effects)

    def _served(self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]) -> None:
        item: Serve = parcel.item  # type: ignore[assignment]
        served = peer.topics.keys() - set(item.withdrawn) | set(item.added)
        if len(served) > TOPICS_MAX:
            self._expel(peer, f"serves more than {TOPICS_MAX} topics", effects)
        elif denied := self.admission.not_served(peer, item.added):
            self._expel(peer, denied, effects, Cause.DENIED)
        else:
            self._serve(peer, item.added, item.withdrawn, effects)

    def _said_bye(
        self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]
    ) -> None:
        self._forget(peer, "said bye", effects)

    def _beat(self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]) -> None:
        """A heartbeat says nothing more than that the peer lives."""

    def _unexpected(
        self, peer: Peer, parcel: Parcel, now: float, effects: list[BrokerEffect]
    ) -> None:
        self._expel(peer, f"a {type(parcel.item).__name__} from a peer", effects)

    def _expel(
        self,
        peer: Peer,
        text: str,
        effects: list[BrokerEffect],
        cause: Cause = Cause.MALFORMED,
    ) -> None:
        if peer.route is not None:
            effects.append(bye(peer.route, cause, text))
        self._forget(peer, text, effects)

    def _tell(self, peer: Peer, item: Item, effects: list[BrokerEffect]) -> None:
        if peer.route is not None:
            effects.append(Send(peer.route, Parcel(item)))


_Said = Callable[[Broker, Peer, Parcel, float, list[BrokerEffect]], None]
_SAID: dict[type[Any], _Said] = {
    Request: Broker._requested,
    Reply: Broker._answered,
    Fault: Broker._answered,
    Cancel: Broker._cancelled,
    Credit: Broker._credited,
    Serve: Broker._served,
    Bye: Broker._said_bye,
    Heartbeat: Broker._beat,
    Welcome: Broker._unexpected,
    Push: Broker._unexpected,
}
_SAID.update(dict.fromkeys(LARGE, Broker._relayed))
