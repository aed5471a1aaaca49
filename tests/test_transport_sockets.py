"""What ports over ZeroMQ do beyond the suite: edges, frames, threads, options."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import overload

import pytest
import zmq
from real_ports import BOUND_S, connected, rings, settle

import zbus.transport.sockets as room
from zbus.protocol.limits import INLINE_MAX_BYTES
from zbus.transport.port import Frame, Sent
from zbus.transport.profile import SocketProfile
from zbus.transport.sockets import ZmqNetwork, ZmqPort


@pytest.fixture
def server() -> Iterator[ZmqNetwork]:
    network = ZmqNetwork()
    yield network
    network.close()


@pytest.fixture
def client() -> Iterator[ZmqNetwork]:
    network = ZmqNetwork()
    yield network
    network.close()


# -- edges ---------------------------------------------------------------------------------


def test_an_edge_that_a_send_swallowed_is_found(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str
) -> None:
    """A send can silence the descriptor although a message is there; ``readable`` sees it."""
    router, dealer, route = connected(server, client, endpoint)
    assert router.send(route, [b"reply"]) is Sent.SENT
    settle(lambda: rings(dealer))
    settle(lambda: dealer.send(b"", [b"x"]) is not Sent.GONE and not rings(dealer))
    client.wait(0.0)
    assert client.readable()
    assert dealer.drain(9) == [(b"", [b"reply"])]


def test_a_quiet_port_is_asked_again_once_it_rang(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str
) -> None:
    """A port that was found quiet is not asked before a ``wait`` looked at its descriptor."""
    router, dealer, route = connected(server, client, endpoint)
    assert router.send(route, [b"reply"]) is Sent.SENT
    settle(lambda: rings(dealer))
    assert dealer.drain(9) == []
    assert not client.readable()
    assert client.wait(0.0)
    assert client.readable()
    assert dealer.drain(9) == [(b"", [b"reply"])]


def test_a_wait_takes_the_note_back(server: ZmqNetwork, client: ZmqNetwork, endpoint: str) -> None:
    """After a ``wait`` that a message ended, the next ``drain`` has it."""
    router, dealer, route = connected(server, client, endpoint)
    assert router.send(route, [b"reply"]) is Sent.SENT
    client.wait(BOUND_S)
    assert dealer.drain(9) == [(b"", [b"reply"])]


def test_room_is_told_once(server: ZmqNetwork, client: ZmqNetwork, endpoint: str) -> None:
    """``readable`` says once that a FULL port has room, so that nobody turns for ever."""
    dealer = client.connect_dealer(endpoint)
    assert dealer.send(b"", [b"x"]) is Sent.FULL
    assert not client.readable()
    server.bind_router(endpoint)
    settle(client.readable)
    assert not client.readable()
    assert dealer.send(b"", [b"x"]) is Sent.SENT


# -- frames --------------------------------------------------------------------------------


def test_large_frames_are_views_and_outlive_their_network(endpoint: str) -> None:
    """A large frame is not copied on receipt, a small one is bytes, and both stay good when the
    network is closed."""
    server, client = ZmqNetwork(), ZmqNetwork()
    router, dealer, _ = connected(server, client, endpoint)
    large = os.urandom(INLINE_MAX_BYTES + 1)
    assert dealer.send(b"", [large[:-1], large]) is Sent.SENT
    ((_, (small, view)),) = settle(lambda: router.drain(9), server)
    client.close()
    server.close()
    assert isinstance(small, bytes)
    assert isinstance(view, memoryview)
    assert small == large[:-1]
    assert view == large


class Dying(Sequence[Frame]):
    """Frames of a message; before the second one is handed over, something happens."""

    def __init__(self, frames: list[Frame], happen: Callable[[], object]) -> None:
        self.frames = frames
        self.happen = happen

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if index == 1:
            self.happen()
        return self.frames[index]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_connection_that_ends_under_a_message_takes_only_that(endpoint: str, count: int) -> None:
    """A message under which the connection ended is refused or vanishes whole, as ZeroMQ's
    thread has it, and whichever it is, the next one is whole."""
    client = ZmqNetwork(SocketProfile(reconnect_ms=1, reconnect_max_ms=2))
    frames: list[Frame] = [b"%d" % number for number in range(count)]
    for attempt in range(20):
        server = ZmqNetwork()
        _, dealer, _ = connected(server, client, f"{endpoint}-{attempt}")
        sent = dealer.send(b"", Dying(frames, lambda: die(server, dealer)))  # noqa: B023
        assert sent in (Sent.FULL, Sent.SENT)
        heir = ZmqNetwork()
        router = heir.bind_router(dealer.endpoint)
        settle(lambda: dealer.send(b"", [b"next"]) is Sent.SENT, client)  # noqa: B023
        ((_, received),) = settle(lambda: router.drain(9), heir)  # noqa: B023
        assert received == [b"next"]
        dealer.close()
        heir.close()
    client.close()


def die(server: ZmqNetwork, dealer: ZmqPort) -> None:
    """Close one side, and let the socket of the other take note."""
    server.close()
    settle(lambda: rings(dealer))
    dealer.socket.get(zmq.EVENTS)


@pytest.mark.parametrize("routed", [True, False])
def test_an_interrupted_send_is_a_lost_connection(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str, routed: bool
) -> None:
    """A port that is interrupted between two frames closes itself: nobody receives half a
    message, or two in one."""
    router, dealer, route = connected(server, client, endpoint)
    sender, receiver = (router, dealer) if routed else (dealer, router)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sender.send(route, Dying([b"one", b"two", b"three"], interrupt))
    assert sender.send(route, [b"after"]) is Sent.GONE
    assert not server.readable()
    assert not client.readable()
    assert receiver.drain(9) == []


@pytest.mark.pure
def test_an_interrupted_drain_is_a_lost_connection(
    server: ZmqNetwork,
    client: ZmqNetwork,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A port that is interrupted between a routing id and its frame closes itself."""
    router, dealer, route = connected(server, client, endpoint)
    assert dealer.send(b"", [b"x"]) is Sent.SENT
    settle(lambda: server.wait(0.0))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "_owned", interrupt)
    with pytest.raises(KeyboardInterrupt):
        router.drain(9)
    monkeypatch.undo()
    assert router.drain(9) == []
    assert router.send(route, [b"x"]) is Sent.GONE


