"""Many idle peers in one thread: ``actor_crowd.py crowd ADDRESS``; ADDRESS has ``frontend``.

Each is a whole peer, with its own session, link and connection, and beats as any other; only the
threads are missing, of which 2,000 peers on two cores would have too many. What is measured is the
broker.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq
from orders import obey
from zmq.backend import Context

from zbus.peer.link import Link
from zbus.protocol.session import Identity, Session, State
from zbus.transport.sockets import ZmqNetwork

_SOCKETS_MAX = 8_192
_LOOK_S = 0.02
_AT_ONCE = 50
_ATTACH_S = 90.0


class Crowd:
    """Peers that are turned when something came for them, or when they are due."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._context = Context()
        self._context.set(zmq.MAX_SOCKETS, _SOCKETS_MAX)
        self._networks: list[ZmqNetwork] = []
        self._links: list[Link] = []
        self._due: list[float] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._turn, daemon=True).start()

    def attach(self, count: int) -> dict[str, int]:
        """Have so many peers more, a few at a time; how many are attached then."""
        deadline = time.monotonic() + _ATTACH_S
        for start in range(0, count, _AT_ONCE):
            with self._lock:
                for _ in range(min(_AT_ONCE, count - start)):
                    self._begin()
            while self.attached < len(self._links) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
        return {"attached": self.attached}

    @property
    def attached(self) -> int:
        """How many are."""
        return sum(link.session.state is State.OPEN for link in self._links)

    def _begin(self) -> None:
        name = f"bench.p{os.getpid()}.{len(self._links)}"
        network = ZmqNetwork()
        network.context = self._context  # shared, for the sake of libzmq's own threads
        now = time.monotonic()
        session = Session(Identity(name=name, epoch=time.monotonic_ns()), now=now)
        link = Link(network, self._endpoint, session)
        link.open(now)
        self._networks.append(network)
        self._links.append(link)
        self._due.append(now)

    def _turn(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            with self._lock:
                now = time.monotonic()
                for index, due in enumerate(self._due):
                    network = self._networks[index]
                    network.wait(0.0)
                    if due <= now or network.readable():
                        self._due[index] = self._step(index)

    def _step(self, index: int) -> float:
        link, network = self._links[index], self._networks[index]
        while link.step(time.monotonic()) or network.readable():
            pass
        due = link.wake_at(time.monotonic())
        return time.monotonic() + _LOOK_S if due is None else due


def _crowd(address: dict[str, str]) -> dict[str, Callable[..., Any]]:
    return {"attach": Crowd(address["frontend"]).attach}


if __name__ == "__main__":
    obey({"crowd": _crowd}[sys.argv[1]](json.loads(sys.argv[2])))
    os._exit(0)
