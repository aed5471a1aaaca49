"""What a broker says when it sends somebody away, and what it tells its operator of a peer."""

from __future__ import annotations

from zbus.protocol.effect import Happened, Route, Send
from zbus.protocol.message import Bye, Cause, Parcel, as_text
from zbus.protocol.roster import Peer

__all__ = ["bye", "happened"]


def bye(route: Route, cause: Cause, text: str) -> Send:
    """Goodbye to whoever is at this route, because."""
    return Send(route, Parcel(Bye(cause, as_text(text))))


def happened(event: str, peer: Peer, why: str = "") -> Happened:
    """Something happened to a peer."""
    fields: tuple[tuple[str, str | int | float], ...] = (
        ("peer", peer.name),
        ("role", peer.role.name.lower()),
        ("epoch", peer.epoch),
    )
    return Happened(event, (*fields, ("why", why)) if why else fields)
