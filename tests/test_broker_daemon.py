"""A daemon over ports in memory: what it answers, whom it sends away, when it is drained."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.daemon import Daemon
from zbus.broker.sections import LimitsSection, ListenSection, TimesSection
from zbus.broker.settings import Settings
from zbus.errors import AlreadyRunning, Draining, NoHandler, TargetLost
from zbus.peer.body import decode_body
from zbus.protocol.codec import decode, encode
from zbus.protocol.message import (
    MAGIC,
    Bye,
    Cause,
    Fault,
    Heartbeat,
    Hello,
    Item,
    Parcel,
    Reply,
    Request,
    Role,
    Welcome,
)
from zbus.testing import strategies as zst
from zbus.testing.clock import VirtualClock
from zbus.testing.fabric import MemoryFabric
from zbus.testing.faults import PERFECT, Faults
from zbus.testing.network import MemoryNetwork
from zbus.transport.port import Frame

FRONTEND, BACKEND, PIPE = (f"ipc:///run/zbus/{door}" for door in ("frontend", "backend", "pipe"))
LISTEN = ListenSection(frontend=(FRONTEND,), backend=(BACKEND,), pipe=(PIPE,))
GARBAGE = [b"GET / HTTP/1.1"]
OTHER_VERSION = [MAGIC[:-1] + b"\x02" + b"\x91\x91\x03"]


class Place:
    """A daemon, its network, and the time there."""

    def __init__(self, faults: Faults = PERFECT, limits: LimitsSection | None = None) -> None:
        self.clock = VirtualClock(100.0)
        self.fabric = MemoryFabric(random.Random(1), self.clock, faults)
        settings = Settings(
            listen=LISTEN,
            times=TimesSection(heartbeat_s=60.0),
            bounds=limits or LimitsSection(restart_settle_s=0.0),
        )
        network = MemoryNetwork(self.fabric, "broker")
        self.daemon = Daemon(settings, network, itertools.count(1), self.clock.now)
        self.daemon.open()

    def settle(self) -> None:
        """Let everything arrive and be answered."""
        for _ in range(4):
            self.fabric.advance(self.clock.now)
            while self.daemon.step(self.clock.now):
                pass

    def is_drained(self) -> bool:
        return self.daemon.is_drained

    def push(self, frames: Sequence[Frame]) -> None:
        """Somebody sends these frames into the pipe."""
        port = MemoryNetwork(self.fabric, "stranger").connect_push(PIPE)
        self.settle()
        port.send(b"", frames)
        self.settle()
        port.close()
        self.settle()


class Guest:
    """A raw dealer, which says what the test wants."""

    def __init__(self, place: Place, name: str, role: Role = Role.ENGINE) -> None:
        self.name, self.role, self.place = name, role, place
        network = MemoryNetwork(place.fabric, name)
        self.port = network.connect_dealer(BACKEND if role is Role.SERVER else FRONTEND)
        self._numbers = itertools.count(1)
        place.settle()

    def attach(self, *topics: str) -> Guest:
        """Say hello, and be welcomed."""
        self.say(Hello(self.name, self.role, 1, topics, 16, b""))
        (welcome,) = self.heard()
        assert isinstance(welcome, Welcome)
        return self

    def shout(self, frames: Sequence[Frame]) -> None:
        """Send these frames, which need be no message."""
        self.port.send(b"", frames)
        self.place.settle()

    def say(self, item: Item) -> None:
        self.shout(encode([Parcel(item)]))

    def ask(self, topic: str) -> int:
        """Send a request; its number."""
        number = next(self._numbers)
        self.say(Request(self.name, 1, number, topic, "", 60_000, 0, 1, (), "", b"", 0))
        return number

    def heard(self) -> list[Item]:
        """What was said to it since it last listened."""
        return [parcel.item for _, frames in self.port.drain(256) for parcel in decode(frames)]

    def answer(self, topic: str) -> Any:
        """The body of the broker's reply."""
        number = self.ask(topic)
        (reply,) = self.heard()
        assert isinstance(reply, Reply), reply
        assert reply.number == number
        return decode_body(reply.body, ())


