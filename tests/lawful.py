"""A simulated bus as a machine for Hypothesis.

Its rules are what peers may do and what befalls them.

Rules of this room:

* Handlers return when a rule says so, so that everything may happen while they run; and no
  trouble comes while nothing is under way.
* After every rule the whole history is judged; at the end everything is healed, and must end.
* ``reach`` counts what the runs came to: a machine that never gets a request to a handler shows
  nothing about handlers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zbus.errors import ZbusError
from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.message import Parcel, Role
from zbus.testing.bus import Bus
from zbus.testing.knobs import QUIET, draw_faults, draw_knobs
from zbus.testing.peers import Pending, SimulatedPeer
from zbus.testing.pool import Pace
from zbus.testing.stage import Actor

ENGINES = ("engine-1", "engine-2")
SERVERS = ("server-1", "server-2")
PEERS = (*ENGINES, *SERVERS)
TOPICS = ("echo", "echo", "only-1", "fail", "nobody")
PUSHED = ("note", "nobody")
SECONDS = st.sampled_from([0.001, 0.01, 0.1, 0.3, 1.0, 3.0])
HANGING = Pace(hang_probability=1.0)


class LawfulBus(RuleBasedStateMachine):
    """Two engines and two servers, which keep the rules, and a world that does not spare them."""

    reach: ClassVar[Counter[str]] = Counter()
    bus: Bus

    @initialize(seed=st.integers(0, 2**32), rough=st.booleans(), odd=st.booleans())
    def start(self, seed: int, rough: bool, odd: bool) -> None:
        """A bus on which all are attached, and which may be rough or set oddly."""
        chance = random.Random(seed)
        faults = draw_faults(chance) if rough else QUIET
        knobs = draw_knobs(chance)
        self.bus = Bus(seed, faults, knobs if odd else type(knobs)())
        self.pending: list[Pending] = []
        self.asked = 0
        for name in PEERS:
            role = Role.SERVER if name in SERVERS else Role.ENGINE
            manner = self.bus.manner(role, proof=f"proof of {name}".encode())
            if role is Role.SERVER:
                peer = self.bus.server(dispatcher_of(name), name, manner=manner)
            else:
                peer = self.bus.engine(name, dispatcher_of(name), manner=manner)
            assert peer.pool is not None
            peer.pool.pace = HANGING
        self._work_on()

    # -- what peers do -----------------------------------------------------------------------

    @rule(
        name=st.sampled_from(PEERS),
        topic=st.sampled_from(TOPICS),
        to=st.sampled_from(["", "", "", "", *PEERS, "no-such-peer"]),
        timeout=st.sampled_from([0.05, 2.0, 20.0]),
        unserved=st.sampled_from(["raise", "raise", "wait"]),
        wait_s=st.sampled_from([0.02, 0.02, 0.0]),
    )
    def request(
        self, name: str, topic: str, to: str, timeout: float, unserved: str, wait_s: float
    ) -> None:
        """Somebody asks anybody, or somebody."""
        peer = self.bus.peers[name]
        self.asked += 1
        body = f"secret {self.asked}"
        if is_usable(peer):
            with suppress(ZbusError):
                pending = peer.submit(topic, body, timeout=timeout, to=to, unserved=unserved)
                self.pending.append(pending)
        self.bus.run(wait_s)

    @rule(name=st.sampled_from(PEERS), topic=st.sampled_from(PUSHED), count=st.integers(1, 5))
    def push(self, name: str, topic: str, count: int) -> None:
        """Somebody pushes."""
        peer = self.bus.peers[name]
        for _ in range(count if is_usable(peer) else 0):
            self.asked += 1
            with suppress(ZbusError):
                peer.push(topic, f"secret {self.asked}")
        self.bus.run(0.01)

    @rule(index=st.integers(0, 7))
    def cancel(self, index: int) -> None:
        """Somebody gives a request up, one of the newest."""
        if index < len(self.pending):
            self.pending[-1 - index].cancel()

    @rule(name=st.sampled_from(PEERS), all_of_them=st.booleans())
    def finish(self, name: str, all_of_them: bool) -> None:
        """The oldest handler that runs returns, or all of them do."""
        peer = self.bus.peers[name]
        if is_usable(peer):
            assert peer.pool is not None
            while peer.pool.let_one_go() and all_of_them:
                pass

    @rule(name=st.sampled_from(SERVERS), topic=st.sampled_from(["echo", "note"]))
    def change_topics(self, name: str, topic: str) -> None:
        """A server takes a topic up, or gives it up."""
        peer = self.bus.peers[name]
        if is_usable(peer):
            if topic in peer.topics:
                self.bus.stage.disturb("withdraw", name)
                peer.serve((), (topic,))
            else:
                peer.serve((topic,), ())

    # -- what befalls them ---------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.bus.run(seconds)

    @rule(name=st.sampled_from([*PEERS, "broker"]), seconds=SECONDS)
    def crash(self, name: str, seconds: float) -> None:
        """A process is killed, and started again some time later."""
        self._work_on()
        actor = self._actor(name)
        actor.crash()
        self._later(seconds, lambda: self._begin(actor))

    @rule(name=st.sampled_from([*PEERS, "broker"]), seconds=SECONDS)
    def stop(self, name: str, seconds: float) -> None:
        """A process is stopped, and goes on some time later."""
        self._work_on()
        actor = self._actor(name)
        actor.stop()
        self._later(seconds, actor.cont)

    @rule(name=st.sampled_from(PEERS), way=st.sampled_from(["both", "in", "out"]), seconds=SECONDS)
    def cut(self, name: str, way: str, seconds: float) -> None:
        """A peer is cut off, in one way or both, until all cuts are mended."""
        self._work_on()
        ends = ("broker", name) if way == "in" else (name, "broker")
        self.bus.cut(*ends, both_ways=way == "both")
        self._later(seconds, self.bus.stage.heal)

    @rule(name=st.sampled_from(PEERS))
    def drop(self, name: str) -> None:
        """A peer's connections end."""
        self._work_on()
        self.bus.drop(name)

    @rule(within=SECONDS, seconds=SECONDS)
    def drain(self, within: float, seconds: float) -> None:
        """The broker is told to end, and is started again some time later."""
        self._work_on()
        self.bus.broker.drain(within)
        self._later(within + seconds, lambda: self._begin(self.bus.broker))

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        """Whatever has happened."""
        if hasattr(self, "bus"):
            self.bus.check()

    def teardown(self) -> None:
        """Everything is healed: now everything must end."""
        if not hasattr(self, "bus"):
            return
        for peer in self.bus.peers.values():
            assert peer.dispatcher is not None
            for topic in peer.dispatcher.topics:
                peer.serve_again(topic)
            peer.topics = peer.dispatcher.topics
        with self.bus:
            self.bus.settle()
        self._note_reach()

    def _note_reach(self) -> None:
        requests = self.bus.history.requests.values()
        came_to = {
            "run": True,
            "a request began": any(asked.begun for asked in requests),
            "a reply came": any(isinstance(asked.outcome, Parcel) for asked in requests),
            "an error came": any(isinstance(asked.outcome, ZbusError) for asked in requests),
            "a push was taken": any(lane.taken for lane in self.bus.history.lanes.values()),
        }
        for what, happened in came_to.items():
            if happened:
                event(what)
                self.reach[what] += 1

    def _work_on(self) -> None:
        """There is always something under way, so that no trouble comes for nothing."""
        for name in ENGINES:
            self.request(name, "echo", "", 20.0, "raise", 0.0)
            self.push(name, "note", 1)

    def _later(self, seconds: float, event: Callable[[], None]) -> None:
        self.bus.stage.timeline.plan(self.bus.now + seconds, event)

    def _begin(self, actor: Actor) -> None:
        if not actor.is_alive:
            actor.begin()
            if isinstance(actor, SimulatedPeer) and actor.pool is not None:
                actor.pool.pace = HANGING

    def _actor(self, name: str) -> Actor:
        return self.bus.broker if name == "broker" else self.bus.peers[name]


def is_usable(peer: SimulatedPeer) -> bool:
    return peer.is_running and not peer.is_ended


def dispatcher_of(name: str) -> Dispatcher:
    dispatcher = Dispatcher()
    dispatcher.add("echo", lambda body: [name, body])
    dispatcher.add("note", lambda body: None)
    if name in SERVERS:
        dispatcher.add("fail", fail)
    if name == "server-1":
        dispatcher.add("only-1", lambda body: [name, body])
    return dispatcher


def fail(body: object) -> None:
    raise RuntimeError("this handler always fails")
