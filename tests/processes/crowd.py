"""Many peers in one process: real sessions over real CURVE sockets, turned by one thread.

Started by ``python -m processes.crowd PLACE ENDPOINT FIRST COUNT`` in a cluster's environment. A
peer of ``zbus.connect`` has a ZeroMQ context and an I/O thread of its own, which two thousand
clients of one machine cannot all have; here they share both, and each has its own key, session
and sockets. All that the broker sees is the same.

Whenever the number of those that are attached changes, it is noted in ``crowd-FIRST.ledger``.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from processes.ledger import Ledger
from zbus.broker.keys import read_public, read_secret
from zbus.peer.link import Link, Observer
from zbus.protocol.session import Identity, Session
from zbus.transport.guard import ClientGuard, Gate
from zbus.transport.port import Network, Port
from zbus.transport.sockets import ZmqNetwork

_MAX_SOCKETS = 3  # libzmq's name for this option of a context
_SLEEP_S = 0.05


class _Keyed:
    """The network of all, as one peer sees it: it is its own key that is shown."""

    def __init__(self, shared: ZmqNetwork, gate: Gate) -> None:
        self._shared, self._own = shared, gate

    def connect_dealer(self, endpoint: str) -> Port:
        self._shared.gate = self._own
        return self._shared.connect_dealer(endpoint)

    def connect_push(self, endpoint: str) -> Port:
        self._shared.gate = self._own
        return self._shared.connect_push(endpoint)

    def wake(self) -> None:
        self._shared.wake()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared, name)


class Crowd:
    """Peers by number."""

    def __init__(self, place: Path, endpoint: str, numbers: Sequence[int]) -> None:
        self._network = ZmqNetwork()
        self._network.context.set(_MAX_SOCKETS, 4 * len(numbers))
        self._ledger = Ledger(place / f"crowd-{numbers[0]}.ledger")
        self._attached: set[int] = set()
        self._noted = -1
        server = read_public(place / "broker.pub").public
        self._links = [self._link(place, endpoint, server, number) for number in numbers]

    def _link(self, place: Path, endpoint: str, server: str, number: int) -> Link:
        key = read_secret(place / f"site-{number}.key")
        gate = Gate(ClientGuard(public=key.public, secret=key.secret, servers=(server,)))
        identity = Identity(name=key.name, epoch=time.monotonic_ns())
        observer = Observer(
            attached=lambda _welcome: self._attached.add(number),
            detached=lambda _why: self._attached.discard(number),
        )
        session = Session(identity, now=time.monotonic())
        network = cast(Network, _Keyed(self._network, gate))
        return Link(network, endpoint, session, None, observer)

    def live(self) -> None:
        """Attach, and stay until the process is killed."""
        for link in self._links:
            link.open(time.monotonic())
        while True:
            for link in self._links:
                link.step(time.monotonic())
            if self._noted != len(self._attached):
                self._noted = len(self._attached)
                self._ledger.note("attached", str(self._noted))
            if not self._network.readable():
                self._network.wait(_SLEEP_S)


def main(place: str, endpoint: str, first: str, count: str) -> None:
    """Be a crowd."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Crowd(Path(place), endpoint, range(int(first), int(first) + int(count))).live()


if __name__ == "__main__":
    main(*sys.argv[1:])