def causes(items: Sequence[Item]) -> list[Cause]:
    return [item.cause for item in items if isinstance(item, Bye)]


# -- garbage -------------------------------------------------------------------------------


@given(messages=st.lists(zst.malformed_frames().filter(bool), min_size=1, max_size=5))
def test_whoever_sends_garbage_is_sent_away_and_no_other_notices(
    messages: list[list[Frame]],
) -> None:
    """Each gets one Bye with its cause; a peer beside it hears nothing and is served as before."""
    place = Place()
    beside = Guest(place, "beside").attach()
    for count, frames in enumerate(messages, 1):
        stranger = Guest(place, f"stranger-{count}")
        stranger.shout(frames)
        header = bytes(frames[0])
        is_other = len(header) > 3 and header[:3] == MAGIC[:3] and header[3] != MAGIC[3]
        expected = Cause.VERSION if is_other else Cause.MALFORMED
        assert causes(stranger.heard()) == [expected]
        assert place.daemon.counts["malformed"] == count
        assert beside.heard() == []
    assert beside.answer("zbus.ping")["broker"] == f"{1:016x}"


@given(messages=st.lists(zst.hostile_frames().filter(bool), max_size=5), known=st.booleans())
def test_nothing_that_a_stranger_says_stops_the_daemon(
    messages: list[list[Frame]], known: bool
) -> None:
    """Whatever comes at the door and in the pipe, the next peer is welcomed and answered."""
    place = Place()
    stranger = Guest(place, "stranger")
    if known:
        stranger.attach()
    for frames in messages:
        stranger.shout(frames)
        place.push(frames)
    assert "uptime_s" in Guest(place, "next-one").attach().answer("zbus.status")


@pytest.mark.parametrize(
    ("frames", "cause"), [(GARBAGE, Cause.MALFORMED), (OTHER_VERSION, Cause.VERSION)]
)
def test_a_peer_that_turns_to_garbage_is_forgotten(frames: list[Frame], cause: Cause) -> None:
    """It is told why; its topics are served no longer, and its name is free."""
    place = Place()
    server = Guest(place, "server", Role.SERVER).attach("echo")
    beside = Guest(place, "beside").attach()
    assert beside.answer("zbus.topics") == {"echo": ["server"]}
    server.shout(frames)
    assert causes(server.heard()) == [cause]
    assert beside.answer("zbus.topics") == {}
    assert [peer["name"] for peer in beside.answer("zbus.peers")] == ["beside"]


