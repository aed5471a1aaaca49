"""Notices to the supervisor: zbus/broker/notify.py."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.notify import Notifier


def listening(address: str) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    door.bind(address)
    door.settimeout(5)
    return door


@pytest.fixture
def supervisor(runtime_dir: Path) -> Iterator[tuple[socket.socket, Notifier]]:
    """A socket like systemd's and a notifier that knows it."""
    with listening(f"{runtime_dir}/notify") as door:
        yield door, Notifier({"NOTIFY_SOCKET": f"{runtime_dir}/notify"})


def test_each_notice_says_what_systemd_reads(supervisor: tuple[socket.socket, Notifier]) -> None:
    """READY and STOPPING carry a status; the watchdog's is bare."""
    door, notifier = supervisor
    assert notifier.ready("serves 3 endpoints")
    assert notifier.status("2 peers")
    assert notifier.watchdog()
    assert notifier.stopping("drains")
    assert [door.recv(1_000) for _ in range(4)] == [
        b"READY=1\nSTATUS=serves 3 endpoints",
        b"STATUS=2 peers",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=drains",
    ]


def test_abstract_sockets_are_reached() -> None:
    """Their names are written with a leading @."""
    name = f"zbus-test-{os.getpid()}"
    with listening(f"\0{name}") as door:
        assert Notifier({"NOTIFY_SOCKET": f"@{name}"}).watchdog()
        assert door.recv(1_000) == b"WATCHDOG=1"


def test_a_status_cannot_smuggle_a_notice(supervisor: tuple[socket.socket, Notifier]) -> None:
    """It stays on one line, whatever a peer called itself."""
    door, notifier = supervisor
    notifier.status("peer\nMAINPID=1\r\n\x85STOPPING=1")
    assert door.recv(1_000) == b"STATUS=peer MAINPID=1 STOPPING=1"


@given(status=st.text())
def test_any_status_is_one_line(status: str) -> None:
    """Also with characters that UTF-8 cannot say."""
    name = f"\0zbus-status-{os.getpid()}"
    with listening(name) as door:
        assert Notifier({"NOTIFY_SOCKET": f"@{name[1:]}"}).status(status)
        assert len(door.recv(10_000).splitlines()) == 1


@pytest.mark.parametrize("name", [None, "", "@", "relative", "vsock:2:1"])
def test_without_a_supervisor_nothing_happens(name: str | None) -> None:
    """No variable, an empty one, or an address of a kind that we do not speak."""
    notifier = Notifier({} if name is None else {"NOTIFY_SOCKET": name})
    assert not notifier.ready("x")
    assert not notifier.watchdog()


def test_a_supervisor_that_is_gone_raises_nothing(runtime_dir: Path) -> None:
    """The broker goes on without it."""
    assert not Notifier({"NOTIFY_SOCKET": f"{runtime_dir}/gone"}).ready("x")
    assert not Notifier({"NOTIFY_SOCKET": "/" + "x" * 200}).ready("x")


def test_a_supervisor_that_does_not_read_stops_nobody(
    supervisor: tuple[socket.socket, Notifier],
) -> None:
    """A full socket refuses the notice at once: the loop below ends, and says so."""
    _, notifier = supervisor
    began = time.monotonic()
    sent = [notifier.watchdog() for _ in range(2_000)]
    assert time.monotonic() - began < 5.0
    assert sent[0]
    assert not sent[-1]


def test_no_descriptor_is_kept(supervisor: tuple[socket.socket, Notifier]) -> None:
    """Nothing is open between two notices, sent or not."""
    _, notifier = supervisor
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        notifier.watchdog()
        Notifier({"NOTIFY_SOCKET": "/nonexistent/notify"}).watchdog()
    assert before == os.listdir("/proc/self/fd")


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "77"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "10s"}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
        ({"WATCHDOG_PID": "77"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_interval(environ: dict[str, str], interval_s: float | None) -> None:
    """Only where systemd asks, and asks this process."""
    assert interval_s == Notifier(environ, pid=77).watchdog_s


@given(st.dictionaries(st.sampled_from(["WATCHDOG_USEC", "WATCHDOG_PID"]), st.text()))
def test_no_environment_raises(environ: dict[str, str]) -> None:
    """Whatever stands in the variables, there is an interval above zero or none."""
    found = Notifier(environ).watchdog_s
    assert found is None or found > 0
