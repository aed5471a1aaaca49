"""Which handler gets a request: room in its window, room for the bytes, and the least busy first.

Rules (spec 5.4, 6.3; promises P8, P9):

* A window counts requests, a backlog bytes. Where either is full, the others are asked; where all
  are, the source is told, and nobody else notices.
"""

from __future__ import annotations

from zbus.errors import NoHandler, NoTarget, NotAuthorized, Overloaded, ZbusError
from zbus.protocol.budget import Budget, weigh
from zbus.protocol.effect import BrokerEffect, Send
from zbus.protocol.message import Parcel, Request, Role
from zbus.protocol.roster import Peer, Roster

__all__ = [
    "BUSY_RETRY_S",
    "ask_receipts",
    "candidates",
    "is_full",
    "least_busy",
    "misdirected",
    "no_room",
    "say",
]

BUSY_RETRY_S = 0.05
"""When to ask again what nobody has room for."""


def misdirected(
    item: Request, origin: Peer, roster: Roster, engine_to_engine: bool
) -> ZbusError | None:
    """Why a request does not reach who it names. Whether it may is judged before whether there
    is anybody, so that a refusal does not tell who is there (P15)."""
    target = roster.named(item.target)
    to_server = target is not None and target.role is Role.SERVER
    if not (engine_to_engine or origin.role is Role.SERVER or to_server):
        return NotAuthorized("the policy of this broker keeps engines from asking engines")
    if target is None:
        return NoTarget(f'no peer is named "{item.target}"')
    if item.topic not in target.topics:
        return NoHandler(f'"{item.target}" does not serve topic "{item.topic}"')
    return None


def candidates(item: Request, roster: Roster) -> list[Peer]:
    """Whom it names, or all who serve its topic, attached or not."""
    if item.target:
        target = roster.named(item.target)
        return [] if target is None else [target]
    return list(roster.serving(item.topic))


def is_full(peer: Peer) -> bool:
    """Whether this handler has as many requests as its window holds."""
    return len(peer.holds) >= peer.window


def least_busy(attached: list[Peer], budget: Budget, size: int) -> Peer | None:
    """Who gets a request of this size; None if nobody has room for it."""
    if len(attached) == 1:
        only = attached[0]
        return None if is_full(only) or not budget.admits(only.backlog, size) else only
    roomy = [peer for peer in attached if not is_full(peer) and budget.admits(peer.backlog, size)]
    return min(roomy, key=_load, default=None)


def say(peer: Peer, parcel: Parcel, budget: Budget, effects: list[BrokerEffect]) -> int:
    """Say a request or push to this peer, if it is attached, within its budget. What it proves to
    have read, once it answers: the mark, or 0."""
    if peer.route is None:
        return 0
    effects.append(Send(peer.route, parcel))
    mark = budget.give(peer.backlog, weigh(parcel))
    _ask_receipt(peer, budget.receipt(peer.backlog), effects)
    return mark


def ask_receipts(peers: list[Peer], budget: Budget, effects: list[BrokerEffect]) -> None:
    """Something was refused or put off because of what these peers may not have read: ask them
    how far they have."""
    for peer in peers:
        _ask_receipt(peer, budget.receipt(peer.backlog, 1), effects)


def _ask_receipt(peer: Peer, item: Request | None, effects: list[BrokerEffect]) -> None:
    if item is not None and peer.route is not None:
        effects.append(Send(peer.route, Parcel(item)))


def no_room(
    topic: str, attached: list[Peer], budget: Budget, effects: list[BrokerEffect]
) -> Overloaded:
    """What the source of a request is told that nobody has room for; who might have is asked."""
    ask_receipts([peer for peer in attached if not is_full(peer)], budget, effects)
    first = attached[0]
    text = (
        f'"{topic}" has no room: {len(first.holds)} requests are with {first.name}, '
        f"and {first.backlog.waiting} bytes may still wait for it"
    )
    return Overloaded(text, retry_after_s=BUSY_RETRY_S)


def _load(peer: Peer) -> int:
    return len(peer.holds)
