"""Sessions and brokers back to back, through the real codec and without a network.

Rules of this room:

* Time stands still unless ``run`` lets it pass; then every machine is turned whenever it asks.
* What became ready together travels as one message, as the turn has it. A message is under way
  until ``settle`` delivers it, so that ``cut`` can lose it.
* After every turn the tables of the machine agree, and no machine asks to be turned at once for
  nothing.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zbus.errors import ZbusError
from zbus.protocol.attachment import Identity, State
from zbus.protocol.broker import Broker
from zbus.protocol.codec import decode, encode
from zbus.protocol.effect import (
    Abandon,
    Asked,
    Attached,
    BrokerEffect,
    Detached,
    Ended,
    Happened,
    Lane,
    LaneKey,
    Outcome,
    Reconnect,
    Resolve,
    Route,
    Send,
    SessionEffect,
    Start,
    Take,
    Told,
)
from zbus.protocol.limits import Limits
from zbus.protocol.message import NO_FRAMES, Item, Key, Parcel, Reply, Role
from zbus.protocol.requests import Ask
from zbus.protocol.session import Session, SessionLimits
from zbus.testing.tables import broker_quarrels, session_quarrels

Message = list[bytes | memoryview]
ROUNDS_MAX = 10_000
UNSETTLED = Limits(restart_settle_s=0.0)
"""A broker that does not wait for servers to come back."""


def sent(effects: Sequence[SessionEffect | BrokerEffect]) -> list[Item]:
    """The items that these effects say, in order."""
    return [effect.parcel.item for effect in effects if isinstance(effect, Send)]


def grouped(effects: Sequence[SessionEffect | BrokerEffect]) -> dict[Route, Message]:
    """One message for each route, as a flush makes them."""
    parcels: dict[Route, list[Parcel]] = defaultdict(list)
    for effect in effects:
        if isinstance(effect, Send):
            parcels[effect.to].append(effect.parcel)
    return {route: encode(group) for route, group in parcels.items()}


@dataclass(eq=False)
class End:
    """A session and all that a shell would keep for it. ``holds`` handlers end when the test
    says so; else a request is answered with its body reversed, and pushes are taken at once."""

    session: Session
    holds: bool = False
    route: Route | None = None
    up: deque[tuple[Lane, Message]] = field(default_factory=deque)
    down: deque[Message] = field(default_factory=deque)
    stopped: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    ended_at: dict[int, float] = field(default_factory=dict)
    starts: Counter[Key] = field(default_factory=Counter)
    running: dict[Key, Start] = field(default_factory=dict)
    abandoned: list[Key] = field(default_factory=list)
    pushes: list[tuple[LaneKey, int, bytes]] = field(default_factory=list)
    takes: deque[tuple[LaneKey, int]] = field(default_factory=deque)
    seen: list[SessionEffect] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.session.identity.name

    @property
    def is_open(self) -> bool:
        return self.session.state is State.OPEN

    def bodies(self, topic: str) -> list[bytes]:
        """What was taken on a topic, in the order of the handler's calls."""
        return [body for lane, _, body in self.pushes if lane.topic == topic]


