"""A whole bus in one process, under virtual time: the real machines, shells and turns.

    with Bus(seed=7, faults=ROUGH) as bus:
        bus.server(dispatcher)
        engine = bus.engine("e1")
        assert engine.outcome("job.submit", {"id": 1}, timeout=3600) == {"accepted": 1}

Rules of this room:

* The same seed, faults, knobs and calls give the same run, byte for byte; ``trace`` shows it.
* Time passes only where a method says so (``run``, ``outcome``, ``request``, ``settle``), and at
  once where there is nothing to do: an hour's timeout costs a fraction of a second.
* When the block is left the whole history is judged: ``Violation`` names what was broken and the
  seed that shows it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn, Self

from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.effect import LaneKey
from zbus.protocol.memory import LINGER_S
from zbus.protocol.message import Role
from zbus.testing.faults import Faults
from zbus.testing.history import History
from zbus.testing.knobs import CALM, QUIET, Knobs
from zbus.testing.model import Case, judge
from zbus.testing.peers import Manner, SimulatedBroker, SimulatedPeer
from zbus.testing.plug import Traced
from zbus.testing.stage import Stage
from zbus.testing.tables import (
    broker_leftovers,
    broker_quarrels,
    session_leftovers,
    session_quarrels,
)

__all__ = ["Bus", "Violation"]

_ATTACH_S = 5.0
"""How long ``engine`` and ``server`` wait until the peer is attached, as ``connect`` does."""

_REATTACH_S = 30.0
_BEATS = 5
_MARGIN_S = 3.0
_HOLDS = 3


class Violation(AssertionError):
    """A promise was broken in a simulation."""


class Bus:
    """A simulated bus. ``broker`` and each peer are processes that can be killed and stopped."""

    def __init__(
        self,
        seed: int = 0,
        faults: Faults = QUIET,
        knobs: Knobs = CALM,
        *,
        traced: bool = False,
        replay: str = "",
    ) -> None:
        self.seed = seed
        self.knobs = knobs
        self.stage = Stage(seed, faults, traced=traced)
        self.history = History()
        self.broker = SimulatedBroker(self.stage, knobs.settings())
        self.peers: dict[str, SimulatedPeer] = {}
        self.strangers: set[str] = set()
        """The names of those here that break the rules."""
        self.lures: set[str] = set()
        """The topics that such serve."""
        self._replay = replay or f"Bus(seed={seed}, faults={faults}, knobs={knobs})"
        self._faults = faults
        self.broker.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.check()
        elif isinstance(error, Exception):
            error.add_note(f"replay: {self._replay}")

    # -- who is there ------------------------------------------------------------------------

    def server(
        self,
        dispatcher: Dispatcher,
        name: str = "server",
        *,
        manner: Manner | None = None,
        attach: bool = True,
    ) -> SimulatedPeer:
        """Start a server, and wait until it is attached."""
        return self._peer(name, dispatcher, manner or self.manner(Role.SERVER), attach)

    def engine(
        self,
        name: str,
        dispatcher: Dispatcher | None = None,
        *,
        manner: Manner | None = None,
        attach: bool = True,
    ) -> SimulatedPeer:
        """Start an engine, and wait until it is attached."""
        return self._peer(name, dispatcher, manner or self.manner(Role.ENGINE), attach)

    def manner(self, role: Role, proof: bytes = b"") -> Manner:
        """How a peer is by these knobs."""
        knobs = self.knobs
        return Manner(role=role, proof=proof, limits=knobs.session_limits(), pace=knobs.pace)

    def _peer(
        self, name: str, dispatcher: Dispatcher | None, manner: Manner, attach: bool
    ) -> SimulatedPeer:
        listen = self.broker.settings.listen
        endpoint = (listen.backend if manner.role is Role.SERVER else listen.frontend)[0]
        peer = SimulatedPeer(self.stage, self.history, name, endpoint, dispatcher, manner)
        self.peers[name] = peer
        peer.begin()
        if attach:
            self.run_until(lambda: peer.is_attached or peer.is_ended, _ATTACH_S)
        return peer

    # -- time and troubles -------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The true time, in seconds since the simulation began."""
        return self.stage.clock.now

    @property
    def trace(self) -> list[Traced]:
        """Everything that happened in the network, if this bus is traced."""
        return self.stage.fabric.trace

    def run(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that is due."""
        self.stage.pass_time(seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until the condition holds, or so long; whether it holds."""
        until = self.now + seconds
        while not condition():
            if not self.stage.step(until):
                return condition()
        return True

    def cut(self, one: str, other: str, *, both_ways: bool = True) -> None:
        """Cut two processes off from each other, or what goes from the first to the second."""
        self.stage.cut(one, other, both_ways=both_ways)

    def drop(self, name: str) -> None:
        """End the connections of a peer; it and the broker learn of it in their time."""
        self.stage.disturb("drop", name, "broker").until = self.now
        for ends in ((name, "broker"), ("broker", name)):
            self.stage.fabric.drop_connections(*ends)

    def heal(self) -> None:
        """Nothing goes wrong in the network any more, and cuts are mended."""
        self.stage.fabric.faults = QUIET
        self.stage.heal()

    @property
    def counters(self) -> Counter[str]:
        """How often each thing happened: in the network, to processes, and at the broker."""
        counts = Counter(self.stage.fabric.happened)
        for one in self.stage.disturbances:
            peer = self.peers.get(one.who[0])
            if one.kind not in {"cut", "drop"}:
                counts[f"{one.kind} {peer.manner.role.name.lower() if peer else 'broker'}"] += 1
        counts.update({f"broker.{name}": n for name, n in self.broker.counts().items()})
        counts["drain broker"] = self.broker.drains
        return counts

    # -- judging -----------------------------------------------------------------------------

    def check(self, *, settled: bool = False) -> None:
        """Raise ``Violation`` if a promise is broken, or if tables contradict each other."""
        self._raise([*map(str, judge(self._case(settled))), *self._quarrels()])

    def fail(self, how: str) -> NoReturn:
        """Raise ``Violation``, with what shows it again."""
        self._raise([how])
        raise AssertionError("not reached")

    def _raise(self, broken: list[str]) -> None:
        if broken:
            listed = "\n  ".join(broken[:10])
            raise Violation(
                f"{len(broken)} violations at {self.now:.4f} s:\n  {listed}\nreplay: {self._replay}"
            )

    def recover(self) -> None:
        """Heal everything, start who is dead, let hanging handlers return, and let time pass until
        all peers are attached."""
        self.heal()
        self._revive()
        # Who has a connection that ended unnoticed finds out by the silence (spec 8.3).
        self.run(_BEATS * self.knobs.heartbeat_s + self._faults.slow_max_s)
        if not self.run_until(self._all_attached, _REATTACH_S):
            self._revive()  # who was refused is over for good, and starts anew
            self.run_until(self._all_attached, _REATTACH_S)

    def settle(self) -> None:
        """The liveness phase: recover, let time pass until everything must have ended, and raise
        ``Violation`` if something has not, or is still remembered."""
        self.recover()
        self.run(self._longest_s())
        self.check(settled=True)
        self._raise([*self._leftovers()])

    def _revive(self) -> None:
        for actor in (self.broker, *self.peers.values()):
            actor.cont()
        self.run(0.2)
        if not self.broker.is_alive or self.broker.is_draining:
            self.broker.restart()
        for peer in self.peers.values():
            if not peer.is_alive or peer.is_ended:
                peer.restart()
            if peer.pool is not None:
                peer.pool.let_go()

    def _all_attached(self) -> bool:
        """Whether both sides say so, and of the same broker: a peer may not have noticed yet."""
        roster = self.broker.daemon.broker.roster
        return all(
            peer.is_attached
            and (known := roster.named(peer.name)) is not None
            and known.session == peer.session.attachment.grant.session
            and set(known.topics) == set(peer.session.topics)
            for peer in self.peers.values()
        )

    def _longest_s(self) -> float:
        """Until when something may rightly be remembered: handlers count from when they heard of
        it, which was late where it was held under way."""
        ends = [
            asked.deadline_at + LINGER_S
            for asked in self.history.requests.values()
            if asked.deadline_at + LINGER_S > self.now
        ]
        held_s = sorted(one.until - one.since for one in self.stage.disturbances if one.ended)
        return max(ends, default=self.now) - self.now + sum(held_s[-_HOLDS:]) + _MARGIN_S

    def _case(self, settled: bool) -> Case:
        faults, stage = self._faults, self.stage
        steady = not (
            faults.break_probability
            or faults.full_probability
            or faults.slow_probability
            or stage.fabric.happened["full"]
        )
        delivered = {
            LaneKey(peer.name, peer.life, topic): lane.base - 1
            for peer in self.peers.values()
            if peer.is_alive
            for topic, lane in peer.session.out_lanes._lanes.items()
        }
        return Case(
            history=self.history,
            now=self.now,
            disturbances=stage.disturbances,
            lives={peer.name: peer.life for peer in self.peers.values() if peer.is_alive},
            delivered=delivered,
            strangers=frozenset(self.strangers),
            lures=self.lures,
            steady=steady,
            transit_s=2 * (faults.delay_max_s + faults.slow_max_s) + 0.05,
            heartbeat_s=self.knobs.heartbeat_s,
            settles=self.knobs.restart_settle_s >= faults.connect_max_s + 0.2,
            peers_lost=self.broker.counts()["peer_lost"],
            broker_starts=self.broker.life,
            settled=settled,
        )

    def _quarrels(self) -> Iterator[str]:
        if self.broker.is_alive:
            for how in broker_quarrels(self.broker.daemon.broker):
                yield f"broker: {how}"
        for peer in self.peers.values():
            if peer.is_alive:
                for how in session_quarrels(peer.session):
                    yield f"{peer.name}: {how}"

    def _leftovers(self) -> Iterator[str]:
        for how in broker_leftovers(self.broker.daemon.broker, set(self.peers)):
            yield f"broker: {how}"
        servers = [peer for peer in self.peers.values() if peer.manner.role is Role.SERVER]
        served = {topic for server in servers for topic in server.topics}
        for peer in self.peers.values():
            for how in session_leftovers(peer.session, served, self.strangers):
                yield f"{peer.name}: {how}"
            if peer.link._ends or peer.link._calls:
                yield f"{peer.name}: {len(peer.link._ends)} callers wait"
