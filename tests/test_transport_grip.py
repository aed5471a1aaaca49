"""One connection, looked at and ended by its descriptor: zbus/transport/grip.py."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest
from brokers import leaving_nothing
from real_ports import settle

from zbus.transport.grip import Footprint, Grip


@pytest.fixture
def grip() -> Iterator[Grip]:
    made = Grip()
    yield made
    made.close()
    made.close()


@pytest.fixture
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, ours first."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as theirs,
    ):
        ours, _ = server.accept()
        with ours:
            yield ours, theirs


def test_p13_it_tells_what_was_read_of_a_tcp_connection(
    grip: Grip, tcp: tuple[socket.socket, socket.socket]
) -> None:
    """By whomever; what waits is not counted."""
    ours, theirs = tcp
    assert grip.hold(ours.fileno())
    theirs.sendall(bytes(1_000))
    assert len(ours.recv(300, socket.MSG_WAITALL)) == 300
    settle(lambda: len(ours.recv(2_000, socket.MSG_PEEK)) == 700)
    assert grip.taken() == 300
    assert len(ours.recv(700, socket.MSG_WAITALL)) == 700
    assert grip.taken() == 1_000


def test_an_ipc_connection_is_not_counted(grip: Grip) -> None:
    """Nor is what is held in between, or is no connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x")
        assert grip.hold(ours.fileno())
        assert grip.taken() is None
        assert grip.origin() == f"process {os.getpid()}"
    grip.release()
    assert (grip.taken(), grip.origin()) == (None, "")
    grip.cut()
    reader, writer = os.pipe()
    assert grip.hold(reader)
    assert (grip.taken(), grip.origin()) == (None, "")
    grip.cut()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_tells_where_a_connection_comes_from(grip: Grip, host: str) -> None:
    """Whatever the kind of the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]),
    ):
        ours, _ = server.accept()
        with ours:
            assert grip.hold(ours.fileno())
            assert grip.origin() == host


def test_p13_what_is_held_is_cut_although_its_number_is_anothers(
    grip: Grip, tcp: tuple[socket.socket, socket.socket]
) -> None:
    """Who holds first, and cuts then, cuts what was there when it held."""
    ours, theirs = tcp
    innocent, other = socket.socketpair()
    with innocent, other:
        assert grip.hold(ours.fileno())
        os.dup2(innocent.fileno(), ours.fileno())
        grip.cut()
        assert theirs.recv(1) == b""
        other.sendall(b"x")
        assert innocent.recv(1) == b"x"


def test_what_is_gone_cannot_be_held(grip: Grip) -> None:
    """No error, and the one before is held no longer than until it is released."""
    ours, theirs = socket.socketpair()
    with theirs:
        gone = ours.fileno()
        grip.hold(gone)
        ours.close()
        assert not grip.hold(gone)
        grip.release()
        assert theirs.recv(1) == b""


def test_p13_it_works_without_a_free_descriptor(
    grip: Grip, tcp: tuple[socket.socket, socket.socket]
) -> None:
    """A process that has none left must still be able to end connections."""
    ours, theirs = tcp
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError, match="Too many"):
            os.dup(0)
        assert grip.hold(ours.fileno())
        assert grip.taken() == 0
        grip.cut()
        grip.release()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert theirs.recv(1) == b""


def test_it_leaves_nothing() -> None:
    """No descriptor of its own, nor of what it held."""
    with leaving_nothing():
        Grip().close()
        footprint = Footprint()
        footprint.close()
        footprint.close()


def test_the_process_has_a_size() -> None:
    """In bytes, and it grows."""
    footprint = Footprint()
    before = footprint.size()
    more = bytearray(os.urandom(1_000)) * 50_000
    assert 40_000_000 < footprint.size() - before < 200_000_000
    assert len(more) == 50_000_000
    footprint.close()
