"""Connections are cut before they cost much, on real sockets: zbus/broker/governor.py."""

from __future__ import annotations

import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from brokers import BOUND_S, leaving_nothing, until
from processes.attackers import shake_hands

import zbus
from zbus.broker.daemon import Daemon
from zbus.broker.descriptors import raise_limit
from zbus.broker.governor import Governor
from zbus.broker.keys import Trust
from zbus.broker.ledger import Why
from zbus.broker.sections import GovernorSection, LimitsSection, ListenSection
from zbus.broker.settings import Settings
from zbus.broker.zap import Authenticator, Table
from zbus.transport.guard import Gate, ServerGuard
from zbus.transport.sockets import ZmqNetwork

HELLO_S = 0.5
BODY_MAX = 65_536
LARGEST = 1_048_576 + BODY_MAX + 4_096


class Watched:
    """A broker without a key, on ipc and on loopback, that looks after its connections."""

    def __init__(self, place: Path, *, connections: int = 1_000, guarded: bool = True) -> None:
        doors = ("frontend", "backend", "pipe")
        listen = {door: (f"ipc://{place}/{door}", "tcp://127.0.0.1:*") for door in doors}
        self.settings = Settings(
            listen=ListenSection(**listen, insecure=True),
            bounds=LimitsSection(body_max_bytes=BODY_MAX, restart_settle_s=0.0),
            governor=GovernorSection(
                connections=connections, unread_bytes=1, strangers_bytes=1, hello_s=HELLO_S
            ),
        )
        self.place = place
        self.network = ZmqNetwork(gate=Gate(ServerGuard()) if guarded else None)
        self.authenticator = Authenticator(self.network.context, Table(Trust(), insecure=True))
        self.authenticator.start()
        tokens = iter(lambda: secrets.randbits(62) + 1, 0)
        self.daemon = Daemon(self.settings, self.network, tokens, time.monotonic())
        self.daemon.open()
        self.governor = Governor(self.settings, self.network, self.daemon, raise_limit())
        self.ending = threading.Event()
        self.turns = 0
        self.thread = threading.Thread(target=self.turn, daemon=True)
        self.thread.start()

    def turn(self) -> None:
        while not self.ending.is_set():
            now = time.monotonic()
            self.turns += 1
            more = self.daemon.step(now)
            self.governor.turn(now)
            if more or self.network.readable():
                continue
            dues = (self.daemon.wake_at(now), self.governor.wake_at())
            self.network.wait(max(min(due for due in dues if due is not None) - now, 0.0))

    def stop(self) -> None:
        self.ending.set()
        self.network.wake()
        self.thread.join(BOUND_S)

    def close(self) -> None:
        self.stop()
        self.governor.close()
        self.governor.close()
        self.authenticator.stop()
        self.network.close()

    def port(self, door: str) -> int:
        """Of tcp; a port of ours is bound to ipc first."""
        inode = {"frontend": 0, "backend": 1, "pipe": 2}[door]
        socket_of = [*self.daemon.ports.values()][inode].socket  # type: ignore[attr-defined]
        return int(socket_of.get(32).decode().rpartition(":")[2])

    def count(self, event: str) -> int:
        return self.daemon.counts[event]


@pytest.fixture
def watched(runtime_dir: Path) -> Iterator[Watched]:
    made = Watched(runtime_dir)
    yield made
    made.close()


Knock = Callable[..., socket.socket]


@pytest.fixture
def knock() -> Iterator[Knock]:
    """Raw connections that have gone through the handshake, or say what else they are given."""
    with ExitStack() as stack:

        def connected(
            watched: Watched, door: str, kind: bytes = b"DEALER", *, ipc: bool = False
        ) -> socket.socket:
            if ipc:
                each = socket.socket(socket.AF_UNIX)
                each.connect(f"{watched.place}/{door}")
            else:
                each = socket.create_connection(("127.0.0.1", watched.port(door)))
            stack.enter_context(each)
            each.settimeout(BOUND_S)
            if kind:
                shake_hands(each, kind)
            return each

        yield connected


def is_cut(each: socket.socket) -> bool:
    """Whether the broker has ended it, looked at without waiting."""
    each.setblocking(False)
    try:
        while each.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def frame(size: int, *, more: bool = True) -> bytes:
    return struct.pack(">BQ", 2 | more, size) + bytes(size)


