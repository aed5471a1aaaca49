"""A random life for a simulated bus: requests, pushes and every kind of trouble, from a seed.

Rules of this room:

* ``Scenario.draw`` turns a seed into a bus: how many peers, which settings, and which kinds of
  trouble. Each run has some kinds and not others.
* Troubles come first and healing after: a faulty phase in which only safety is judged, then
  ``Bus.settle``, which demands that everything has ended.
* Handlers name the life that answered in every reply, so that no two replies are equal.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from zbus.errors import Overloaded, ZbusError
from zbus.peer.body import encode_body
from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.message import Flag, Frames, Key, Parcel
from zbus.protocol.requests import Ask
from zbus.testing.bus import Bus
from zbus.testing.faults import Faults
from zbus.testing.knobs import QUIET, Knobs, draw_faults, draw_knobs
from zbus.testing.peers import Pending, SimulatedPeer
from zbus.testing.pool import Pace
from zbus.testing.stage import Actor, Disturbance
from zbus.testing.tally import Tally

__all__ = ["TROUBLES", "Scenario", "Swarm", "swarm"]

TROUBLES = (
    "crash a server",
    "crash an engine",
    "stop a server",
    "stop an engine",
    "stop the broker",
    "kill the broker",
    "drain the broker",
    "cut",
    "cut one way",
    "drop",
    "withdraw",
)
"""What is done to processes; what goes wrong in the network is in ``Faults``."""

_KINDS = ("crash", "stop", "broker", "cut", "withdraw", "drop")
_TOPICS = (*["echo"] * 8, *["work"] * 4, "rare", "fail", "bad", "nobody")
_PUSHED = ("note", "note", "other", "nobody.takes")
_EVERYWHERE = ("echo", "work", "fail", "bad", "note", "other")
_FAULTY_MAX_S = 600.0
_PATIENCE = 500
_WAIT = int(Flag.WAIT)
_MIDDLING = bytes(400)
_LARGE = bytes(70_000)
_TOO_LARGE = bytes(1_100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a seed means."""

    seed: int
    requests: int
    engines: int = 2
    servers: int = 1
    rate: float = 200.0
    """Requests a second, of all engines together."""
    timeouts_s: tuple[float, ...] = (0.5, 2.0)
    push_probability: float = 0.3
    trouble_every_s: float = 1.0
    troubles: tuple[str, ...] = ()
    faults: Faults = QUIET
    knobs: Knobs = field(default_factory=Knobs)

    @classmethod
    def draw(cls, seed: int, requests: int) -> Scenario:
        """The scenario of this seed: half of them anything that can be odd, in random subsets;
        half of them one kind of trouble on a bus that is fine, where less is excused."""
        chance = random.Random(f"{seed}/scenario")
        scenario = cls(
            seed=seed,
            requests=requests,
            engines=chance.randint(1, 4),
            servers=chance.choice([1, 1, 2, 3]),
            rate=chance.choice([30.0, 100.0, 500.0]),
            timeouts_s=chance.choice([(0.01, 0.2, 2.0), (2.0,), (0.5, 5.0, 15.0)]),
            push_probability=chance.choice([0.0, 0.2, 0.8]),
            troubles=tuple(one for one in TROUBLES if chance.random() < 0.35),
            faults=draw_faults(chance) if chance.random() < 0.7 else QUIET,
            knobs=draw_knobs(chance) if chance.random() < 0.8 else Knobs(),
        )
        if chance.random() < 0.5:
            scenario = scenario._on_a_good_day(chance)
        every_s = requests / scenario.rate / chance.choice([4, 12, 40])
        return replace(scenario, trouble_every_s=every_s)

    def _on_a_good_day(self, chance: random.Random) -> Scenario:
        kind = chance.choice(_KINDS)
        pace = Pace(most_s=chance.choice([0.01, 0.5, 2.0]))
        return replace(
            self,
            rate=chance.choice([30.0, 100.0]),
            troubles=tuple(one for one in TROUBLES if kind in one),
            faults=QUIET,
            knobs=Knobs(heartbeat_s=chance.choice([0.1, 0.3, 1.0]), pace=pace),
        )


