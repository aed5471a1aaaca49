"""What happens in a simulated network, by a seed or one thing at a time."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import strategies as st

from zbus.testing.clock import VirtualClock
from zbus.testing.fabric import MemoryFabric
from zbus.testing.faults import PERFECT, Faults
from zbus.testing.network import MemoryNetwork, MemoryPort
from zbus.transport.port import Received, Sent

PLACE = "ipc:///run/frontend"
CLIENTS = ("a", "b", "c")
seeds = st.integers(0, 2**32 - 1)
chances = st.sampled_from([0.0, 0.1, 0.5])


@st.composite
def any_faults(draw: st.DrawFn) -> Faults:
    """Any mix of faults, small marks among them."""
    times = st.sampled_from([0.0, 0.01, 1.0])
    return Faults(
        delay_max_s=draw(times),
        slow_probability=draw(chances),
        slow_max_s=draw(times),
        connect_max_s=draw(times),
        break_probability=draw(st.sampled_from([0.0, 0.02])),
        vanish_probability=draw(st.sampled_from([0.0, 1.0])),
        notice_max_s=draw(times),
        half_open_probability=draw(chances),
        full_probability=draw(chances),
        send_mark=draw(st.sampled_from([1, 3, 64])),
        receive_mark=draw(st.sampled_from([1, 3, 1_000])),
    )


class Story:
    """A ROUTER and three DEALERs to which a seed does everything that can be done.

    Messages are numbered per connection and direction. A connection is known by its routing id.
    """

    def __init__(self, seed: int, faults: Faults) -> None:
        self.chance = random.Random(seed)
        self.fabric = MemoryFabric(random.Random(seed + 1), VirtualClock(), faults)
        self.networks: dict[str, MemoryNetwork] = {}
        self.ports: dict[str, MemoryPort] = {}
        self.asked: defaultdict[bytes, int] = defaultdict(int)
        self.heard: defaultdict[bytes, list[tuple[str, int]]] = defaultdict(list)
        self.answered: defaultdict[bytes, int] = defaultdict(int)
        self.replied: defaultdict[str, list[tuple[bytes, int]]] = defaultdict(list)
        for who in ("server", *CLIENTS):
            self.start(who)

    def start(self, who: str) -> None:
        network = self.networks[who] = MemoryNetwork(self.fabric, who)
        bind = network.bind_router if who == "server" else network.connect_dealer
        self.ports[who] = bind(PLACE)

    def restart(self, who: str) -> None:
        self.fabric.crash(who)
        self.start(who)

    def ask(self, who: str) -> None:
        """A client says its name and a number, which grows by one with each message sent."""
        route = next(iter(self.ports[who]._plug.ends), b"")
        if self.ports[who].send(b"", [f"{who} {self.asked[route]}".encode()]) is Sent.SENT:
            self.asked[route] += 1

    def hear(self, limit: int = 100) -> None:
        """The server drains, and answers each message by its route with a number of its own."""
        for route, (frame,) in self.ports["server"].drain(limit):
            who, number = bytes(frame).decode().split()
            self.heard[route].append((who, int(number)))
            reply = route + b"%d" % self.answered[route]
            if self.ports["server"].send(route, [reply]) is Sent.SENT:
                self.answered[route] += 1

    def listen(self, who: str, limit: int = 100) -> None:
        for _, (frame,) in self.ports[who].drain(limit):
            self.replied[who].append((bytes(frame[:5]), int(bytes(frame[5:]))))

    def step(self) -> None:
        """One thing out of all that may happen."""
        fabric, chance = self.fabric, self.chance
        who = chance.choice(CLIENTS)
        now = fabric.clock.now
        what = chance.choices(range(9), (30, 15, 15, 20, 1, 1, 2, 1, 1))[0]
        if what == 0:
            self.ask(who)
        elif what == 1 and not fabric.is_stalled("server"):
            self.hear(chance.choice([1, 100]))
        elif what == 2 and not fabric.is_stalled(who):
            self.listen(who, chance.choice([1, 100]))
        elif what == 3:
            fabric.advance(now + chance.choice([0.0, 0.001, 0.1, 3.0]))
        elif what == 4:
            fabric.cut(who, "server", both_ways=chance.random() < 0.5)
        elif what == 5:
            fabric.stall(chance.choice([who, "server"]), now + chance.choice([0.1, 20.0]))
        elif what == 6:
            fabric.heal()
        elif what == 7:
            fabric.drop_connections(who, "server")
        else:
            self.restart(chance.choice([who, "server"]))

    def calm(self) -> None:
        """Heal everything and let all time pass that anything still takes."""
        self.fabric.faults = replace(PERFECT, send_mark=1_000)
        self.fabric.heal()
        self.settle()

    def settle(self) -> None:
        for _ in range(10_000):
            self.hear()
            for who in CLIENTS:
                self.listen(who)
            if (at := self.fabric.next_at()) is None:
                return
            self.fabric.advance(at)
        pytest.fail("the network does not come to rest")


def told(seed: int, faults: Faults, steps: int = 150) -> Story:
    story = Story(seed, faults)
    for _ in range(steps):
        story.step()
    return story


class Pair:
    """A DEALER ``a`` connected to a ROUTER of ``server``, and its routing id."""

    def __init__(self, faults: Faults = PERFECT) -> None:
        self.fabric = MemoryFabric(random.Random(3), VirtualClock(), faults)
        self.router = MemoryNetwork(self.fabric, "server").bind_router(PLACE)
        self.dealer = MemoryNetwork(self.fabric, "a").connect_dealer(PLACE)
        self.route = self.meet()

    def meet(self) -> bytes:
        self.fabric.advance(self.fabric.clock.now + 1.0)
        assert self.ask(b"hello") is Sent.SENT
        self.fabric.advance(self.fabric.clock.now + 6.0)
        return self.hear()[-1][0]

    def ask(self, body: bytes = b"x") -> Sent:
        return self.dealer.send(b"", [body])

    def answer(self) -> Sent:
        return self.router.send(self.route, [b"y"])

    def hear(self) -> list[Received]:
        return self.router.drain(100)

    def after(self, seconds: float) -> None:
        self.fabric.advance(self.fabric.clock.now + seconds)
