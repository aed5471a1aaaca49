"""MACHINE: a peer's side of the dialogue (spec sections 5 to 8).

What it is: one life of one peer. It is made of an ``Attachment`` (Hello, Welcome, losses, life),
the ``Asker`` (our requests), the ``Answerer`` (requests of others) and the push lanes out and in.
This room says who of them hears what, and when.

Its rules:

* Nothing but ``now`` and messages come in; nothing but effects go out.
* A loss of the broker is a pause: everything open is said again after the next Welcome (P6).
* Until the Welcome, and after a Bye, nothing else the broker says counts (spec 5.1, 5.6).
* Drain before you judge, and forgive your own stalls (spec 8.4, 8.5; P11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zbus.errors import ClosedError, TooLarge, ZbusError
from zbus.protocol.answerer import Answerer, fault_item
from zbus.protocol.asker import TO_BROKER, Asker
from zbus.protocol.attachment import Attachment
from zbus.protocol.attachment import Identity as Identity
from zbus.protocol.attachment import State as State
from zbus.protocol.credit import InLanes, OutLanes
from zbus.protocol.effect import Ended, Happened, Lane, LaneKey, Route, Send, SessionEffect
from zbus.protocol.limits import TOPICS_MAX
from zbus.protocol.limits import SessionLimits as SessionLimits
from zbus.protocol.liveness import BEATS_WHEN_BUSY
from zbus.protocol.memory import Memory
from zbus.protocol.message import (
    LARGE,
    NO_FRAMES,
    Bye,
    Cancel,
    Cause,
    Chunk,
    Credit,
    Done,
    Fault,
    Frames,
    Heartbeat,
    Key,
    Parcel,
    Push,
    Reply,
    Request,
    Serve,
    Welcome,
)
from zbus.protocol.objects import Objects
from zbus.protocol.requests import Ask

__all__ = ["Session"]

_TO_PIPE = Route(Lane.PUSH)
_REWIND_EVERY_S = 0.25
_PROBE_AFTER = 2.0
"""Silent heartbeats after which the newest push of a lane is said again (spec 7.7)."""


class Session:
    """One peer's dialogue with its broker."""

    def __init__(
        self,
        identity: Identity,
        topics: Iterable[str] = (),
        limits: SessionLimits | None = None,
        *,
        now: float = 0.0,
    ) -> None:
        self.limits = limits = limits or SessionLimits()
        name, epoch = identity.name, identity.epoch
        memory = Memory(limits.remembered, limits.remembered_bytes)
        self.objects = Objects(limits.objects_bytes)
        self.asker = Asker(name, epoch, self.objects)
        self.answerer = Answerer(memory, limits.window, self.objects)
        self.out_lanes = OutLanes(name, epoch, limits.pushes, limits.push_bytes)
        self.in_lanes = InLanes(limits.push_window, _REWIND_EVERY_S)
        self._topics = _checked(dict.fromkeys(topics))
        self.attachment = Attachment(identity, self._topics, limits.window, now)

    # -- the three verbs ------------------------------------------------------------------

    def receive(self, route: Route, parcels: Iterable[Parcel], now: float) -> list[SessionEffect]:
        """What the broker said. Anything it says counts as life (spec 8.1)."""
        effects: list[SessionEffect] = []
        attachment = self.attachment
        if attachment.state is not State.ENDED:
            attachment.heard(now)
        for parcel in parcels:
            answers = _ANSWERS if attachment.state is State.OPEN else _FIRST_ANSWERS
            answers.get(type(parcel.item), Session._unexpected)(self, parcel, now, effects)
        return self._said(effects, now)

    def tick(self, now: float) -> list[SessionEffect]:
        """Time has passed: end what is overdue, retry, emit pushes and credits, beat, judge."""
        effects: list[SessionEffect] = []
        attachment = self.attachment
        if attachment.state is State.NEW or attachment.state is State.ENDED:
            return effects
        attachment.vigil.turn(now)
        self.asker.end_overdue(now, effects)
        self.answerer.memory.expire(now)
        if self.objects.count:
            self.answerer.end_overdue(now)
        if attachment.state is State.OPENING:
            attachment.knock(now, effects)
        elif attachment.is_silent(now):
            attachment.lose("the broker is silent", now, effects)
        else:
            self._tick_open(now, effects)
        return self._said(effects, now)

    def wake_at(self) -> float | None:
        """When ``tick`` is next due."""
        attachment = self.attachment
        if attachment.state is State.NEW or attachment.state is State.ENDED:
            return None
        due = attachment.wake_at(self.beat_s)
        request_at = self.asker.requests.next_at(attachment.state is State.OPEN)
        return due if request_at is None or due <= request_at else request_at

    # -- what our own side asks for -------------------------------------------------------

    def open(self, now: float) -> list[SessionEffect]:
        """Begin: connect and say Hello."""
        effects: list[SessionEffect] = []
        self.attachment.open(now, effects)
        return self._said(effects, now)

    def close(self, now: float) -> list[SessionEffect]:
        """End it: every open request ends as ``Cancelled``, queued pushes are dropped."""
        effects: list[SessionEffect] = []
        if self.state is State.OPEN:
            effects.append(Send(TO_BROKER, Parcel(Bye(Cause.CLOSED, ""))))
        self._end(ClosedError(), effects)
        return effects

    def fail(self, error: ZbusError) -> list[SessionEffect]:
        """End it with an error of our own shell."""
        effects: list[SessionEffect] = []
        self._end(error, effects)
        return effects

    def lose(self, why: str, now: float) -> list[SessionEffect]:
        """Our shell can make nothing of this broker, or keep no more for it: attach anew."""
        effects: list[SessionEffect] = []
        if self.state is State.OPEN:
            self.attachment.lose(why, now, effects)
        return self._said(effects, now)

    def request(self, ask: Ask, now: float) -> list[SessionEffect]:
        """Open a request; its number is in ``ask`` afterwards, and its end is a ``Resolve``.

        Raises:
            ClosedError: the session has ended.
            TooLarge: the body is above what the broker or a message allows.
            Overloaded: this peer has as many open requests as the broker allows.
        """
        self._check_usable()
        self.asker.ask(ask, self.attachment.grant.open_max)
        effects: list[SessionEffect] = []
        if self.state is State.OPEN:
            self.asker.send(ask, now, effects)
        return self._said(effects, now)

    def cancel(self, number: int, now: float) -> list[SessionEffect]:
        """Give a request up. It ends as ``Cancelled``, unless it has ended already."""
        effects: list[SessionEffect] = []
        self.asker.cancel(number, self.state is State.OPEN, effects)
        return self._said(effects, now)

    def push(self, topic: str, body: bytes, frames: Frames = NO_FRAMES) -> None:
        """Accept a push; ``tick`` emits it, with all others that are ready.

        Raises:
            ClosedError, TooLarge: as for a request.
            Backpressure: the bound on unsettled pushes is reached.
        """
        self._check_usable()
        if self.objects.is_large(body, frames):
            raise TooLarge("a push does not travel in chunks; this one is too large without them")
        self.out_lanes.accept(topic, body, frames)

    def reply(self, key: Key, body: bytes, frames: Frames, now: float) -> list[SessionEffect]:
        """The handler of a started request returned.

        Raises:
            TooLarge: the body is above what the broker allows; say so with ``fault``.
        """
        if self.objects.is_large(body, frames):
            effects: list[SessionEffect] = []
            self.answerer.offer(key, body, frames, self.state is State.OPEN, effects)
            return self._said(effects, now)
        item = Reply(key.source, key.epoch, key.number, body, len(frames))
        return self._answer(key, Parcel(item, frames), now)

    def fault(self, key: Key, error: ZbusError, now: float) -> list[SessionEffect]:
        """The handler of a started request failed, or never ran."""
        return self._answer(key, Parcel(fault_item(key, error)), now)

    def taken(self, lane: LaneKey, sequence: int) -> None:
        """The handler is done with a lane's pushes up to ``sequence``; ``tick`` says so."""
        self.in_lanes.taken(lane, sequence)

    def serve(
        self, added: Iterable[str], withdrawn: Iterable[str], now: float
    ) -> list[SessionEffect]:
        """Serve further topics, or some no longer.

        Raises:
            TooLarge: these are more topics than one peer may serve.
        """
        effects: list[SessionEffect] = []
        item = Serve(tuple(added), tuple(withdrawn))
        topics = {topic: None for topic in self._topics if topic not in item.withdrawn}
        topics.update(dict.fromkeys(item.added))
        _checked(topics)
        self._topics.clear()
        self._topics.update(topics)
        self.answerer.withdrawn = (self.answerer.withdrawn | {*item.withdrawn}) - {*topics}
        if self.state is State.OPEN:
            effects.append(Send(TO_BROKER, Parcel(item)))
        return self._said(effects, now)

    @property
    def state(self) -> State:
        """Where the dialogue stands."""
        return self.attachment.state

    @property
    def identity(self) -> Identity:
        """Who this peer is."""
        return self.attachment.identity

    @property
    def losses(self) -> int:
        """How often the broker was lost."""
        return self.attachment.losses

    @property
    def refusal(self) -> ZbusError | None:
        """Why the broker does not take us in, as far as it said so."""
        return self.attachment.refusal

    @property
    def topics(self) -> tuple[str, ...]:
        """What this peer serves now."""
        return tuple(self._topics)

    @property
    def idle(self) -> bool:
        """Nothing is open in either direction and no push is unsettled."""
        return not (
            len(self.asker)
            or self.answerer.memory.running
            or self.in_lanes.queued
            or self.out_lanes.queued
            or self.objects.count
        )

    # -- time -----------------------------------------------------------------------------

    def _tick_open(self, now: float, effects: list[SessionEffect]) -> None:
        attachment = self.attachment
        awake = attachment.vigil.clock(now)
        self.asker.send_again(now, effects)
        if self.objects.count:
            effects.extend(Send(TO_BROKER, parcel) for parcel in self.objects.emit())
        effects.extend(Send(TO_BROKER, parcel) for parcel in self.in_lanes.emit())
        grant = attachment.grant
        pushes = self.out_lanes.emit(grant.session, awake)
        pushes += self.out_lanes.probe(grant.session, awake, _PROBE_AFTER * grant.interval_s)
        effects.extend(Send(_TO_PIPE, parcel) for parcel in pushes)
        self._said(effects, now)
        attachment.beat(self.beat_s, now, effects)

    @property
    def beat_s(self) -> float:
        """How long this peer may be silent now (spec 8.2)."""
        busy = len(self.asker) or self.answerer.memory.running or self.out_lanes.queued
        interval_s = self.attachment.grant.interval_s
        return interval_s / BEATS_WHEN_BUSY if busy or self.objects.count else interval_s

    def _said(self, effects: list[SessionEffect], now: float) -> list[SessionEffect]:
        for effect in effects:
            if type(effect) is Send and effect.to is TO_BROKER:
                self.attachment.said(now)
                break
        return effects

    # -- one method a kind of item ---------------------------------------------------------

    def _welcomed(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        item: Welcome = parcel.item  # type: ignore[assignment]
        if self.attachment.welcomed(item, now, effects):
            self.out_lanes.window = max(item.push_window, 1)
            self.out_lanes.rewind()
            self.objects.attached(item)
            self.asker.attached(now, self.attachment.settled_at, effects)

    def _dismissed(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        item: Bye = parcel.item  # type: ignore[assignment]
        if self.state is State.ENDED:
            return
        error = self.attachment.dismissed(item, now, effects)
        if error is not None:
            self._end(error, effects)

    def _requested(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        waited_s = self.attachment.vigil.waited_s(now)
        self.answerer.asked(parcel, self._topics, waited_s, now, effects)

    def _replied(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        self.asker.replied(parcel, effects)

    def _faulted(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        item: Fault = parcel.item  # type: ignore[assignment]
        self.asker.faulted(item, now, effects)

    def _cancelled(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        item: Cancel = parcel.item  # type: ignore[assignment]
        self.answerer.cancelled(item, effects)

    def _pushed(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        item: Push = parcel.item  # type: ignore[assignment]
        if item.topic in self._topics:
            take = self.in_lanes.receive(parcel, self.attachment.vigil.clock(now))
            if take is not None:
                effects.append(take)
        else:
            self.in_lanes.refuse(item)

    def _credited(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        item: Credit = parcel.item  # type: ignore[assignment]
        self.out_lanes.credit(item, self.attachment.vigil.clock(now))

    def _told_of_large(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        item = parcel.item
        if isinstance(item, Done) or (isinstance(item, Chunk) and not item.reply):
            self.answerer.told_of_large(parcel, now, effects)
        else:
            self.asker.told_of_large(parcel, effects)

    def _beat(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        """A heartbeat says nothing more than that the broker lives."""

    def _unexpected(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        if self.state is not State.ENDED:  # after which nothing counts, not even as odd
            kind = type(parcel.item).__name__
            effects.append(Happened("unexpected_item", (("kind", kind),)))

    # -- small things ----------------------------------------------------------------------

    def _end(self, error: ZbusError, effects: list[SessionEffect]) -> None:
        if self.state is State.ENDED:
            return
        self.asker.end_all(error, effects)
        self.out_lanes.drop_all()
        self.objects.clear()
        self.attachment.state = State.ENDED
        effects.append(Ended(error))

    def _answer(self, key: Key, answer: Parcel, now: float) -> list[SessionEffect]:
        effects: list[SessionEffect] = []
        self.answerer.answer(key, answer, self.state is State.OPEN, effects)
        return self._said(effects, now)

    def _check_usable(self) -> None:
        if self.state is State.ENDED:
            raise ClosedError()


def _checked(topics: dict[str, None]) -> dict[str, None]:
    if len(topics) > TOPICS_MAX:
        raise TooLarge(f"{len(topics)} topics; a peer may serve {TOPICS_MAX}")
    return topics


_Answer = Callable[[Session, Parcel, float, list[SessionEffect]], None]
_FIRST_ANSWERS: dict[type[Any], _Answer] = {
    Welcome: Session._welcomed,
    Bye: Session._dismissed,
}
_ANSWERS: dict[type[Any], _Answer] = {
    Bye: Session._dismissed,
    Heartbeat: Session._beat,
    Request: Session._requested,
    Reply: Session._replied,
    Fault: Session._faulted,
    Cancel: Session._cancelled,
    Push: Session._pushed,
    Credit: Session._credited,
}
_ANSWERS.update(dict.fromkeys(LARGE, Session._told_of_large))
