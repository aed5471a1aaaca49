"""The parts of a simulated network fit together as ZeroMQ's sockets do."""

from __future__ import annotations

import itertools

from zbus.testing.plug import End, Kind, Plug


def test_only_pairs_of_the_bus_connect() -> None:
    """DEALER to ROUTER and PUSH to PULL; nothing else ever."""
    pairs = {(one, other) for one, other in itertools.product(Kind, Kind) if one.connects_to(other)}
    assert pairs == {(Kind.DEALER, Kind.ROUTER), (Kind.PUSH, Kind.PULL)}
    assert all(Plug("a", one, ["x"]).connects for one, _ in pairs)
    assert not any(Plug("a", other, ["x"]).connects for _, other in pairs)


def test_both_ends_know_each_other() -> None:
    """A connection is two ends with one route and two labels."""
    near, far = End.pair(Plug("a", Kind.DEALER, ["x"]), Plug("b", Kind.ROUTER, ["x"]), b"7")
    assert (near.other, far.other) == (far, near)
    assert near.route == far.route == b"7"
    assert (near.label, far.label) == ("a/dealer to b/router", "b/router to a/dealer")
