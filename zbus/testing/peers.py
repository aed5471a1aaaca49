"""Simulated peers and the simulated broker: the real shells, each as an actor on a stage.

Rules of this room:

* ``Link`` and ``Daemon`` run as they are; only network, clock and executor are the simulation's.
* Whoever asks or pushes does so as an I/O thread would: the call, then a turn at once.
* What callers are told goes to the history, and nothing that a machine says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from zbus.broker.daemon import Daemon
from zbus.broker.settings import Settings
from zbus.errors import ClosedError, ZbusError
from zbus.peer.body import decode_body, encode_body
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.link import Link, Observer
from zbus.protocol.credit import OutLanes
from zbus.protocol.effect import LaneKey, Outcome
from zbus.protocol.message import NO_FRAMES, Flag, Frames, Key, Parcel, Reply, Role
from zbus.protocol.requests import Ask
from zbus.protocol.session import Identity, Session, SessionLimits, State
from zbus.testing.history import Asked, History, Life
from zbus.testing.pool import QUICK, Pace, SimulatedPool
from zbus.testing.stage import Actor, Stage

__all__ = ["Manner", "Pending", "SimulatedBroker", "SimulatedPeer", "value_of"]

_WAIT = int(Flag.WAIT)
_OVERDUE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What a simulated peer is: its role, its proof, its bounds and how quick its handlers are."""

    role: Role = Role.ENGINE
    proof: bytes = b""
    limits: SessionLimits | None = None
    pace: Pace = QUICK


class Pending:
    """A request that was submitted. ``outcome`` is None until it has ended."""

    def __init__(self, peer: SimulatedPeer, asked: Asked) -> None:
        self._peer = peer
        self.asked = asked

    @property
    def outcome(self) -> Outcome | None:
        return self.asked.outcome

    @property
    def done(self) -> bool:
        return self.asked.outcome is not None

    def value(self) -> Any:
        """The body of the reply; an error is returned, not raised."""
        assert self.asked.outcome is not None, "it has not ended"
        return value_of(self.asked.outcome)

    def cancel(self) -> None:
        """Give it up."""
        self._peer.cancel(self.asked)


def value_of(outcome: Outcome) -> Any:
    """The body of a reply, or the error."""
    if not isinstance(outcome, Parcel):
        return outcome
    item = outcome.item
    assert isinstance(item, Reply)
    return decode_body(item.body, outcome.frames)


