"""A switchboard over a roster, without a broker around it, for the tests of requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zbus.protocol.budget import Budget
from zbus.protocol.effect import BrokerEffect, Lane, Route, Send
from zbus.protocol.limits import Limits
from zbus.protocol.message import (
    UNKNOWN_ID,
    Fault,
    Flag,
    Hello,
    Item,
    Parcel,
    Reply,
    Request,
    Role,
)
from zbus.protocol.roster import Peer, Roster
from zbus.protocol.switchboard import Switchboard

REPEAT, ASK, WAIT, PROBE, *_ = (int(flag) for flag in Flag)


class Board:
    """A switchboard over a roster, and what it said to whom."""

    def __init__(self, *, engines_may_ask: bool = True, **limits: int) -> None:
        self.limits = Limits(**limits)
        self.roster = Roster(Budget(self.limits.target_bytes, self.limits.memory_bytes))
        self.board = Switchboard(self.roster, self.limits, engines_may_ask)
        self.effects: list[BrokerEffect] = []
        self.now = 0.0

    def peer(self, name: str, *topics: str, window: int = 4, role: Role | None = None) -> Peer:
        role = role or (Role.SERVER if name.startswith("s") else Role.ENGINE)
        peer = self.roster.add(Hello(name, role, 1, topics, window, b""), window, self.now)
        self.attach(peer)
        self.roster.serve(peer, topics, ())
        return peer

    def attach(self, peer: Peer) -> None:
        number = peer.session + 1
        self.roster.attach(peer, Route(Lane.BACKEND, f"{peer.name}/{number}".encode()), number)

    def ask(
        self,
        origin: Peer,
        number: int = 1,
        topic: str = "t",
        *,
        waited_s: float = 0.0,
        **changes: Any,
    ) -> list[tuple[str, Item]]:
        fields = {"target": "", "flags": 0, "ttl_ms": 5_000, **changes}
        item = Request(
            origin.name,
            1,
            number,
            topic,
            floor=number,
            open=(),
            trace="",
            body=b"b",
            frames=1,
            **fields,
        )
        return self.said(
            lambda effects: self.board.asked(
                origin, Parcel(item, (b"frame",)), waited_s, self.now, effects
            )
        )

    def answer(self, peer: Peer, item: Reply | Fault) -> list[tuple[str, Item]]:
        return self.said(lambda effects: self.board.answered(peer, Parcel(item), effects))

    def lose(self, peer: Peer) -> list[tuple[str, Item]]:
        def forget(effects: list[BrokerEffect]) -> None:
            self.roster.remove(peer)
            self.board.handler_lost(peer, effects)
            self.board.origin_lost(peer, effects)

        return self.said(forget)

    def said(self, act: Callable[[list[BrokerEffect]], None]) -> list[tuple[str, Item]]:
        """What this says, each with the name of who hears it."""
        effects: list[BrokerEffect] = []
        act(effects)
        self.effects += effects
        return heard(effects)


def heard(effects: Sequence[BrokerEffect]) -> list[tuple[str, Item]]:
    """The items said, each with the name of who hears it. How far somebody has read is asked
    beside all that."""
    return [
        (effect.to.peer.decode().partition("/")[0], effect.parcel.item)
        for effect in effects
        if isinstance(effect, Send) and getattr(effect.parcel.item, "source", "") != ""
    ]


def reply(number: int = 1, source: str = "e", epoch: int = 1) -> Reply:
    return Reply(source, epoch, number, b"r", 0)


def unknown(number: int = 1) -> Fault:
    return Fault("e", 1, number, UNKNOWN_ID, 0, 0, "")


def fault_of(said: list[tuple[str, Item]], name: str = "e") -> Fault:
    """The one fault that this says, and to whom."""
    ((to, item),) = said
    assert to == name
    assert isinstance(item, Fault)
    return item


def asked_of(said: list[tuple[str, Item]]) -> tuple[str, Request]:
    """Who is given the one request that this says, and the request."""
    ((to, item),) = said
    assert isinstance(item, Request)
    return to, item
