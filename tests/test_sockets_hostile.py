"""Senders that keep no rules hurt nobody but themselves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import zmq
from real_ports import connected, settle
from zmq.backend import Context, Socket

import zbus.transport.sockets as room
from zbus.transport.port import Received, Sent
from zbus.transport.sockets import ZmqNetwork


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


@pytest.fixture
def hostile() -> Iterator[Callable[..., Socket]]:
    """DEALERs that keep no rules, connected to an endpoint."""
    context = Context()
    sockets: list[Socket] = []

    def connect(endpoint: str, routing_id: bytes = b"") -> Socket:
        sockets.append(Socket(context, zmq.DEALER))
        sockets[-1].set(zmq.RCVTIMEO, 5_000)
        if routing_id:
            sockets[-1].set(zmq.ROUTING_ID, routing_id)
        sockets[-1].connect(endpoint)
        return sockets[-1]

    yield connect
    for opened in sockets:
        opened.close(0)
    context.term()


def test_an_endless_message_shifts_nobody(
    server: ZmqNetwork,
    client: ZmqNetwork,
    hostile: Callable[..., Socket],
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message of thousands of frames is thrown away a bounded number at a time, and the next
    message of another peer keeps its frames and its routing id."""
    monkeypatch.setattr(room, "_SKIP_MAX", 300)
    router, dealer, route = connected(server, client, endpoint)
    attacker = hostile(endpoint)
    for _ in range(2_000):
        attacker.send(route, zmq.SNDMORE)
    attacker.send(b"end")
    ((its_route, frames),) = settle(lambda: router.drain(9), server)
    assert its_route != route
    assert frames == []
    settle(lambda: dealer.send(b"", [b"honest", b"two"]) is Sent.SENT, client)
    drains = 0

    def drained() -> list[Received]:
        nonlocal drains
        drains += 1
        return router.drain(9)

    assert settle(drained, server) == [(route, [b"honest", b"two"])]
    assert drains >= 6


def test_a_forged_routing_id_stays_a_frame(
    server: ZmqNetwork,
    client: ZmqNetwork,
    hostile: Callable[..., Socket],
    endpoint: str,
) -> None:
    """Frames that look like another peer's message remain part of the message they are in."""
    router, _, route = connected(server, client, endpoint)
    attacker = hostile(endpoint)
    attacker.send(b"header", zmq.SNDMORE)
    attacker.send(route, zmq.SNDMORE)
    attacker.send(b"forged")
    ((its_route, frames),) = settle(lambda: router.drain(9), server)
    assert its_route != route
    assert frames == [b"header", route, b"forged"]


def test_noise_on_the_wire_hurts_nobody(server: ZmqNetwork, client: ZmqNetwork) -> None:
    """A connection that speaks no ZeroMQ is nobody else's trouble."""
    router, dealer, route = connected(server, client, "tcp://127.0.0.1:0")
    host, port = router.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as noise:
        noise.sendall(bytes(range(256)) * 8)
        assert router.send(route, [b"x"]) is Sent.SENT
        assert settle(lambda: dealer.drain(9), client) == [(b"", [b"x"])]


def test_a_routing_id_is_not_taken_over(
    server: ZmqNetwork,
    client: ZmqNetwork,
    hostile: Callable[..., Socket],
    endpoint: str,
) -> None:
    """A peer that claims the routing id of another gets none of its messages."""
    router, dealer, route = connected(server, client, endpoint)
    owner = hostile(endpoint, b"me")
    owner.send(b"first")
    assert settle(lambda: router.drain(9), server) == [(b"me", [b"first"])]
    thief = hostile(endpoint, b"me")
    thief.send(b"second")
    settle(lambda: thief.get(zmq.EVENTS) == zmq.POLLOUT)
    for number in range(50):  # by then the thief has been heard, if it is going to be
        settle(lambda: dealer.send(b"", [b"x"]) is Sent.SENT, client)
        assert [peer for peer, _ in settle(lambda: router.drain(9), server)] == [route], number
    assert router.send(b"me", [b"secret"]) is Sent.SENT
    assert owner.recv() == b"secret"
