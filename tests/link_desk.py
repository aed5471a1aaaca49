"""A desk with one link on it: the broker's side of the dialogue is the test's own.

Rules of this room:

* All is in memory and under virtual time, and a message arrives as soon as it is said, but for
  the faults that a test asks for.
* ``Desk.heard`` has every item that the link said, and ``say`` says any item back.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from zbus.errors import ConfigError, ZbusError
from zbus.peer.call import Call
from zbus.peer.link import Link, Observer
from zbus.protocol.codec import decode, encode
from zbus.protocol.effect import Happened, Outcome
from zbus.protocol.message import Flag, Heartbeat, Item, Parcel, Reply, Request, Role, Welcome
from zbus.protocol.requests import Ask
from zbus.protocol.session import Identity, Session, SessionLimits
from zbus.testing.clock import VirtualClock
from zbus.testing.fabric import MemoryFabric
from zbus.testing.faults import PERFECT, Faults
from zbus.testing.network import MemoryNetwork, MemoryPort

FRONTEND, PIPE = "ipc:///run/frontend", "ipc:///run/pipe"
NAME, EPOCH = "engine", 7
REPEAT = int(Flag.REPEAT)


@dataclass
class Hands:
    """An executor that notes what it is given; calls end when the test says so."""

    calls: list[Call] = field(default_factory=list)
    lanes: list[tuple[Hashable, list[Call]]] = field(default_factory=list)
    cancelled: list[Call] = field(default_factory=list)
    refuses: ZbusError | None = None

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        if self.refuses is not None:
            call.finish(self.refuses)

    def submit_lane(self, lane: Hashable, calls: Sequence[Call]) -> None:
        self.lanes.append((lane, list(calls)))

    def cancel(self, call: Call) -> None:
        self.cancelled.append(call)

    def close(self, drain_s: float) -> int:
        return 0


class ScantNetwork(MemoryNetwork):
    """There may be no descriptor for another socket."""

    scant: tuple[str, ...] = ()

    def connect_dealer(self, endpoint: str) -> MemoryPort:
        return super().connect_dealer(self._granted(endpoint))

    def connect_push(self, endpoint: str) -> MemoryPort:
        return super().connect_push(self._granted(endpoint))

    def _granted(self, endpoint: str) -> str:
        if endpoint in self.scant:
            raise ConfigError("too many open files")
        return endpoint


class Desk:
    """One link, and a broker's sockets that the test reads and writes by hand."""

    def __init__(
        self,
        *topics: str,
        faults: Faults = PERFECT,
        limits: SessionLimits | None = None,
        scant: tuple[str, ...] = (),
    ) -> None:
        self.clock = VirtualClock(1_000.0)
        self.fabric = MemoryFabric(random.Random(1), self.clock, faults)
        broker = MemoryNetwork(self.fabric, "broker")
        self.router, self.pull = broker.bind_router(FRONTEND), broker.bind_pull(PIPE)
        self.network = ScantNetwork(self.fabric, NAME)
        self.network.scant = scant
        self.hands = Hands()
        self.heard: list[Parcel] = []
        self.routes: list[bytes] = []
        self.pushed: list[Parcel] = []
        self.seen: list[object] = []
        identity = Identity(name=NAME, role=Role.ENGINE, epoch=EPOCH)
        self.session = Session(identity, topics, limits, now=self.clock.now)
        observer = Observer(
            attached=self.seen.append,
            detached=self.seen.append,
            ended=self.seen.append,
            happened=self.seen.append,
        )
        self.link = Link(self.network, FRONTEND, self.session, self.hands, observer)
        self.outcomes: dict[int, list[Outcome]] = {}

    @property
    def now(self) -> float:
        return self.clock.now

    def attached(self, session: int = 11) -> Desk:
        """Through Hello and Welcome; nothing of that is left to hear."""
        self.link.open(self.now)
        self.turn()
        self.welcome(session)
        self.heard.clear()
        self.seen.clear()
        return self

    def welcome(self, session: int = 11, pipe: tuple[str, ...] = (PIPE,)) -> None:
        self.say(Welcome(session, 99, 1_000, 1_000, 100, 8, pipe, 0))

    def turn(self) -> None:
        """Everything under way arrives, and the link turns until it wants nothing more at once."""
        for _ in range(20):
            self.fabric.advance(self.now)
            more = self.link.step(self.now)
            self.fabric.advance(self.now)
            self._listen()
            wake_at = self.link.wake_at(self.now)
            if not more and not self.network.readable() and (wake_at is None or wake_at > self.now):
                return
        raise AssertionError("the link turns on and on while no time passes")

    def after(self, seconds: float) -> None:
        """Let time pass; the link turns whenever it asks to."""
        until = self.now + seconds
        for _ in range(1_000):
            wake_at = self.link.wake_at(self.now)
            self.fabric.advance(min(until, max(until if wake_at is None else wake_at, self.now)))
            self.turn()
            if self.now >= until:
                return
        raise AssertionError("the link turns on and on")

    def _listen(self) -> None:
        for route, frames in self.router.drain(1_000):
            self.routes.append(route)
            self.heard.extend(decode(frames))
        for _, frames in self.pull.drain(1_000):
            self.pushed.extend(decode(frames))

    def say(self, *items: Item, frames: tuple[bytes, ...] = ()) -> None:
        """The broker says this on the newest connection."""
        parcels = [Parcel(item, frames) for item in items]
        self.say_frames(encode(parcels))

    def say_frames(self, frames: Sequence[bytes | memoryview]) -> None:
        self.router.send(self.routes[-1], frames)
        self.turn()

    def items(self) -> list[Item]:
        """What the link has said since this was asked last, but for heartbeats."""
        heard, self.heard = self.heard, []
        return [parcel.item for parcel in heard if not isinstance(parcel.item, Heartbeat)]

    def happened(self) -> list[str]:
        return [event.event for event in self.seen if isinstance(event, Happened)]

    def ask(self, topic: str = "work", body: bytes = b"", timeout: float = 10.0) -> int:
        """A request; its outcomes are noted under its number."""
        ask = Ask(topic, body, self.now + timeout)
        outcomes: list[Outcome] = []
        self.link.request(ask, outcomes.append, self.now)
        self.outcomes[ask.number] = outcomes
        self.link.flush(self.now)
        return ask.number

    def asked(self, number: int, topic: str = "serve", body: bytes = b"?") -> Call:
        """Somebody asks a topic that is served here; the call that its handler gets."""
        self.say(Request("other", 3, number, topic, "", 5_000, 0, number, (), "trace", body, 0))
        return self.hands.calls[-1]

    def outcome(self, number: int) -> Outcome:
        """The one outcome of a request."""
        (outcome,) = self.outcomes[number]
        return outcome


def reply(number: int, body: bytes = b"!") -> Reply:
    return Reply(NAME, EPOCH, number, body, 0)