class SimulatedPeer(Actor):
    """An engine or a server: one ``Link`` a life."""

    link: Link

    def __init__(
        self,
        stage: Stage,
        history: History,
        name: str,
        endpoint: str,
        dispatcher: Dispatcher | None,
        manner: Manner,
    ) -> None:
        super().__init__(stage, name)
        self.manner = manner
        self.dispatcher = dispatcher
        self.topics: tuple[str, ...] = dispatcher.topics if dispatcher is not None else ()
        self.pool: SimulatedPool | None = None
        self.ends: Counter[str] = Counter()
        """How its lives ended, by the name of the error."""
        self._history = history
        self._endpoint = endpoint

    # -- its life ----------------------------------------------------------------------------

    def on_begin(self, now: float) -> None:
        manner = self.manner
        identity = Identity(name=self.name, role=manner.role, epoch=self.life, proof=manner.proof)
        session = Session(identity, self.topics, manner.limits, now=now)
        if self.dispatcher is not None:
            self.pool = SimulatedPool(self, self.dispatcher, self._history, manner.pace)
        observer = Observer(ended=self._note_end)
        self.link = Link(self.network, self._endpoint, session, self.pool, observer)
        self.link.open(now)

    def on_turn(self, now: float) -> bool:
        return self.link.step(now)

    def wake_at(self, now: float) -> float | None:
        return self.link.wake_at(now)

    @property
    def session(self) -> Session:
        return self.link.session

    @property
    def counters(self) -> OutLanes:
        """What became of its pushes: accepted = delivered + dropped + queued (P7)."""
        return self.session.out_lanes

    @property
    def is_attached(self) -> bool:
        return self.is_alive and self.session.state is State.OPEN

    @property
    def is_ended(self) -> bool:
        """Whether its session is over for good, though the process may live."""
        return self.session.state is State.ENDED

    def close(self) -> None:
        """Leave in good order: open requests end as Cancelled, and the process exits."""
        if self.is_running:
            self.link.close(self.now)
            self.network.close()
            self.end("leave")

    def _note_end(self, error: ZbusError) -> None:
        self.ends[type(error).__name__] += 1

    # -- what its callers do -----------------------------------------------------------------

    def submit(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: str = "raise",
    ) -> Pending:
        """Send a request. Errors as for ``Session.request``."""
        encoded, frames = encode_body(body)
        ask = Ask(topic, encoded, self.now + timeout, frames, to)
        ask.flags = _WAIT if unserved == "wait" else 0
        return self.submit_ask(ask)

    def outcome(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: str = "raise",
    ) -> Any:
        """Ask, let time pass until it has ended, and return the reply's body or the error."""
        try:
            pending = self.submit(topic, body, timeout=timeout, to=to, unserved=unserved)
        except ZbusError as error:
            return error
        until = pending.asked.deadline_at + _OVERDUE_S
        while not pending.done:
            if not self.stage.step(until):
                raise AssertionError(f'P1: "{topic}" has not ended {_OVERDUE_S} s after its time')
        return pending.value()

    def request(self, topic: str, body: Any = None, **options: Any) -> Any:
        """The same, but an error is raised."""
        value = self.outcome(topic, body, **options)
        if isinstance(value, ZbusError):
            raise value
        return value

    def submit_ask(self, ask: Ask) -> Pending:
        """Send a request whose body is encoded."""
        self._check_running()
        now = self.now
        asked: list[Asked] = []
        noted = replace(ask)  # a large body is not in the request any more once it is made
        try:
            number = self.link.request(ask, lambda outcome: self._told(asked[0], outcome), now)
        except ZbusError as error:
            self._history.refuse(error)
            raise
        key = Key(self.name, self.life, number)
        clock = self.stage.clock.now
        deadline_at = self.clock.instant(ask.deadline)
        life = Life(self.name, self.life)
        asked.append(Asked(key, life, noted, clock, deadline_at, self.is_attached))
        self._history.asked(asked[0])
        self.poke()
        return Pending(self, asked[0])

    def cancel(self, asked: Asked) -> None:
        """Give a request up."""
        if self.is_running and asked.life.number == self.life:
            self.link.cancel(asked.key.number, self.now)
            self.poke()

    def push(self, topic: str, body: Any = None) -> None:
        """Accept a push; errors as for ``Session.push``."""
        encoded, frames = encode_body(body)
        self.push_bytes(topic, encoded, frames)

    def push_bytes(self, topic: str, body: bytes, frames: Frames = NO_FRAMES) -> None:
        """Accept a push whose body is encoded."""
        self._check_running()
        try:
            self.link.push(topic, body, frames)
        except ZbusError as error:
            self._history.refuse(error)
            raise
        self._history.pushed(LaneKey(self.name, self.life, topic), body)
        self.poke()

    def serve(self, added: tuple[str, ...], withdrawn: tuple[str, ...]) -> None:
        """Serve further topics of the dispatcher, or some no longer."""
        self._check_running()
        self.topics = tuple(topic for topic in (*self.topics, *added) if topic not in withdrawn)
        self.link.serve(added, withdrawn, self.now)
        self.poke()

    def serve_again(self, topic: str) -> None:
        """Serve a topic that was withdrawn, in this life or an earlier one."""
        if topic not in self.topics and self.is_running and not self.is_ended:
            self.serve((topic,), ())

    def _check_running(self) -> None:
        if not self.is_running:
            raise ClosedError(f"{self.name} does not run")

    def _told(self, asked: Asked, outcome: Outcome) -> None:
        asked.early_s = asked.ask.deadline - self.now
        self._history.ended(asked, outcome, self.stage.clock.now)


class SimulatedBroker(Actor):
    """The broker: one ``Daemon`` a life, with another incarnation each."""

    daemon: Daemon

    def __init__(self, stage: Stage, settings: Settings) -> None:
        super().__init__(stage, "broker")
        self.settings = settings
        self.events: Counter[str] = Counter()
        """What happened in earlier lives, and what they counted."""
        self.drains = 0
        self._tokens = self._unguessable()
        self._drain_until: float | None = None

    def on_begin(self, now: float) -> None:
        self._drain_until = None
        self.daemon = Daemon(self.settings, self.network, self._tokens, now)
        self.daemon.open()

    def on_turn(self, now: float) -> bool:
        more = self.daemon.step(now)
        until = self._drain_until
        if until is not None and (self.daemon.is_drained or now >= until):
            self._leave(now)
        return more

    def wake_at(self, now: float) -> float | None:
        at = self.daemon.wake_at(now)
        until = self._drain_until
        if at is None or until is None:
            return at if until is None else until
        return min(at, until)

    def end(self, kind: str) -> None:
        """See ``Actor``; what was counted is kept."""
        if self.is_alive:
            self.events += self._counted()
        super().end(kind)

    def drain(self, seconds: float = 10.0) -> None:
        """SIGTERM: no new requests; it exits once the open ones have ended, or after so long."""
        if self.is_running and self._drain_until is None:
            self.drains += 1
            self.daemon.drain()
            self._drain_until = self.now + seconds
            self.poke()

    @property
    def is_draining(self) -> bool:
        return self.is_alive and self._drain_until is not None

    def counts(self) -> Counter[str]:
        """What all lives counted until now."""
        return self.events + self._counted() if self.is_alive else Counter(self.events)

    def _counted(self) -> Counter[str]:
        broker = self.daemon.broker
        return self.daemon.counts + broker.switchboard.counts + broker.conveyor.counts

    def _leave(self, now: float) -> None:
        self.daemon.close(now)
        self.end("leave")

    def _unguessable(self) -> Iterator[int]:
        chance = self.stage.chance("tokens")
        while True:
            yield chance.getrandbits(62) + 1