# -- threads ------------------------------------------------------------------------------


def test_ports_may_come_and_go_while_another_thread_waits(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str
) -> None:
    """A sleeping thread is woken by a message on a port that was opened after it fell asleep,
    and is not disturbed by one that was closed."""
    early = server.bind_pull(f"{endpoint}-early")
    slept = threading.Event()

    def sleep() -> None:
        server.wait(BOUND_S)
        slept.set()

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    early.close()
    router = server.bind_router(endpoint)
    dealer = client.connect_dealer(endpoint)
    settle(lambda: dealer.send(b"", [b"x"]) is Sent.SENT, client)
    assert slept.wait(BOUND_S / 2)
    sleeper.join(BOUND_S)
    settle(lambda: router.drain(9), server)


class Sharing:
    """Threads that share one DEALER under a lock, one of them asleep in ``wait`` without it:
    the pattern of a peer."""

    def __init__(self, network: ZmqNetwork, dealer: ZmqPort, total: int) -> None:
        self.network = network
        self.dealer = dealer
        self.total = total
        self.lock = threading.Lock()
        self.replies: list[int] = []

    def ask(self, first: int, step: int) -> None:
        for number in range(first, self.total, step):
            with self.lock:
                settle(lambda: self.dealer.send(b"", [b"%d" % number]) is Sent.SENT)  # noqa: B023
                must_turn = self.network.readable()
            if must_turn:
                self.network.wake()

    def listen(self) -> None:
        until = time.monotonic() + BOUND_S
        while len(self.replies) < self.total and time.monotonic() < until:
            with self.lock:
                self.replies += [int(bytes(frames[0])) for _, frames in self.dealer.drain(100)]
                idle = not self.network.readable()
            if idle and len(self.replies) < self.total:
                self.network.wait(BOUND_S / 2)


def test_one_thread_sleeps_while_others_send(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str
) -> None:
    """Every reply arrives, and nobody sleeps through one."""
    router, dealer, _ = connected(server, client, endpoint)
    sharing = Sharing(client, dealer, 600)
    threads = [threading.Thread(target=sharing.ask, args=(first, 3)) for first in range(3)]
    threads.append(threading.Thread(target=sharing.listen))
    started = time.monotonic()
    for thread in threads:
        thread.start()
    echoed = 0
    while echoed < 600 and time.monotonic() < started + BOUND_S:
        for route, frames in router.drain(100):
            settle(partial(is_sent, router, route, frames))
            echoed += 1
        if not server.readable() and echoed < 600:
            server.wait(BOUND_S / 2)
    for thread in threads:
        thread.join(BOUND_S)
    assert sorted(sharing.replies) == list(range(600))
    assert time.monotonic() - started < BOUND_S / 2


def is_sent(port: ZmqPort, route: bytes, frames: list[Frame]) -> bool:
    return port.send(route, frames) is Sent.SENT


# -- options -------------------------------------------------------------------------------


def test_sockets_have_the_options_of_the_profile(
    server: ZmqNetwork, client: ZmqNetwork, runtime_dir: Path
) -> None:
    """Every socket has the numbers of the profile, no heartbeats and no lingering; those that
    connect queue nothing before they are connected."""
    ports = [
        server.bind_router(f"ipc://{runtime_dir}/a"),
        server.bind_pull(f"ipc://{runtime_dir}/b"),
        client.connect_dealer(f"ipc://{runtime_dir}/a"),
        client.connect_push(f"ipc://{runtime_dir}/b"),
    ]
    profile = SocketProfile()
    for port in ports:
        option = port.socket.get
        assert option(zmq.LINGER) == 0
        assert option(zmq.HEARTBEAT_IVL) == 0
        assert option(zmq.ROUTING_ID) == b""
        bound = port.socket.get(zmq.TYPE) in (zmq.ROUTER, zmq.PULL)
        assert option(zmq.MAXMSGSIZE) == (profile.frame_max_bytes if bound else -1)
        assert option(zmq.SNDHWM) == profile.send_mark
        assert option(zmq.RCVHWM) == profile.receive_mark
        assert option(zmq.HANDSHAKE_IVL) == profile.handshake_ms
        assert option(zmq.TCP_MAXRT) == profile.unanswered_ms
        assert option(zmq.TCP_KEEPALIVE) == 1
        assert option(zmq.TCP_KEEPALIVE_IDLE) == profile.keepalive_idle_s
        assert option(zmq.TCP_KEEPALIVE_INTVL) == profile.keepalive_every_s
        assert option(zmq.TCP_KEEPALIVE_CNT) == profile.keepalive_count
    for port in ports[:2]:
        assert port.socket.get(zmq.BACKLOG) == profile.backlog
    for port in ports[2:]:
        assert port.socket.get(zmq.IMMEDIATE) == 1
        assert port.socket.get(zmq.CONNECT_TIMEOUT) == profile.connect_ms
        assert port.socket.get(zmq.RECONNECT_IVL) == profile.reconnect_ms
        assert port.socket.get(zmq.RECONNECT_IVL_MAX) == profile.reconnect_max_ms