def endless(each: socket.socket, piece: bytes) -> int:
    """What it could say before it was cut."""
    said = 0
    try:
        while said < 2_000_000_000:
            each.sendall(piece)
            said += len(piece)
    except TimeoutError:
        return said if is_cut(each) else -1
    except OSError:
        return said
    return -1


@pytest.mark.parametrize("ipc", [False, True], ids=["tcp", "ipc"])
@pytest.mark.parametrize(("door", "kind"), [("frontend", b"DEALER"), ("pipe", b"PUSH")])
def test_p13_an_endless_message_is_cut(
    watched: Watched, knock: Knock, door: str, kind: bytes, ipc: bool
) -> None:
    """Wherever it comes in, and nobody else notices."""
    with zbus.connect(f"ipc://{watched.place}/frontend", limits=None) as bus:
        bomb = knock(watched, door, kind, ipc=ipc)
        bomb.settimeout(1.0)
        assert 0 <= endless(bomb, frame(60_000) * 8) < 400_000_000
        until(lambda: watched.count("cut_endless") == 1, "it is counted")
        assert bus.request("zbus.status", timeout=BOUND_S)["events"]["cut_endless"] == 1
        until(lambda: watched.daemon.gauges["connections"] == 1, "it is gone")


def test_p13_silence_is_cut_and_the_attached_stay(watched: Watched, knock: Knock) -> None:
    """Over ipc and tcp; on the pipe who comes from where somebody is attached is let be."""
    began = time.monotonic()
    mute = [knock(watched, "frontend", ipc=ipc) for ipc in (False, True)]
    pipe = [knock(watched, "pipe", b"PUSH", ipc=ipc) for ipc in (False, True)]
    with (
        zbus.connect(f"ipc://{watched.place}/frontend") as near,
        zbus.connect(f"tcp://127.0.0.1:{watched.port('frontend')}") as far,
    ):
        until(lambda: all(map(is_cut, mute)), "the silent are cut")
        assert HELLO_S <= time.monotonic() - began < HELLO_S + 5.0
        assert not any(map(is_cut, pipe))
        assert watched.count("cut_silent") == 2
        assert near.is_attached
        assert far.is_attached
        assert near.request("zbus.ping", timeout=BOUND_S)
        assert far.request("zbus.ping", timeout=BOUND_S)
    until(lambda: all(map(is_cut, pipe)), "nobody is attached there")


def test_p13_strangers_hold_little_together(watched: Watched, knock: Knock) -> None:
    """Half of their first message each; who brought most is cut, and the others are not."""
    half = struct.pack(">BQ", 3, 1_000_000)
    every = [knock(watched, "pipe", b"PUSH") for _ in range(3)]
    for index, each in enumerate(every):
        each.sendall(half + bytes(450_000 + 1_000 * (index == 1)))
    until(lambda: watched.count("cut_hoard") == 1, "one is cut")
    assert [is_cut(each) for each in every] == [False, True, False]
    until(
        lambda: watched.count("cut_stalled") + watched.count("cut_silent") == 2, "then the others"
    )


def test_p13_a_crowd_is_bounded(runtime_dir: Path, knock: Knock) -> None:
    """The silent go first, and who is attached stays."""
    watched = Watched(runtime_dir, connections=5)
    try:
        with zbus.connect(f"ipc://{watched.place}/frontend") as bus:
            every = [knock(watched, "frontend", b"", ipc=ipc) for ipc in (True, False) * 6]
            until(lambda: watched.count("cut_crowd") >= 8, "eight are too many")
            assert sum(map(is_cut, every)) >= 8
            assert bus.request("zbus.ping", timeout=BOUND_S)
            assert bus.is_attached
    finally:
        watched.close()


def test_p13_who_sends_no_messages_is_told_and_cut(watched: Watched, knock: Knock) -> None:
    """Within a moment, and not only when its time to be attached is over."""
    each = knock(watched, "frontend")
    each.sendall(frame(10, more=False))
    until(lambda: watched.count("cut_condemned") == 1, "it is cut")
    told = each.recv(65_536)
    assert len(told) > 10
    assert is_cut(each)


