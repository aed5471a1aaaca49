"""What a bound socket says of its connections: zbus/transport/monitor.py."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest
import zmq
from real_ports import settle
from zmq.backend import Context, Socket

from zbus.transport.monitor import Monitor, Tiding, Tidings


@pytest.fixture
def door() -> Iterator[tuple[Monitor, int]]:
    """A monitor, and the port of the socket that it watches."""
    context = Context()
    watched = Socket(context, zmq.ROUTER)
    watched.set(zmq.HANDSHAKE_IVL, 200)
    monitor = Monitor(context, watched)
    watched.bind("tcp://127.0.0.1:*")
    endpoint = watched.get(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    yield monitor, int(endpoint.decode().rpartition(":")[2])
    monitor.close()
    monitor.close()
    watched.close(0)
    context.term()


def heard(monitor: Monitor, until: Tiding) -> list[Tidings]:
    found: list[Tidings] = []

    def came() -> bool:
        found.extend(monitor.hear())
        return until in [each.tiding for each in found]

    settle(came)
    return found


def test_it_tells_of_the_beginning_and_the_end(door: tuple[Monitor, int]) -> None:
    """With the descriptor, which is ours to look at in between, and why there was none."""
    monitor, port = door
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        (came,) = heard(monitor, Tiding.ACCEPTED)
        assert came.endpoint == f"tcp://127.0.0.1:{port}"
        with socket.socket(fileno=socket.dup(came.value)) as ours:
            assert ours.getpeername() == stranger.getsockname()
    ended = heard(monitor, Tiding.ENDED)
    assert [each.value for each in ended if each.tiding is Tiding.ENDED] == [came.value]


def test_it_tells_of_a_handshake_that_comes_to_nothing(door: tuple[Monitor, int]) -> None:
    """One that is too late."""
    monitor, port = door
    with socket.create_connection(("127.0.0.1", port)):
        tidings = [each.tiding for each in heard(monitor, Tiding.ENDED)]
    assert tidings == [Tiding.ACCEPTED, Tiding.REFUSED, Tiding.ENDED]


def test_its_descriptor_rings(door: tuple[Monitor, int]) -> None:
    """From the first event on, and not once all has been heard."""
    monitor, port = door
    poll = select.poll()
    poll.register(monitor.descriptor, select.POLLIN)
    assert not poll.poll(0)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port)):
            assert poll.poll(10_000)
            heard(monitor, Tiding.ACCEPTED)
        heard(monitor, Tiding.ENDED)
        assert not poll.poll(0)


def test_events_that_nobody_hears_hold_up_nobody(door: tuple[Monitor, int]) -> None:
    """Thousands of them: the socket still accepts."""
    monitor, port = door
    count = 3_000
    for _ in range(count):
        socket.create_connection(("127.0.0.1", port), timeout=10.0).close()
    found: list[Tidings] = []

    def all_ended() -> bool:
        found.extend(monitor.hear())
        return sum(each.tiding is Tiding.ENDED for each in found) == count

    settle(all_ended)


def test_what_is_closed_hears_nothing(door: tuple[Monitor, int]) -> None:
    """And the socket goes on."""
    monitor, port = door
    monitor.close()
    socket.create_connection(("127.0.0.1", port)).close()
    assert monitor.hear() == []