def test_garbage_in_the_pipe_is_counted_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody is told, nobody is lost, and the log does not repeat what was sent."""
    place = Place()
    beside = Guest(place, "beside").attach()
    before = beside.answer("zbus.status")
    with caplog.at_level(logging.INFO, "zbus.broker"):
        place.push(GARBAGE)
        place.push(OTHER_VERSION)
    assert beside.heard() == []
    after = beside.answer("zbus.status")
    assert after.pop("events") == before.pop("events") | {"malformed": 2}
    assert after.pop("counts") == before.pop("counts")
    assert after == before
    assert [record.getMessage() for record in caplog.records] == ["malformed_message"] * 2
    assert {str(vars(record)["fields"]) for record in caplog.records} == {"{'lane': 'pipe'}"}


# -- the broker's own topics ---------------------------------------------------------------


def test_the_topics_of_the_broker_are_answered() -> None:
    """Ping, status, peers and topics, each as its room says."""
    place = Place()
    Guest(place, "server", Role.SERVER).attach("echo", "add")
    engine = Guest(place, "engine").attach()
    place.clock.advance(2.5)
    ping, status = engine.answer("zbus.ping"), engine.answer("zbus.status")
    assert ping == {"broker": f"{1:016x}", "version": status["version"]}
    assert (status["uptime_s"], status["peers"], status["topics"]) == (2.5, 2, 2)
    assert status["events"] == {"peer_attached": 2}
    assert not status["draining"]
    assert [peer["name"] for peer in engine.answer("zbus.peers")] == ["engine", "server"]
    assert engine.answer("zbus.topics") == {"add": ["server"], "echo": ["server"]}


@given(word=st.from_regex(r"[a-z]{1,12}(\.[a-z]{1,5})?", fullmatch=True))
def test_an_unknown_topic_of_the_broker_is_refused(word: str) -> None:
    """Whoever asks is told ``NoHandler`` at once, with the topic, and nothing stays open."""
    topic = f"zbus.{word}x"
    place = Place()
    engine = Guest(place, "engine").attach()
    engine.ask(topic)
    (fault,) = engine.heard()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.executed) == (NoHandler.number, 0)
    assert topic in fault.text
    assert place.is_drained()


# -- who does not read ---------------------------------------------------------------------


def test_p08_who_does_not_read_is_cut_and_no_other_notices() -> None:
    """When more waits for it than may, it is sent away as SLOW, and others are answered."""
    limits = LimitsSection(body_max_bytes=1_000, outbox_bytes=2_000, restart_settle_s=0.0)
    place = Place(Faults(send_mark=2, receive_mark=1), limits)
    slow = Guest(place, "slow").attach()
    beside = Guest(place, "beside").attach()
    for _ in range(40):
        slow.ask("zbus.status")
        assert isinstance(beside.answer("zbus.ping"), dict)
        if place.daemon.counts["peer_lost"]:
            break
    assert [peer["name"] for peer in beside.answer("zbus.peers")] == ["beside"]
    said: list[Item] = []
    for _ in range(40):
        said += slow.heard()
        place.clock.advance(0.1)
        place.settle()
    assert causes(said)[0] is Cause.SLOW
    assert all(isinstance(item, Reply) for item in said[: said.index(_first_bye(said))])


@pytest.mark.parametrize("drains", [False, True])
def test_p09_who_reads_nothing_for_too_long_is_cut_and_who_drains_is_not(drains: bool) -> None:
    """However slowly it does."""
    limits = LimitsSection(slow_s=2.0, restart_settle_s=0.0)
    place = Place(Faults(send_mark=2, receive_mark=1), limits)
    slow = Guest(place, "slow").attach()
    beside = Guest(place, "beside").attach()
    for _ in range(60):
        slow.ask("zbus.status")
    assert not place.is_drained()
    said: list[Item] = []
    for _ in range(30):
        if drains:
            said += [item for _, frames in slow.port.drain(1) for item in _items(frames)]
        assert isinstance(beside.answer("zbus.ping"), dict)
        place.clock.advance(0.1)
        place.settle()
    names = [peer["name"] for peer in beside.answer("zbus.peers")]
    assert names == (["beside", "slow"] if drains else ["beside"])
    assert place.daemon.counts["slow"] == (not drains)
    if not drains:
        for _ in range(40):
            said += slow.heard()
            place.settle()
        assert causes(said) == [Cause.SLOW]


def test_what_waits_for_a_lost_peer_is_dropped() -> None:
    """A stopped process that is lost by its silence keeps no memory of ours."""
    limits = LimitsSection(slow_s=900.0, restart_settle_s=0.0)
    place = Place(Faults(send_mark=2, receive_mark=1), limits)
    stopped = Guest(place, "stopped", Role.SERVER).attach("echo")
    engine = Guest(place, "engine").attach()
    for number in range(100, 116):
        body = b"x" * 1_000
        engine.say(Request("engine", 1, number, "echo", "", 900_000, 0, 1, (), "", body, 0))
    assert place.daemon.broker.roster.budget.used > 16_000
    assert sum(size for size, _ in place.daemon._turn.waiting().values()) > 4_096
    faults: list[Fault] = []
    for _ in range(20):
        place.clock.advance(10.0)
        engine.say(Heartbeat())
        faults += [item for item in engine.heard() if isinstance(item, Fault)]
    assert {fault.code for fault in faults} == {TargetLost.number}
    assert stopped.name not in [peer["name"] for peer in engine.answer("zbus.peers")]
    assert place.daemon.broker.roster.budget.used == 0
    assert sum(size for size, _ in place.daemon._turn.waiting().values()) < 4_096


def _items(frames: Sequence[Frame]) -> list[Item]:
    return [parcel.item for parcel in decode(frames)]


def _first_bye(items: Sequence[Item]) -> Item:
    return next(item for item in items if isinstance(item, Bye))


def test_a_route_that_is_gone_is_a_peer_that_is_detached() -> None:
    """The daemon learns it from the port when it has something to say there."""
    place = Place()
    server = Guest(place, "server", Role.SERVER).attach("echo")
    engine = Guest(place, "engine").attach()
    server.port.close()
    place.settle()
    engine.ask("echo")
    assert place.daemon.counts["peer_detached"] == 1
    attached = {peer["name"]: peer["attached"] for peer in engine.answer("zbus.peers")}
    assert attached == {"server": False, "engine": True}


# -- the end -------------------------------------------------------------------------------


@given(count=st.integers(1, 5), order=st.randoms(use_true_random=False))
def test_p18_it_is_drained_when_no_request_is_open(count: int, order: random.Random) -> None:
    """Until the last open request is answered it is not, and ``left`` names each of them."""
    place = Place()
    server = Guest(place, "server", Role.SERVER).attach("echo")
    engine = Guest(place, "engine").attach()
    assert place.is_drained()
    numbers = [engine.ask("echo") for _ in range(count)]
    place.daemon.drain()
    order.shuffle(numbers)
    while numbers:
        assert not place.is_drained()
        left = {f"engine #{number} echo" for number in numbers}
        assert set(place.daemon.left()) == left
        assert len(place.daemon.left()) == len(left)
        server.say(Reply("engine", 1, numbers.pop(), b"\xc0", 0))
    assert place.is_drained()
    assert place.daemon.left() == []
    assert sum(isinstance(item, Reply) for item in engine.heard()) == count


def test_it_is_not_drained_while_something_is_to_be_sent() -> None:
    """An answer that a full port did not take is still owed."""
    place = Place(Faults(send_mark=1, receive_mark=1))
    engine = Guest(place, "engine").attach()
    for _ in range(4):
        engine.ask("zbus.ping")
    assert place.daemon.left() == []
    assert not place.is_drained()
    for _ in range(8):
        engine.heard()
        place.clock.advance(0.1)
        place.settle()
    assert place.is_drained()


def test_p18_a_draining_broker_takes_no_new_request() -> None:
    """Whoever asks is told that it drains and that nothing was run, and nothing stays open."""
    place = Place()
    Guest(place, "server", Role.SERVER).attach("echo")
    engine = Guest(place, "engine").attach()
    place.daemon.drain()
    engine.ask("echo")
    (fault,) = engine.heard()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.executed) == (Draining.number, 0)
    assert place.is_drained()


def test_everybody_is_told_goodbye() -> None:
    """A close says DRAINING to each peer that is attached, once."""
    place = Place()
    guests = [Guest(place, "server", Role.SERVER).attach("echo"), Guest(place, "engine").attach()]
    place.daemon.close(place.clock.now)
    place.fabric.advance(place.clock.now)
    assert [causes(guest.heard()) for guest in guests] == [[Cause.DRAINING]] * 2


def test_it_counts_what_comes_and_says_when_it_is_due() -> None:
    """Every message counts as received, and the next turn is due within a heartbeat."""
    place = Place()
    engine = Guest(place, "engine").attach()
    before = place.daemon.received
    engine.say(Heartbeat())
    engine.shout(GARBAGE)
    assert place.daemon.received == before + 2
    due = place.daemon.wake_at(place.clock.now)
    assert due is not None
    assert place.clock.now <= due <= place.clock.now + 60.0


def test_a_place_that_is_taken_is_refused() -> None:
    """A second daemon on the same endpoints is told, and the first goes on."""
    place = Place()
    network = MemoryNetwork(place.fabric, "second")
    second = Daemon(place.daemon.settings, network, itertools.count(1), 0.0)
    with pytest.raises(AlreadyRunning):
        second.open()
    assert Guest(place, "engine").attach().answer("zbus.ping")
