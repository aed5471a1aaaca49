"""Over ipc it is the kernel that says whose a connection is: another user's is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.cluster import Cluster, wait_for

import zbus

pytestmark = pytest.mark.real
OTHER_USER = 54_321
GREETING = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + bytes(16 + 1 + 31)
DEALER = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
PUSH = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
"""ZMTP 3.0 without security, as its specification (RFC 23) writes it."""
DOORS = {"frontend": DEALER, "backend": DEALER, "pipe": PUSH}


@pytest.fixture
def cluster(runtime_dir: Path) -> Iterator[Cluster]:
    """A cluster whose doors stand open to every user of the machine."""
    if os.geteuid() != 0:
        pytest.skip("only root can come as another user")
    with Cluster(runtime_dir) as made:
        yield made


def answer_to(path: Path, ready: bytes, user: int) -> bytes:
    """What a door says to a handshake of this user, behind its greeting."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(user)
            os.write(writing, _shake_hands(path, ready))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def _shake_hands(path: Path, ready: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(5.0)
        door.connect(str(path))
        door.sendall(GREETING + ready)
        said = b""
        while len(said) < len(GREETING) + 8 and (more := door.recv(4_096)):
            said += more
    return said[len(GREETING) :]


def test_p14_another_user_is_refused_at_every_ipc_door(cluster: Cluster) -> None:
    """Even where somebody has opened the directory: with the number 400 and a line in the log;
    our own user comes in by the same bytes."""
    broker = cluster.broker()
    run = cluster.place / "run"
    for path in (cluster.place, run):
        path.chmod(0o711)
    for door, ready in DOORS.items():
        (run / door).chmod(0o777)
        assert b"\x05ERROR\x03400" in answer_to(run / door, ready, OTHER_USER), door
        assert b"READY" in answer_to(run / door, ready, 0), door
    address = f"localhost:{OTHER_USER}:"
    wait_for(lambda: cluster.logs().count(address) == len(DOORS), 5.0, "three lines in the log")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        assert bus.request("zbus.ping", timeout=5.0)
    assert broker.poll() is None


def test_p14_the_directory_keeps_others_out_before_that(cluster: Cluster) -> None:
    """It is made with mode 0700, so that nobody else gets as far as the door."""
    cluster.broker()
    assert (cluster.place / "run").stat().st_mode & 0o777 == 0o700
    cluster.place.chmod(0o711)
    assert answer_to(cluster.place / "run" / "frontend", DEALER, OTHER_USER) == b""
