"""Where the suite of ports runs: networks over ZeroMQ or in memory, and a way to wait."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from zbus.testing.clock import VirtualClock
from zbus.testing.fabric import MemoryFabric
from zbus.testing.faults import Faults
from zbus.testing.network import MemoryNetwork
from zbus.transport.port import Frame, Network, Port, Received, Sent
from zbus.transport.profile import SocketProfile
from zbus.transport.sockets import ZmqNetwork

T = TypeVar("T")
BOUND_S = 10.0
MARK = 8


class World(ABC):
    """Where the suite runs: networks for several processes, and a way to let time pass."""

    def __init__(self) -> None:
        self.networks: list[Network] = []
        self.told: list[Network] = []
        self.addresses = 0

    @abstractmethod
    def network(self, owner: str, mark: int = 64) -> Network:
        """The network of another process. With a small ``mark``, FULL comes soon."""

    @abstractmethod
    def address(self) -> str:
        """Where nobody is; for tcp any free port, so that the bound port must be asked."""

    @abstractmethod
    def pass_time(self, until: float) -> None:
        """Let something happen, if anything does before ``until``."""

    @abstractmethod
    def now(self) -> float: ...

    def settle(self, condition: Callable[[], T | None], bound_s: float = BOUND_S) -> T:
        """Let time pass until the condition holds; fail if it does not within the bound."""
        until = self.now() + bound_s
        while not (held := condition()):
            assert self.now() < until, "it did not come to this in time"
            self.pass_time(until)
        return held

    def tells(self, network: Network) -> bool:
        """Whether its ``readable`` has been true since ``told`` was cleared."""
        return network.readable() or network in self.told

    def end(self, index: int) -> None:
        """Close one of the networks."""
        self.networks.pop(index).close()

    def close(self) -> None:
        while self.networks:
            self.end(0)


class ZmqWorld(World):
    def network(self, owner: str, mark: int = 64) -> Network:
        network = ZmqNetwork(SocketProfile(send_mark=mark, receive_mark=mark))
        self.networks.append(network)
        return network

    def pass_time(self, until: float) -> None:
        for network in self.networks:
            if not network.readable():
                network.wait(0.001)
            else:
                self.told.append(network)

    def now(self) -> float:
        return time.monotonic()


class IpcWorld(ZmqWorld):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def address(self) -> str:
        self.addresses += 1
        return f"ipc://{self.folder}/{self.addresses}"


class TcpWorld(ZmqWorld):
    def address(self) -> str:
        return "tcp://127.0.0.1:0"


class MemoryWorld(World):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.clock = VirtualClock(1_000.0)
        self.fabric = MemoryFabric(random.Random(7), self.clock, faults)

    def network(self, owner: str, mark: int = 64) -> Network:
        network = MemoryNetwork(self.fabric, owner)
        self.networks.append(network)
        return network

    def address(self) -> str:
        self.addresses += 1
        return f"ipc:///run/{self.addresses}"

    def pass_time(self, until: float) -> None:
        self.fabric.advance(min(until, self.fabric.next_at() or until))

    def now(self) -> float:
        return self.clock.now


class Inbox:
    """What has come out of a port so far."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.received: list[Received] = []

    def holds(self, count: int) -> Callable[[], list[Received] | None]:
        """A condition for ``settle``: so many messages, and what came with the last of them."""

        def condition() -> list[Received] | None:
            while some := self.port.drain(100):
                self.received += some
            return self.received if len(self.received) >= count else None

        return condition


def is_sent(port: Port, *frames: Frame, to: bytes = b"") -> Callable[[], bool]:
    """A condition for ``settle``: the message is accepted."""
    return lambda: port.send(to, frames) is Sent.SENT


def numbers(received: list[Received]) -> list[int]:
    return [int(bytes(frames[0])) for _, frames in received]


def either(*conditions: Callable[[], object]) -> bool:
    """Whether one of them holds; all of them are asked."""
    held = [condition() for condition in conditions]
    return any(held)


def fill(world: World, port: Port, route: bytes) -> int:
    """Send until it stays FULL although time passes; how many were accepted."""
    accepted = 0
    still_full = 0
    world.settle(lambda: port.send(route, [b"0", bytes(50_000)]) is Sent.SENT)
    accepted += 1
    while still_full < 20:
        assert accepted < 10_000
        if port.send(route, [b"%d" % accepted, bytes(50_000)]) is Sent.SENT:
            accepted += 1
            still_full = 0
        else:
            still_full += 1
            world.pass_time(world.now() + 1.0)
    return accepted


def sizes_and_numbers(received: list[Received]) -> list[int]:
    assert {len(frames[1]) for _, frames in received} == {50_000}
    return numbers(received)


def closing(world: World) -> Iterator[World]:
    yield world
    world.close()
