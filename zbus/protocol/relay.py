"""The broker's way with large bodies: from who has one to who asked for it, chunk by chunk.

Rules (spec 14.5):

* What is said of a large body belongs to a request, and goes where its ticket says: between its
  source and its handler, and nobody else. All else is dropped and counted.
* Nothing is kept here, and no chunk is looked at or copied. What is under way is bounded by what
  receivers ask for.
* An answer is over when its source has the whole of it.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from zbus.protocol.effect import BrokerEffect, Send
from zbus.protocol.message import Accept, Chunk, Done, Offer, Parcel, Reply
from zbus.protocol.roster import Peer, Roster, Ticket
from zbus.protocol.switchboard import Switchboard

__all__ = ["Relay"]

_Large: TypeAlias = Offer | Accept | Chunk | Done


class Relay:
    """Large bodies, between the peers of a roster."""

    def __init__(self, roster: Roster, switchboard: Switchboard) -> None:
        self.counts: Counter[str] = switchboard.counts
        self._roster = roster
        self._switchboard = switchboard

    def said(self, peer: Peer, parcel: Parcel, effects: list[BrokerEffect]) -> None:
        """An Offer, Accept, Chunk or Done came from ``peer``."""
        item = parcel.item
        assert isinstance(item, Offer | Accept | Chunk | Done)
        origin = self._roster.named(item.source)
        ticket = origin.asked.get(item.number) if origin is not None else None
        if ticket is None or ticket.key.epoch != item.epoch or ticket.handler is None:
            self.counts["stray_chunks"] += 1
            return
        up = _is_from_handler(item)
        sender, receiver = ticket.handler, ticket.origin
        if not up:
            sender, receiver = receiver, sender
        if sender is not peer:
            self.counts["stray_chunks"] += 1
            return
        if up:
            self._roster.budget.prove(peer.backlog, ticket.mark)
        if type(item) is Chunk:
            self.counts["chunks"] += 1
        elif type(item) is Done:
            self._close(ticket, receiver, effects)
        if receiver.route is not None:
            effects.append(Send(receiver.route, parcel))

    def _close(self, ticket: Ticket, handler: Peer, effects: list[BrokerEffect]) -> None:
        self._switchboard.tickets.close(ticket)
        self.counts["answers"] += 1
        self._switchboard.survived(handler, ticket, Reply(*ticket.key, b"", 0), effects)


def _is_from_handler(item: _Large) -> bool:
    if isinstance(item, Chunk):
        return item.reply
    if isinstance(item, Accept):
        return not item.reply
    return isinstance(item, Offer)