def test_p13_who_got_a_descriptor_since_is_not_cut_for_it(watched: Watched, knock: Knock) -> None:
    """Whoever had it has gone, and nobody has listened since."""
    first = knock(watched, "frontend", b"")
    until(lambda: len(watched.governor.ledger) == 1, "it is known")
    watched.stop()
    (blamed,) = watched.governor.ledger._connections.values()
    first.close()
    until(lambda: not Path(f"/proc/self/fd/{blamed.descriptor}").exists(), "ZeroMQ has closed it")
    second = knock(watched, "frontend", b"")
    until(lambda: Path(f"/proc/self/fd/{blamed.descriptor}").exists(), "the next has its number")
    watched.governor._cut(blamed, Why.ENDLESS)
    assert watched.count("cut_endless") == 0
    assert not is_cut(second)


def test_what_was_looked_at_can_end(watched: Watched, knock: Knock) -> None:
    """A copy of its descriptor that is kept would hold it open."""
    each = knock(watched, "frontend", b"")
    until(lambda: len(watched.governor.ledger) == 1, "it is known")
    until(lambda: watched.governor._judgements > 2, "it has been looked at")
    each.sendall(b"garbage" * 30)
    until(lambda: is_cut(each), "ZeroMQ has ended it")


def test_an_honest_message_may_take_its_time(watched: Watched) -> None:
    """The largest that there may be, many times, over both doors: nobody is cut."""
    dispatcher = zbus.Dispatcher()
    dispatcher.add("echo", lambda body: body)
    body = bytes(BODY_MAX - 64)
    with (
        zbus.connect(f"ipc://{watched.place}/backend", dispatcher=dispatcher, role="server"),
        zbus.connect(f"tcp://127.0.0.1:{watched.port('frontend')}") as far,
        zbus.connect(f"ipc://{watched.place}/frontend") as near,
    ):
        far.wait_served("echo", timeout=BOUND_S)
        for _ in range(40):
            waiting = [bus.submit("echo", body, timeout=BOUND_S) for bus in (far, near) * 8]
            assert all(each.result(BOUND_S) == body for each in waiting)
    assert not [event for event in watched.daemon.counts if event.startswith("cut_")]


def test_it_rests_while_nothing_comes(watched: Watched, knock: Knock) -> None:
    """A broker that nobody talks to turns as often as it must, and no more."""
    knock(watched, "frontend", b"")
    until(lambda: watched.daemon.gauges.get("connections") == 1, "it is known")
    until(lambda: watched.daemon.gauges.get("connections") == 0, "it is cut")
    until(lambda: watched.governor.wake_at() is None, "there is nothing to look at")
    turns, began = watched.turns, time.monotonic()
    until(lambda: time.monotonic() - began > 1.0, "a second")
    assert watched.turns - turns <= 20 * (time.monotonic() - began)


def test_without_a_guard_there_is_nothing_to_do(runtime_dir: Path, knock: Knock) -> None:
    """Nobody listens to such sockets."""
    watched = Watched(runtime_dir, guarded=False)
    try:
        each = knock(watched, "frontend")
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 2.5 * HELLO_S, "a while")
        assert not is_cut(each)
        assert watched.governor.wake_at() is None
    finally:
        watched.close()


def test_p24_it_leaves_nothing(runtime_dir: Path, knock: Knock) -> None:
    """No descriptor of a connection, nor of its own."""
    with leaving_nothing():
        watched = Watched(runtime_dir)
        for _ in range(20):
            knock(watched, "frontend").close()
        until(lambda: watched.daemon.gauges.get("connections") == 0, "they are gone")
        watched.close()


def test_the_bounds_are_those_of_the_settings(runtime_dir: Path) -> None:
    """A message that the bus allows is never too much; fewer descriptors, fewer connections."""
    watched = Watched(runtime_dir, connections=50)
    try:
        bounds = watched.governor.ledger._bounds
        assert (bounds.unread_bytes, bounds.strangers_bytes) == (LARGEST, LARGEST)
        assert watched.daemon.gauges["connections_max"] == bounds.connections == 50
        more = GovernorSection(unread_bytes=9_000_000, strangers_bytes=8_000_000)
        other = Governor(
            replace(watched.settings, governor=more), watched.network, watched.daemon, 500
        )
        bounds = other.ledger._bounds
        assert (bounds.unread_bytes, bounds.strangers_bytes) == (9_000_000, 8_000_000)
        assert bounds.connections < 250
        other.close()
    finally:
        watched.close()
