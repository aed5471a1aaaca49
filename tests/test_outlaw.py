"""Peers that break every rule, beside peers that keep them: these notice nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from lawful import ENGINES, PEERS, LawfulBus, is_usable

from zbus.errors import TooLarge, ZbusError
from zbus.protocol.codec import encode
from zbus.protocol.message import (
    Cancel,
    Credit,
    Fault,
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
)
from zbus.testing import strategies as zst
from zbus.testing.stranger import Stranger
from zbus.transport.port import Frame

NAME = "stranger"
MAX = 2**63 - 1
EPOCHS = st.sampled_from([0, 1, 2, 1_000, MAX])
CODES = st.sampled_from([0, 1, 2, 104, 205, 301, 401, 403, 65_535])


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class OutlawBus(LawfulBus):
    """The lawful bus, with one among them who has sockets and no manners."""

    @initialize(
        seed=st.integers(0, 2**32),
        rough=st.booleans(),
        odd=st.booleans(),
        role=st.sampled_from(Role),
    )
    def start(self, seed: int, rough: bool, odd: bool, role: Role = Role.ENGINE) -> None:
        """A stranger stands at a door, and says Hello in its own name."""
        super().start(seed, rough, odd)
        self.bus.strangers.add(NAME)
        self.bus.lures.add("trap")
        self.stranger = Stranger(self.bus.stage, self.bus.broker, NAME)
        self.stranger.role = role
        self.stranger.begin()
        self.bus.run(0.1)
        self._hello(NAME, 1)

    # -- what it does ------------------------------------------------------------------------

    @rule(frames=zst.hostile_frames() | zst.malformed_frames(), into_pipe=st.booleans())
    def send_garbage(self, frames: Sequence[Frame], into_pipe: bool) -> None:
        """Anything whatever, and then Hello again."""
        (self.stranger.push if into_pipe else self.stranger.shout)(frames)
        self.bus.run(0.01)

    @rule(items=st.lists(zst.items().filter(lambda item: not isinstance(item, Hello)), max_size=3))
    def say_anything(self, items: list[Item]) -> None:
        """Well-formed items of any kind."""
        if items:
            with suppress(TooLarge):
                self.stranger.say(*items)
        self.bus.run(0.01)

    @rule(name=st.sampled_from(PEERS), epoch=EPOCHS, proof=st.sampled_from([b"", b"guessed"]))
    def steal_a_name(self, name: str, epoch: int, proof: bytes) -> None:
        """Hello in the name of a peer that is there, in any epoch."""
        known = self.bus.broker.is_running and self.bus.broker.daemon.broker.roster.named(name)
        if known and known.route is not None and self.bus.peers[name].is_attached:
            role = self.bus.peers[name].manner.role
            if self.stranger.role is not role:
                self.stranger.come_as(role)
                self.bus.run(0.1)
            self.stranger.say(Hello(name, role, epoch, ("echo", "note"), 1_000, proof))
        self.bus.run(0.01)

    @rule(index=st.integers(0, 5), code=CODES, executed=st.integers(0, 2), times=st.integers(1, 2))
    def forge_an_answer(self, index: int, code: int, executed: int, times: int) -> None:
        """Reply, Fault and Cancel to somebody else's open request."""
        if index < len(self.pending):
            key = self.pending[-1 - index].asked.key
            forged: list[Item] = [
                Reply(*key, b"forged", 0),
                Fault(*key, code, executed, 0, "forged"),
                Cancel(*key),
                Credit(key.source, key.epoch, "note", 1_000, 1_000, False),
            ]
            self.stranger.say(*forged * times)
        self.bus.run(0.01)

    @rule(name=st.sampled_from(PEERS), number=st.sampled_from([0, 1, 2, MAX]))
    def ask_in_anothers_name(self, name: str, number: int) -> None:
        """A request whose source is a peer that is there."""
        key = Key(name, self.bus.peers[name].life, number)
        self.stranger.say(Request(*key, "echo", "", 1_000, 0, 0, (), "", b"forged", 0))
        self.bus.run(0.01)
        self._hello(NAME, 1)

    @rule(number=st.sampled_from([0, 1, MAX]), flags=st.integers(0, 15), epoch=EPOCHS)
    def ask_as_itself(self, number: int, flags: int, epoch: int) -> None:
        """Odd requests in its own name."""
        key = Key(NAME, epoch, number)
        self.stranger.say(Request(*key, "echo", "", 1_000, flags, MAX, (1,), "", b"\x01", 0))
        self.bus.run(0.01)

    @rule(name=st.sampled_from(ENGINES), own=st.booleans(), sequence=st.sampled_from([1, 2, MAX]))
    def push_in_anothers_name(self, name: str, own: bool, sequence: int) -> None:
        """A push with its own session or one that it made up."""
        session = self.stranger.session if own else 4_711
        epoch = self.bus.peers[name].life
        item = Push(session, name, epoch, "note", sequence, sequence, (b"forged",), ())
        self.stranger.push(encode([Parcel(item)]))
        self.bus.run(0.01)

    @rule(name=st.sampled_from(ENGINES), answers=st.integers(0, 3), large=st.booleans())
    def lure(self, name: str, answers: int, large: bool) -> None:
        """Somebody asks the stranger, who answers several times, or does not even read."""
        self.stranger.reads = answers > 0
        if is_usable(self.bus.peers[name]):
            with suppress(ZbusError):
                body = bytes(100_000) if large else "a lure"
                self.bus.peers[name].submit("trap", body, timeout=1.0)
        self.bus.run(0.05)
        for item in [parcel.item for parcel in self.stranger.heard]:
            if isinstance(item, Request):
                key = Key(item.source, item.epoch, item.number)
                self.stranger.say(*[Reply(*key, b"\x07", 0)] * max(answers, 1))
        self.bus.run(0.01)

    @rule(added=st.sampled_from(["zbus.status", "trap", "a..b"]), role=st.sampled_from(Role))
    def come_back(self, added: str, role: Role) -> None:
        """On new sockets, at either door, with a Serve that may be none."""
        self.stranger.come_as(role)
        self.bus.run(0.05)
        self._hello(NAME, self.stranger.life)
        self.stranger.say(Serve((added,), ()), Heartbeat())
        self.bus.run(0.01)

    def _hello(self, name: str, epoch: int) -> None:
        role = self.stranger.role
        topics = ("trap",) if role is Role.SERVER else ()
        self.stranger.say(Hello(name, role, epoch, topics, 10, b""))
        self.bus.run(0.01)

    # -- what must hold ----------------------------------------------------------------------

    @invariant()
    def nothing_is_stolen_and_nothing_leaks(self) -> None:
        """No lawful session was ended, and no lawful body reached the stranger."""
        if not hasattr(self, "stranger"):
            return
        for peer in self.bus.peers.values():
            assert not peer.ends, f"{peer.name} was ended: {peer.ends}"
        for item, frames in self.stranger.heard:
            bodies: tuple[bytes, ...] = ()
            if isinstance(item, Request | Reply):
                bodies = (item.body, *map(bytes, frames))
            elif isinstance(item, Push):
                bodies = (*item.bodies, *map(bytes, frames))
            assert not any(b"secret" in body for body in bodies), f"it was told {item}"

    def teardown(self) -> None:
        """The stranger goes; all others must end well."""
        if hasattr(self, "stranger"):
            if self.stranger.session:
                self.reach["the stranger was welcomed"] += 1
            self.stranger.crash()
            self.bus.heal()
            self.bus.run(6 * self.bus.knobs.heartbeat_s + 3.0)
        super().teardown()


def test_p13_p14_outlaws_take_nothing_and_forge_nothing() -> None:
    """Forged 0, stolen 0, leaked 0: the lawful peers' promises hold after every step, and their
    requests still get to handlers."""
    OutlawBus.reach.clear()
    run_state_machine_as_test(OutlawBus, settings=settings(max_examples=80, stateful_step_count=40))
    reach = OutlawBus.reach
    assert reach["run"] >= 80
    assert reach["a request began"] >= 0.5 * reach["run"]
    assert reach["the stranger was welcomed"] >= 0.5 * reach["run"]
