"""What a broker says when it sends somebody away, and tells of a peer."""

from __future__ import annotations

from zbus.protocol.effect import Happened, Lane, Route, Send
from zbus.protocol.limits import TEXT_MAX
from zbus.protocol.message import Bye, Cause, Hello, Parcel, Role
from zbus.protocol.notices import bye, happened
from zbus.protocol.roster import Roster

ROUTE = Route(Lane.BACKEND, b"1")


def test_a_goodbye_fits_into_its_item() -> None:
    """However long the reason is."""
    assert bye(ROUTE, Cause.SLOW, "why") == Send(ROUTE, Parcel(Bye(Cause.SLOW, "why")))
    long = bye(ROUTE, Cause.SLOW, "x" * (2 * TEXT_MAX)).parcel.item
    assert isinstance(long, Bye)
    assert len(long.text) == TEXT_MAX


def test_a_peer_is_named_and_its_route_is_not() -> None:
    """A routing id is an opaque handle (spec 2.1)."""
    peer = Roster().add(Hello("s", Role.SERVER, 3, (), 1, b""), 1, 0.0)
    fields = (("peer", "s"), ("role", "server"), ("epoch", 3))
    assert happened("peer_attached", peer) == Happened("peer_attached", fields)
    assert happened("peer_lost", peer, "silent").fields == (*fields, ("why", "silent"))
