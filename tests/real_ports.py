"""Real sockets for tests: waiting as a turn waits, and two ports that have met."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeVar

from zbus.transport.port import Sent
from zbus.transport.sockets import ZmqNetwork, ZmqPort

T = TypeVar("T")
BOUND_S = 10.0


def settle(condition: Callable[[], T], *networks: ZmqNetwork) -> T:
    """Wait until the condition holds, as a turn waits; fail if it does not within the bound."""
    until = time.monotonic() + BOUND_S
    while not (held := condition()):
        assert time.monotonic() < until, "it did not come to this in time"
        for network in networks:
            if not network.readable():
                network.wait(0.001)
    return held


def connected(
    server: ZmqNetwork, client: ZmqNetwork, endpoint: str
) -> tuple[ZmqPort, ZmqPort, bytes]:
    """A ROUTER, a DEALER and the routing id of the DEALER; nothing is left to be told of them."""
    router = server.bind_router(endpoint)
    dealer = client.connect_dealer(router.endpoint)
    settle(lambda: dealer.send(b"", [b"hello"]) is Sent.SENT, client)
    ((route, _),) = settle(lambda: router.drain(9), server)
    settle(lambda: not client.readable() and not server.readable())
    return router, dealer, route


def rings(port: ZmqPort) -> bool:
    """Whether the descriptor of the port says that there may be something."""
    poll = select.poll()
    poll.register(port.descriptor, select.POLLIN)
    return bool(poll.poll(0))
