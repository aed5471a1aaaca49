"""What ports in memory do beyond the suite: they share nothing and never sleep."""

from __future__ import annotations

import random

import pytest

from zbus.errors import InternalError
from zbus.protocol.limits import INLINE_MAX_BYTES
from zbus.testing.clock import VirtualClock
from zbus.testing.fabric import MemoryFabric
from zbus.testing.faults import PERFECT, Faults
from zbus.testing.network import MemoryNetwork, MemoryPort
from zbus.transport.port import Sent

PLACE = "ipc:///run/frontend"


def a_pair(faults: Faults = PERFECT) -> tuple[MemoryFabric, MemoryNetwork, MemoryPort, MemoryPort]:
    """A fabric with a DEALER of ``client``, whose network it is, connected to a ROUTER."""
    fabric = MemoryFabric(random.Random(1), VirtualClock(), faults)
    router = MemoryNetwork(fabric, "server").bind_router(PLACE)
    network = MemoryNetwork(fabric, "client")
    dealer = network.connect_dealer(PLACE)
    fabric.advance(0.0)
    return fabric, network, dealer, router


def test_nothing_sleeps_in_a_simulation() -> None:
    """A shell that sleeps in a simulation would sleep for ever; it is told instead."""
    _, network, _, _ = a_pair()
    with pytest.raises(InternalError, match="client sleeps"):
        network.wait(1.0)


def test_a_wake_names_the_process() -> None:
    """Whoever is woken is among those that the next ``advance`` names, once."""
    fabric, network, _, _ = a_pair()
    fabric.advance(1.0)
    network.wake()
    network.wake()
    assert fabric.advance(1.0) == ["client"]
    assert fabric.advance(1.0) == []


def test_frames_come_as_zeromq_gives_them() -> None:
    """Short frames are bytes and long ones views, and neither is the sender's memory."""
    fabric, _, dealer, router = a_pair()
    short, long = bytearray(INLINE_MAX_BYTES), bytearray(INLINE_MAX_BYTES + 1)
    assert dealer.send(b"", [memoryview(short), memoryview(long)]) is Sent.SENT
    short[0] = long[0] = 1
    fabric.advance(0.0)
    ((_, (one, other)),) = router.drain(9)
    assert isinstance(one, bytes)
    assert isinstance(other, memoryview)
    assert (one[0], other[0]) == (0, 0)


def test_room_is_told_once() -> None:
    """``readable`` says once that a FULL port has room, so that nobody turns for ever."""
    fabric, network, dealer, _ = a_pair(Faults(send_mark=1))
    assert dealer.send(b"", [b"1"]) is Sent.SENT
    assert dealer.send(b"", [b"2"]) is Sent.FULL
    assert not network.readable()
    assert fabric.advance(0.0) == ["server", "client"]
    assert network.readable()
    assert not network.readable()
    assert dealer.send(b"", [b"2"]) is Sent.SENT


def test_closed_ports_are_forgotten() -> None:
    """A peer that connects again and again does not keep what it closed."""
    fabric, network, dealer, _ = a_pair()
    for _ in range(10):
        dealer.close()
        dealer = network.connect_dealer(PLACE)
        fabric.advance(fabric.clock.now)
    assert len(vars(network)["_ports"]) == 1
    assert dealer.send(b"", [b"x"]) is Sent.SENT
