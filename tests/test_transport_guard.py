"""What guards a socket: zbus/transport/guard.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from real_ports import connected, settle

from zbus.broker.keys import SecretKey, Trust, new_key
from zbus.broker.zap import Authenticator, Table
from zbus.transport.guard import ClientGuard, Gate, Handshake, ServerGuard, Users
from zbus.transport.port import LOCAL, Sent
from zbus.transport.sockets import ZmqNetwork

BROKER, GOOD, GONE, STRANGER = (new_key(name) for name in ("broker", "good", "gone", "stranger"))
TABLE = Table(Trust({GOOD.fingerprint: "good"}, {GONE.fingerprint: "gone"}))


class Frame:
    """A frame whose connection has this user and descriptor; None for one that has none."""

    def __init__(self, user: str | None, descriptor: int | None = None) -> None:
        self.user = user
        self.descriptor = descriptor

    def get(self, name: str | int) -> str | int:
        value = self.descriptor if name == zmq.SRCFD else self.user
        if value is None:
            raise zmq.ZMQError(zmq.EINVAL)
        return value


@pytest.fixture
def server() -> Iterator[ZmqNetwork]:
    network = ZmqNetwork(gate=Gate(ServerGuard(secret=BROKER.secret)))
    authenticator = Authenticator(network.context, TABLE)
    authenticator.start()
    yield network
    authenticator.stop()
    network.close()


def knocking(guard: ClientGuard | None) -> tuple[ZmqNetwork, list[Handshake]]:
    """A peer's network, and what its handshakes came to."""
    seen: list[Handshake] = []
    return ZmqNetwork(gate=Gate(guard, lambda handshake, attempt: seen.append(handshake))), seen


def guard_of(key: SecretKey, server: str = BROKER.public) -> ClientGuard:
    return ClientGuard(public=key.public, secret=key.secret, servers=(server,))


def test_p14_a_port_says_who_a_connection_is(server: ZmqNetwork, runtime_dir: Path) -> None:
    """By its key over tcp, as local over ipc, at the same time."""
    client, seen = knocking(guard_of(GOOD))
    try:
        router, dealer, route = connected(server, client, "tcp://127.0.0.1:*")
        assert router.user(route) == GOOD.public
        dealer.drain(1)
        assert seen == [Handshake.DONE]
        router, _, route = connected(server, client, f"ipc://{runtime_dir}/x")
        assert router.user(route) == LOCAL
        assert router.user(b"\0none") not in (LOCAL, "")
    finally:
        client.close()


def test_p16_a_handshake_tells_what_it_came_to(server: ZmqNetwork) -> None:
    """Unknown, revoked, cut by a broker with another key, and no security on our side."""
    router = server.bind_router("tcp://127.0.0.1:*")
    cases = {
        Handshake.UNKNOWN: guard_of(STRANGER),
        Handshake.REVOKED: guard_of(GONE),
        Handshake.CUT: guard_of(GOOD, STRANGER.public),
        Handshake.MISMATCH: None,
    }
    for expected, guard in cases.items():
        client, seen = knocking(guard)
        try:
            dealer = client.connect_dealer(router.endpoint)
            settle(lambda: dealer.drain(1) or expected in seen, client)  # noqa: B023
            assert {*seen} <= {expected, Handshake.CUT}  # which may be all that is heard at first
            assert dealer.send(b"", [b"x"]) is not Sent.SENT
        finally:
            client.close()
    assert router.drain(9) == []


def test_p16_without_an_authenticator_nobody_comes_in(runtime_dir: Path) -> None:
    """Neither with a trusted key nor over ipc."""
    network = ZmqNetwork(gate=Gate(ServerGuard(secret=BROKER.secret)))
    client, seen = knocking(guard_of(GOOD))
    try:
        router = network.bind_router("tcp://127.0.0.1:*", f"ipc://{runtime_dir}/x")
        dealer = client.connect_dealer(router.endpoint)
        local = client.connect_dealer(f"ipc://{runtime_dir}/x")
        settle(lambda: dealer.drain(1) or len(seen) > 2, client)
        assert set(seen) == {Handshake.CUT}
        local.send(b"", [b"x"])
        assert router.drain(9) == []
    finally:
        client.close()
        network.close()


def test_p14_a_chosen_routing_id_is_asked_anew() -> None:
    """Another connection may have had it; one that ZeroMQ chose is a connection's for good."""
    users = Users()
    users.note(b"\0auto", Frame("a"))  # type: ignore[arg-type]
    users.note(b"chosen", Frame("a"))  # type: ignore[arg-type]
    assert users.heard == {b"\0auto"}
    users.note(b"chosen", Frame("b"))  # type: ignore[arg-type]
    assert (users.of(b"\0auto"), users.of(b"chosen")) == ("a", "b")
    users.note(b"chosen", Frame(None))  # type: ignore[arg-type]
    assert users.of(b"chosen") == users.of(b"never") != LOCAL


def test_users_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, and asked anew."""
    monkeypatch.setattr("zbus.transport.guard._USERS_MAX", 2)
    users = Users()
    for peer in (b"\0a", b"\0b", b"\0c"):
        users.note(peer, Frame("x"))  # type: ignore[arg-type]
    assert [users.of(peer) for peer in (b"\0a", b"\0b", b"\0c")] == ["nobody", "x", "x"]
    assert len(users.heard) <= 2


def test_users_know_which_descriptors_were_heard() -> None:
    """Each once, those of a PULL as well, and from one time to the next."""
    users = Users()
    for peer, descriptor in ((b"\0a", 5), (b"\0a", 5), (b"own", 6), (b"", 7), (b"\0d", None)):
        users.note(peer, Frame("x", descriptor))  # type: ignore[arg-type]
    assert users.take() == {5, 6, 7, -1}
    assert (users.heard, users.take()) == (set(), set())
    users.note(b"\0a", Frame("x", 99))  # type: ignore[arg-type]
    assert users.take() == {5}  # a routing id that ZeroMQ chose is one connection's for good
    assert [users.descriptor_of(peer) for peer in (b"\0a", b"own", b"never")] == [5, 6, -1]


def test_no_secret_is_in_a_repr() -> None:
    """Whoever logs a guard shows none."""
    assert BROKER.secret not in repr(ServerGuard(secret=BROKER.secret))
    assert GOOD.secret not in repr(guard_of(GOOD))
