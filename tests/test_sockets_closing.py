"""Ports over ZeroMQ leave nothing behind, steal nothing, and survive fork()."""

from __future__ import annotations

import os
import resource
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_ports import connected, rings, settle

from zbus.errors import AlreadyRunning, ClosedError, ConfigError
from zbus.transport.port import Sent
from zbus.transport.profile import SocketProfile
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


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("nonsense", "no address"),
        ("inproc://x", "no address"),
        ("ipc://", "no address"),
        ("ipc:///run/a\0b", "no address"),
        ("tcp://127.0.0.1", "port is a number"),
        ("tcp://127.0.0.1:65536", "port is a number"),
        ("ipc:///nowhere/at/all", "does not exist"),
        ("ipc:///proc/self/stat/x", "is a file"),
        ("ipc:///run/" + "x" * 104, "longer than 107"),
        ("tcp://no-such-interface:1", "interface"),
        ("tcp://192.0.2.1:1", "does not have that address"),
    ],
)
def test_a_bad_address_is_refused_in_words(server: ZmqNetwork, endpoint: str, reason: str) -> None:
    """What cannot be bound is a ConfigError that names the endpoint and the reason."""
    with pytest.raises(ConfigError, match=reason) as caught:
        server.bind_router(endpoint)
    assert endpoint in str(caught.value)
    assert not server.readable()


def test_a_bad_address_is_refused_when_connecting(client: ZmqNetwork) -> None:
    """A peer is told too, where there is anything to tell before a connection."""
    for endpoint in ("nonsense", "tcp://127.0.0.1:0x1", "ipc:///run/" + "x" * 104, "ipc://"):
        with pytest.raises(ConfigError):
            client.connect_dealer(endpoint)


def test_no_descriptors_left_is_told_in_words(server: ZmqNetwork, endpoint: str) -> None:
    """A process that may open no more files hears that, and can go on when it may again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(ConfigError, match="no more files"):
            server.bind_router(endpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.bind_router(endpoint)


def test_a_taken_tcp_port_is_refused(server: ZmqNetwork) -> None:
    """A tcp port that any other program listens on is taken."""
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(AlreadyRunning):
        server.bind_router(f"tcp://127.0.0.1:{other.getsockname()[1]}")


def test_the_socket_file_goes_with_its_port(server: ZmqNetwork, runtime_dir: Path) -> None:
    """The file that a bind made is a socket, and is gone after ``close``."""
    path = runtime_dir / "frontend"
    router = server.bind_router(f"ipc://{path}")
    assert stat.S_ISSOCK(path.stat().st_mode)
    router.close()
    assert list(runtime_dir.iterdir()) == []


def test_a_bind_that_fails_half_way_leaves_nothing(server: ZmqNetwork, runtime_dir: Path) -> None:
    """Of several endpoints all are bound, or none is and no file is left."""
    path = runtime_dir / "frontend"
    with pytest.raises(ConfigError):
        server.bind_router(f"ipc://{path}", "ipc:///nowhere/at/all")
    assert list(runtime_dir.iterdir()) == []
    server.bind_router(f"ipc://{path}")


def test_the_file_of_somebody_else_stays(server: ZmqNetwork, runtime_dir: Path) -> None:
    """``close`` removes nothing that another put in the place of its file."""
    path = runtime_dir / "frontend"
    server.bind_router(f"ipc://{path}")
    path.unlink()
    path.write_text("precious")
    server.close()
    assert path.read_text() == "precious"


def test_nothing_leaks(runtime_dir: Path) -> None:
    """Fifty networks opened, used and closed leave no descriptor, thread or file."""

    def cycle() -> None:
        server, client = ZmqNetwork(), ZmqNetwork()
        server.bind_pull(f"ipc://{runtime_dir}/pipe")
        client.connect_push(f"ipc://{runtime_dir}/pipe")
        connected(server, client, f"ipc://{runtime_dir}/frontend")
        client.close()
        server.close()

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    cycle()
    before = held()
    for _ in range(50):
        cycle()
    assert held() == before
    assert list(runtime_dir.iterdir()) == []


@pytest.fixture
def slow() -> Iterator[ZmqNetwork]:
    """A peer that takes next to nothing when it does not drain."""
    network = ZmqNetwork(SocketProfile(receive_mark=1))
    yield network
    network.close()


def test_closing_is_quick_whoever_does_not_answer(slow: ZmqNetwork, runtime_dir: Path) -> None:
    """``close`` does not wait for connections that never came about, nor for queued messages."""
    network = ZmqNetwork()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        for _ in range(5):
            network.connect_dealer(endpoint)
            network.connect_push(f"ipc://{runtime_dir}/nobody")
        router, dealer, route = connected(network, slow, f"ipc://{runtime_dir}/x")
        while router.send(route, [bytes(100_000)]) is Sent.SENT:
            pass
        before = time.monotonic()
        network.close()
        assert time.monotonic() - before < 2.0
    assert dealer.endpoint == router.endpoint


def test_what_was_accepted_may_leave_before_closing(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str
) -> None:
    """Given time to linger, ``close`` loses nothing that a connection had accepted."""
    router, dealer, _ = connected(server, client, endpoint)
    accepted = 0
    while accepted < 60 and dealer.send(b"", [bytes(50_000)]) is Sent.SENT:
        accepted += 1
    client.close(linger_s=5.0)
    arrived: list[int] = []

    def all_are_there() -> bool:
        arrived.extend(len(frames[0]) for _, frames in router.drain(100))
        return len(arrived) == accepted

    settle(all_are_there, server)
    assert accepted > 1


def test_lingering_has_an_end(slow: ZmqNetwork, runtime_dir: Path) -> None:
    """A peer that takes nothing holds ``close`` up for the time given, and no longer."""
    network = ZmqNetwork()
    router, _, route = connected(network, slow, f"ipc://{runtime_dir}/x")
    while router.send(route, [bytes(100_000)]) is Sent.SENT:
        pass
    before = time.monotonic()
    network.close(linger_s=0.2)
    assert 0.2 <= time.monotonic() - before < 2.0


def test_a_closed_network_does_not_wait(client: ZmqNetwork) -> None:
    """Sleeping on a closed network is a mistake that is told, not a hang."""
    client.close()
    with pytest.raises(ClosedError):
        client.wait(None)


def test_a_forked_child_closes_nothing_of_its_parent(
    server: ZmqNetwork, client: ZmqNetwork, runtime_dir: Path
) -> None:
    """``close`` in a child leaves the parent's sockets and files alone."""
    path = runtime_dir / "frontend"
    router, dealer, route = connected(server, client, f"ipc://{path}")
    child = os.fork()
    if child == 0:
        try:
            router.close()
            server.close()
            client.close()
        except BaseException:  # noqa: BLE001 - the child may only leave by _exit
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert path.exists()
    assert router.send(route, [b"x"]) is Sent.SENT
    assert settle(lambda: dealer.drain(9), client) == [(b"", [b"x"])]


def test_a_forked_child_does_not_keep_its_parent_awake(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str
) -> None:
    """A child holds copies of all descriptors; those of a closed port wake the parent no more."""
    router, dealer, route = connected(server, client, endpoint)
    assert router.send(route, [b"x"]) is Sent.SENT
    settle(lambda: rings(dealer))
    until_closed, keep = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(keep)
        os.read(until_closed, 1)
        os._exit(0)
    dealer.close()
    before = time.monotonic()
    client.wait(0.05)
    assert time.monotonic() - before >= 0.05
    os.close(keep)
    os.close(until_closed)
    os.waitpid(child, 0)