class Bus:
    """One broker at a time and any number of sessions, under one clock."""

    def __init__(self, limits: Limits = UNSETTLED, now: float = 0.0) -> None:
        self.now = now
        self.limits = limits
        self.ends: dict[str, End] = {}
        self.broker: Broker | None = None
        self.stopped = False
        self.to_broker: deque[tuple[Route, Message]] = deque()
        self.asked: list[Asked] = []
        self.happened: list[Happened] = []
        self.messages = 0
        self._tokens = itertools.count(1_000)
        self._routes = itertools.count(1)
        self.start()

    # -- processes -------------------------------------------------------------------------

    def start(self, limits: Limits | None = None) -> Broker:
        """A broker begins. Connections that waited for one find it by themselves."""
        self.limits = limits or self.limits
        self.broker = Broker(self.limits, self._tokens, pipe=("ipc:///pipe",), now=self.now)
        return self.broker

    def kill(self) -> None:
        """The broker is gone, with all that was under way; nobody is told."""
        self.broker = None
        self.to_broker.clear()
        for end in self.ends.values():
            end.route = None
            end.down.clear()

    def leave(self) -> None:
        """The broker says goodbye to everybody, and ends."""
        assert self.broker is not None
        self.carry_broker(self.broker.close())
        self._deliver_down()
        self.kill()

    def replace(self, limits: Limits | None = None) -> Broker:
        """Kill -9, and start again."""
        self.kill()
        return self.start(limits)

    def join(
        self,
        name: str,
        *topics: str,
        holds: bool = False,
        epoch: int = 1,
        limits: SessionLimits | None = None,
    ) -> End:
        """A peer begins: a server where it has topics and its name says so, else an engine."""
        role = Role.SERVER if name.startswith("server") else Role.ENGINE
        identity = Identity(name=name, role=role, epoch=epoch)
        end = self.ends[name] = End(Session(identity, topics, limits, now=self.now), holds)
        self.carry(end, end.session.open(self.now))
        self.settle()
        return end

    def crash(self, name: str) -> End:
        """A peer is gone, and says nothing more; what it said is still under way."""
        end = self.ends.pop(name)
        if self.broker is not None and end.route is not None:
            self.carry_broker(self.broker.gone(end.route, self.now))
        return end

    def cut(self, end: End, up: int = 0, down: int = 0) -> None:
        """The connection ends; the newest messages under way are lost. The socket connects
        again by itself, and its session does not notice."""
        for _ in range(min(up, len(end.up))):
            end.up.pop()
        for _ in range(min(down, len(end.down))):
            end.down.pop()
        end.route = None

    # -- calls -----------------------------------------------------------------------------

    def ask(
        self,
        end: End,
        topic: str,
        body: bytes = b"",
        timeout: float = 5.0,
        *,
        target: str = "",
        flags: int = 0,
    ) -> int:
        """A request; its number."""
        ask = Ask(topic, body, self.now + timeout, target=target, flags=flags)
        self.carry(end, end.session.request(ask, self.now))
        return ask.number

    def answer(self, end: End, key: Key | None = None, body: bytes = b"done") -> None:
        """A held handler returns."""
        key = key or next(iter(end.running))
        del end.running[key]
        self.carry(end, end.session.reply(key, body, NO_FRAMES, self.now))

    def take(self, end: End, count: int = 1) -> None:
        """A held handler is done with its oldest pushes."""
        for _ in range(min(count, len(end.takes))):
            end.session.taken(*end.takes.popleft())

    def serve(self, end: End, added: Sequence[str] = (), withdrawn: Sequence[str] = ()) -> None:
        self.carry(end, end.session.serve(added, withdrawn, self.now))

    # -- turning ---------------------------------------------------------------------------

    def tick(self) -> None:
        """Everybody who is not stopped turns once."""
        for end in list(self.ends.values()):
            if not end.stopped:
                self.carry(end, end.session.tick(self.now))
                wake_at = end.session.wake_at()
                assert wake_at is None or wake_at > self.now, "a busy loop of a session"
        if self.broker is not None and not self.stopped:
            self.carry_broker(self.broker.tick(self.now))
            assert self.broker.wake_at() > self.now, "a busy loop of the broker"

    def settle(self) -> None:
        """Deliver and turn until nothing is under way, and no time passes."""
        for _ in range(ROUNDS_MAX):
            moved = self._deliver_up() + self._deliver_down()
            self.tick()
            if not moved and not self._is_under_way():
                return
        raise AssertionError("messages go round and round while no time passes")

    def hop(self) -> None:
        """Deliver what is under way to the broker; what it says is then under way."""
        self._deliver_up()

    def run(self, seconds: float) -> None:
        """Let time pass; every machine turns when it asks to."""
        until = self.now + seconds
        self.settle()
        for _ in range(ROUNDS_MAX):
            self.now = min([until, *self._wake_times()])
            self.settle()
            if self.now >= until:
                return
        raise AssertionError("machines turn on and on")

    def run_until(self, condition: Callable[[], bool], bound_s: float = 30.0) -> float:
        """Let time pass until it holds; how long that took."""
        began = self.now
        while not condition():
            assert self.now - began < bound_s, "it never came"
            self.run(0.05)
        return self.now - began

    def _wake_times(self) -> list[float]:
        times = [
            wake_at
            for end in self.ends.values()
            if not end.stopped and (wake_at := end.session.wake_at()) is not None
        ]
        if self.broker is not None and not self.stopped:
            times.append(self.broker.wake_at())
        return times

    def _is_under_way(self) -> bool:
        if self.broker is not None and not self.stopped and self.to_broker:
            return True
        return any(
            (end.up and self.broker is not None) or (end.down and not end.stopped)
            for end in self.ends.values()
        )

    def _deliver_up(self) -> int:
        if self.broker is None:
            return 0
        for end in self.ends.values():
            while end.up:
                lane, message = end.up.popleft()
                self.to_broker.append((self._route_of(end, lane), message))
        moved = 0
        while self.to_broker and not self.stopped:
            route, message = self.to_broker.popleft()
            self.carry_broker(self.broker.receive(route, decode(message), self.now))
            moved += 1
        return moved

    def _deliver_down(self) -> int:
        moved = 0
        for end in list(self.ends.values()):
            while end.down and not end.stopped:
                message = end.down.popleft()
                self.carry(end, end.session.receive(Route(Lane.BROKER), decode(message), self.now))
                moved += 1
        return moved

    def _route_of(self, end: End, lane: Lane) -> Route:
        if lane is Lane.PUSH:
            return Route(Lane.PIPE)
        if end.route is None:
            server = end.session.identity.role is Role.SERVER
            socket = Lane.BACKEND if server else Lane.FRONTEND
            end.route = Route(socket, b"%d" % next(self._routes))
        return end.route

    # -- effects ---------------------------------------------------------------------------

    def carry(self, end: End, effects: Sequence[SessionEffect]) -> None:
        """Do what a session wants done."""
        end.seen.extend(effects)
        opened = [at for at, effect in enumerate(effects) if isinstance(effect, Reconnect)]
        if opened:
            end.up.clear()
            end.down.clear()
            end.route = None
        said = effects[opened[-1] :] if opened else effects
        for route, message in grouped(said).items():
            end.up.append((route.lane, message))
            self.messages += 1
        for effect in effects:
            self._carry_one(end, effect)
        assert not list(session_quarrels(end.session))

    def _carry_one(self, end: End, effect: SessionEffect) -> None:
        if isinstance(effect, Resolve):
            assert effect.number not in end.outcomes, "P1: a second outcome"
            end.outcomes[effect.number] = effect.outcome
            end.ended_at[effect.number] = self.now
        elif isinstance(effect, Start):
            end.starts[effect.key] += 1
            assert effect.deadline > self.now, "P2: it started too late"
            end.running[effect.key] = effect
            if not end.holds:
                self.answer(end, effect.key, effect.request.body[::-1])
        elif isinstance(effect, Take):
            for sequence, (body, _) in enumerate(effect.bodies, effect.sequence):
                end.pushes.append((effect.lane, sequence, body))
                end.takes.append((effect.lane, sequence))
            if not end.holds:
                self.take(end, len(end.takes))
        elif isinstance(effect, Abandon):
            end.abandoned.append(effect.key)
        else:
            others = Send | Happened | Reconnect | Attached | Detached | Ended | Told
            assert isinstance(effect, others)

    def carry_broker(self, effects: Sequence[BrokerEffect]) -> None:
        """Do what the broker wants done."""
        assert self.broker is not None
        self.asked.extend(effect for effect in effects if isinstance(effect, Asked))
        self.happened.extend(effect for effect in effects if isinstance(effect, Happened))
        for route, message in grouped(effects).items():
            self.messages += 1
            end = next((end for end in self.ends.values() if end.route == route), None)
            if end is not None:
                end.down.append(message)
            else:
                self.carry_broker(self.broker.gone(route, self.now))
        assert not list(broker_quarrels(self.broker))


def error_of(end: End, number: int) -> ZbusError:
    """The error that a request ended with."""
    outcome = end.outcomes[number]
    assert isinstance(outcome, ZbusError), outcome
    return outcome


def body_of(end: End, number: int) -> bytes:
    """The reply that a request ended with."""
    outcome = end.outcomes[number]
    assert isinstance(outcome, Parcel), outcome
    assert isinstance(outcome.item, Reply)
    return outcome.item.body


def both(bus: Bus, *topics: str, holds: bool = False) -> tuple[End, End]:
    """An engine, and a server of these topics or of ``t``."""
    return bus.join("engine"), bus.join("server", *(topics or ("t",)), holds=holds)


def attached(bus: Bus) -> bool:
    """Whether everybody is, and the broker knows nobody else."""
    assert bus.broker is not None
    names = {peer.name for peer in bus.broker.roster if peer.route is not None}
    return names == set(bus.ends) and all(end.is_open for end in bus.ends.values())
