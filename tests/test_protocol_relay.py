"""The broker's way with large bodies: by the ticket, or not at all (spec 14.5)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from zbus.protocol.effect import BrokerEffect, Lane, Route, Send
from zbus.protocol.limits import Limits
from zbus.protocol.message import (
    Accept,
    Chunk,
    Done,
    Hello,
    Item,
    Key,
    Offer,
    Parcel,
    Role,
)
from zbus.protocol.relay import Relay
from zbus.protocol.roster import Peer, Roster, Ticket
from zbus.protocol.switchboard import Switchboard

UP: dict[str, Item] = {
    "offer": Offer("e", 5, 1, b"m"),
    "accept of an argument": Accept("e", 5, 1, False, 0, 1, True),
    "chunk of a reply": Chunk("e", 5, 1, True, 0, 0, 1),
}
DOWN: dict[str, Item] = {
    "done": Done("e", 5, 1),
    "accept of a reply": Accept("e", 5, 1, True, 0, 1, True),
    "chunk of an argument": Chunk("e", 5, 1, False, 0, 0, 1),
}
EVERY: dict[str, Item] = {**UP, **DOWN}
FRAME = memoryview(b"frame")


class Desk:
    """A source, its handler and a stranger, and one ticket."""

    def __init__(self) -> None:
        roster = Roster()
        self.switchboard = Switchboard(roster, Limits(), True)
        self.tickets, self.counts = self.switchboard.tickets, self.switchboard.counts
        self.relay = Relay(roster, self.switchboard)
        self.source = self._peer(roster, "e", 5, Lane.FRONTEND)
        self.handler = self._peer(roster, "s", 1, Lane.BACKEND)
        self.stranger = self._peer(roster, "x", 1, Lane.BACKEND)
        self.ticket = Ticket(Key("e", 5, 1), "t", self.source, 9.0)
        self.tickets.open(self.ticket)
        self.tickets.give(self.ticket, self.handler)

    def _peer(self, roster: Roster, name: str, epoch: int, lane: Lane) -> Peer:
        peer = roster.add(Hello(name, Role(lane), epoch, (), 1, b""), 1, 0.0)
        roster.attach(peer, Route(lane, name.encode()), len(name))
        return peer

    def say(self, peer: Peer, item: Item) -> list[BrokerEffect]:
        effects: list[BrokerEffect] = []
        self.relay.said(peer, Parcel(item, (FRAME,)), effects)
        return effects


@pytest.mark.parametrize("what", EVERY)
def test_it_goes_where_the_ticket_says(what: str) -> None:
    """From the one to the other as it came, its frames uncopied, and from nobody else."""
    desk, item = Desk(), EVERY[what]
    one, other = desk.source, desk.handler
    if what in UP:
        one, other = other, one
    assert not desk.say(other, item)
    assert not desk.say(desk.stranger, item)
    assert desk.counts["stray_chunks"] == 2
    (effect,) = desk.say(one, item)
    assert isinstance(effect, Send)
    assert effect == Send(other.route or Route(Lane.PIPE), Parcel(item, (FRAME,)))
    assert effect.parcel.frames[0] is FRAME


@pytest.mark.parametrize("what", EVERY)
def test_without_a_ticket_it_is_dropped_and_counted(what: str) -> None:
    """Of another life, when nobody has the request, or when it is over."""
    desk, item = Desk(), EVERY[what]
    sender = desk.handler if what in UP else desk.source
    assert not desk.say(sender, replace(item, epoch=6))
    assert not desk.say(sender, replace(item, number=2))
    assert not desk.say(sender, replace(item, source="nobody"))
    desk.tickets.give(desk.ticket, None)
    assert not desk.say(sender, item)
    desk.tickets.close(desk.ticket)
    assert not desk.say(sender, item)
    assert desk.counts["stray_chunks"] == 5


def test_only_done_ends_an_answer() -> None:
    """An Offer is none, and a chunk may be lost; what was done is counted as answered."""
    for what, item in EVERY.items():
        desk = Desk()
        desk.say(desk.handler if what in UP else desk.source, item)
        assert len(desk.tickets) == (what != "done")
        assert desk.counts["answers"] == (what == "done")
        assert desk.counts["chunks"] == what.startswith("chunk")


def test_who_is_away_is_told_nothing() -> None:
    """What is lost is asked for again; the ticket stays."""
    desk = Desk()
    desk.handler.route = None
    assert not desk.say(desk.source, DOWN["chunk of an argument"])
    assert not desk.counts["stray_chunks"]
    assert len(desk.tickets) == 1