def swarm(scenario: Scenario, tally: Tally | None = None, *, traced: bool = False) -> Bus:
    """Run a scenario: the faulty phase, then the liveness phase. ``Violation`` where a promise
    is broken. The bus is returned for who wants to look at it."""
    return Swarm(scenario, traced=traced).play(tally)


class Swarm:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, *, traced: bool = False) -> None:
        self.scenario = scenario
        replay = f"python tools/soak.py --seed {scenario.seed} --each {scenario.requests} --runs 1"
        self.bus = Bus(scenario.seed, scenario.faults, scenario.knobs, traced=traced, replay=replay)
        self._chance = self.bus.stage.chance("swarm")
        self._troubles = self.bus.stage.chance("troubles")
        self._left = scenario.requests
        self._pending: list[Pending] = []
        self._servers = [f"server-{number + 1}" for number in range(scenario.servers)]
        self._engines = [f"engine-{number + 1}" for number in range(scenario.engines)]

    def play(self, tally: Tally | None = None) -> Bus:
        """Everything, from the first Hello to the last judgement."""
        bus = self.bus
        with bus:
            self._populate()
            self._plan(self._pause_s(), self._ask)
            if self.scenario.troubles:
                self._plan(self.scenario.trouble_every_s, self._trouble)
            bus.run_until(lambda: self._left <= 0, _FAULTY_MAX_S)
            bus.run(self._chance.uniform(0.0, 1.0))
            bus.check()
            self._left = 0
            self._serve_all()
            bus.recover()
            self._prove_life()
            bus.settle()
            if tally is not None:
                tally.add(bus)
        return bus

    def _populate(self) -> None:
        for number, name in enumerate(self._servers):
            topics = [*_EVERYWHERE, *(() if number else ("rare",))]
            self.bus.server(_dispatcher(self.bus, name, topics), name, attach=False)
        for name in self._engines:
            self.bus.engine(name, _dispatcher(self.bus, name, ["echo", "work"]), attach=False)
        self.bus.run(0.05)

    def _plan(self, seconds: float, event: Callable[[], None]) -> None:
        self.bus.stage.timeline.plan(self.bus.now + seconds, event)

    def _pause_s(self) -> float:
        return self._chance.expovariate(self.scenario.rate)

    # -- what callers do -----------------------------------------------------------------------

    def _ask(self) -> None:
        if self._left <= 0:
            return
        chance = self._chance
        for _ in range(1 if chance.random() < 0.9 else chance.randint(2, 40)):
            peer = self.bus.peers[chance.choice(self._engines)]
            if chance.random() < 0.1:
                peer = self.bus.peers[chance.choice(self._servers)]
            if peer.is_running and not peer.is_ended:
                self._ask_as(peer)
        self._plan(self._pause_s(), self._ask)

    def _ask_as(self, peer: SimulatedPeer) -> None:
        chance = self._chance
        self._left -= 1
        try:
            pending = peer.submit_ask(self._new_ask(peer))
            if chance.random() < 0.02:
                self._plan(chance.choice([0.0, 0.001, 0.3]), pending.cancel)
            while chance.random() < self.scenario.push_probability:
                peer.push(chance.choice(_PUSHED), self._left)
        except ZbusError:
            return  # Refused at once, which the history has noted.

    def _new_ask(self, peer: SimulatedPeer) -> Ask:
        chance = self._chance
        topic, target = chance.choice(_TOPICS), ""
        if chance.random() < 0.2:
            target = chance.choice([*self._engines, *self._servers, "no-such-peer"])
        body, frames = self._body()
        deadline = peer.now + chance.choice(self.scenario.timeouts_s)
        flags = _WAIT if chance.random() < 0.1 else 0
        return Ask(topic, body, deadline, frames, target, flags)

    def _body(self) -> tuple[bytes, Frames]:
        dice = self._chance.random()
        if dice < 0.001:
            return encode_body([self._left, _TOO_LARGE])
        if dice < 0.01:
            return encode_body([self._left, _LARGE])
        if dice < 0.02:
            return b"\xc1 is no body", ()
        if dice < 0.05:
            return encode_body([self._left, _MIDDLING])
        return encode_body(self._left)

    # -- what the world does -------------------------------------------------------------------

    def _trouble(self) -> None:
        if self._left <= 0:
            return
        chance, bus = self._troubles, self.bus
        server = bus.peers[chance.choice(self._servers)]
        engine = bus.peers[chance.choice(self._engines)]
        lasts_s = chance.choice([0.1, 0.5, 1.0, 4.0]) * chance.random()
        what = chance.choice(self.scenario.troubles)
        if what == "crash a server":
            self._crash(server, lasts_s)
        elif what == "crash an engine":
            self._crash(engine, lasts_s)
        elif what == "kill the broker":
            self._crash(bus.broker, lasts_s)
        elif what.startswith("stop"):
            actor: Actor = (
                bus.broker if "broker" in what else server if "server" in what else engine
            )
            actor.stop()
            self._plan(lasts_s, actor.cont)
        else:
            self._trouble_of_links(what, chance.choice([server, engine]), lasts_s)
        self._plan(chance.expovariate(1.0 / self.scenario.trouble_every_s), self._trouble)

    def _trouble_of_links(self, what: str, peer: SimulatedPeer, lasts_s: float) -> None:
        bus = self.bus
        if what == "drain the broker":
            bus.broker.drain(lasts_s)
            self._plan(lasts_s + 0.5, lambda: None if bus.broker.is_alive else bus.broker.begin())
        elif what.startswith("cut"):
            ends = [peer.name, "broker"]
            self._troubles.shuffle(ends)
            bus.cut(*ends, both_ways="one way" not in what)
            self._plan(lasts_s, bus.stage.heal)
        elif what == "drop":
            bus.drop(peer.name)
        elif what == "withdraw" and peer.is_running and not peer.is_ended:
            topic = self._troubles.choice(["echo", "note"])
            if topic in peer.topics:
                withdrawn = bus.stage.disturb("withdraw", peer.name)
                peer.serve((), (topic,))
                self._plan(lasts_s, lambda: self._serve_again(peer, topic, withdrawn))

    def _serve_again(self, peer: SimulatedPeer, topic: str, withdrawn: Disturbance) -> None:
        peer.serve_again(topic)
        if topic in peer.topics:
            withdrawn.until = self.bus.now

    def _crash(self, actor: Actor, lasts_s: float) -> None:
        actor.crash()
        self._plan(lasts_s, lambda: None if actor.is_alive else actor.begin())

    def _serve_all(self) -> None:
        """Nothing stays withdrawn; who is dead serves it in the next life."""
        for peer in self.bus.peers.values():
            peer.cont()
        self.bus.run(0.2)
        for peer in self.bus.peers.values():
            assert peer.dispatcher is not None
            for topic in peer.dispatcher.topics:
                peer.serve_again(topic)
            peer.topics = peer.dispatcher.topics

    # -- after the healing -----------------------------------------------------------------------

    def _prove_life(self) -> None:
        """Every engine is served at once, and every push is taken."""
        bus, since = self.bus, self.bus.now
        for name in self._engines:
            reply = bus.peers[name].outcome("echo", "alive?", timeout=5.0)
            for _ in range(_PATIENCE):
                if not isinstance(reply, Overloaded):
                    break
                bus.run(reply.retry_after_s)  # A small memory fills with what is not settled yet.
                reply = bus.peers[name].outcome("echo", "alive?", timeout=5.0)
            if isinstance(reply, ZbusError):
                bus.fail(f"{name} is not served after everything was healed: {reply}")
        bus.run(0.1)
        for key in _held(bus):
            asked = bus.history.requests.get(key)
            if asked is not None and asked.at >= since and isinstance(asked.outcome, Parcel):
                bus.fail(f"the broker still holds {key}, which was answered")


def _held(bus: Bus) -> list[Key]:
    roster = bus.broker.daemon.broker.roster
    return [ticket.key for peer in roster for ticket in peer.asked.values()]


def _dispatcher(bus: Bus, name: str, topics: list[str]) -> Dispatcher:
    dispatcher = Dispatcher()

    def reply(body: object) -> object:
        return [name, bus.peers[name].life, body]

    def fail(body: object) -> object:
        raise RuntimeError("this handler always fails")

    def bad(body: object) -> object:
        return {"no such type": object()}

    kinds = {"fail": fail, "bad": bad}
    for topic in topics:
        dispatcher.add(topic, kinds.get(topic, reply))
    return dispatcher
