"""A broker at a desk: whoever comes says items on a route, and time passes when it is told to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from machines import sent

from zbus.protocol.broker import Broker
from zbus.protocol.effect import BrokerEffect, Happened, Lane, Route
from zbus.protocol.limits import Limits
from zbus.protocol.message import Bye, Cause, Hello, Item, Parcel, Request, Role
from zbus.testing.tables import broker_quarrels

FRONT, BACK, OTHER = (
    Route(Lane.FRONTEND, b"1"),
    Route(Lane.BACKEND, b"2"),
    Route(Lane.FRONTEND, b"3"),
)
PIPE = Route(Lane.PIPE)
LIMITS = Limits(restart_settle_s=0.0, peers=3)
ENGINE = Hello("e", Role.ENGINE, 5, (), 4, b"")
SERVER = Hello("s", Role.SERVER, 5, ("t",), 4, b"")


def request(number: int = 1, **changes: object) -> Request:
    fields: dict[str, object] = {"source": "e", "epoch": 5, "topic": "t", "flags": 0, **changes}
    return Request(
        number=number,
        target="",
        ttl_ms=60_000,
        floor=1,
        open=(),
        trace="",
        body=b"",
        frames=0,
        **fields,  # type: ignore[arg-type]
    )


class Desk:
    """A broker, and what it says."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.broker = Broker(limits, itertools.count(100), pipe=("ipc:///pipe",))
        self.now = 0.0

    def hear(self, route: Route, *items: Item) -> list[BrokerEffect]:
        effects = self.broker.receive(route, [Parcel(item) for item in items], self.now)
        assert list(broker_quarrels(self.broker)) == []
        return effects

    def tick(self) -> list[BrokerEffect]:
        effects = self.broker.tick(self.now)
        assert list(broker_quarrels(self.broker)) == []
        assert self.now < self.broker.wake_at() <= self.now + 0.25
        return effects

    def attached(self) -> Desk:
        """With an engine and a server."""
        self.hear(FRONT, ENGINE)
        self.hear(BACK, SERVER)
        return self

    def turn_until(self, until: float) -> list[tuple[float, BrokerEffect]]:
        """What happens while nobody says anything, and when."""
        seen = []
        while (wake_at := self.broker.wake_at()) <= until:
            self.now = wake_at
            seen += [(wake_at, effect) for effect in self.tick()]
        self.now = until
        return seen


def bye_of(effects: Sequence[BrokerEffect]) -> Cause:
    (item,) = [item for item in sent(effects) if isinstance(item, Bye)]
    return item.cause


def losses(seen: Sequence[tuple[float, BrokerEffect]]) -> list[tuple[float, str]]:
    return [
        (at, str(effect.fields[0][1]))
        for at, effect in seen
        if isinstance(effect, Happened) and effect.event == "peer_lost"
    ]


def changed(hello: Hello, **changes: object) -> Hello:
    fields = {name: getattr(hello, name) for name in hello.__struct_fields__}
    return Hello(**{**fields, **changes})
