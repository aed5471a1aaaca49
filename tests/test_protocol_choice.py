"""Which handler gets a request: zbus/protocol/choice.py."""

from __future__ import annotations

from zbus.protocol.budget import Budget, weigh
from zbus.protocol.choice import BUSY_RETRY_S, is_full, least_busy, no_room, say
from zbus.protocol.effect import BrokerEffect, Lane, Route, Send
from zbus.protocol.liveness import Pulse
from zbus.protocol.message import Flag, Key, Parcel, Request, Role
from zbus.protocol.roster import Peer, Ticket


def server(name: str, holds: int, window: int = 2) -> Peer:
    peer = Peer(name, Role.SERVER, 1, b"", window, Pulse(0.0))
    for number in range(holds):
        peer.holds[Ticket(Key("e", 1, number), "t", peer, 1.0)] = None
    return peer


def test_the_least_busy_with_room_is_chosen() -> None:
    """Whoever is full, of requests or of bytes, is passed over."""
    budget = Budget(100, 10_000)
    idle, busy, full = server("a", 0), server("b", 1), server("c", 2)
    assert least_busy([busy, full, idle], budget, 50) is idle
    budget.give(idle.backlog, 60)
    assert least_busy([busy, full, idle], budget, 50) is busy
    assert least_busy([busy, full, idle], budget, 40) is idle
    assert is_full(full)
    assert not is_full(busy)
    for nobody in ([full], [idle], [full, idle], []):
        assert least_busy(nobody, budget, 50) is None


def test_p08_nobody_has_room_and_who_asked_is_told_when_to_ask_again() -> None:
    """In words: what is there already. Who might have room is asked how far it has read."""
    budget, peer, away = Budget(), server("s", 2, 3), server("t", 0)
    peer.route = Route(Lane.BACKEND, b"s")
    budget.give(peer.backlog, 60)
    budget.give(away.backlog, 60)
    effects: list[BrokerEffect] = []
    error = no_room("t", [peer, away], budget, effects)
    assert '"t" has no room: 2 requests are with s, and 60 bytes' in error.what
    assert error.retry_after_s == BUSY_RETRY_S
    ((route, parcel),) = [effect for effect in effects if isinstance(effect, Send)]
    assert route is peer.route
    assert isinstance(parcel.item, Request)
    assert parcel.item.flags == Flag.ASK
    assert no_room("t", [peer], budget, effects) is not None
    assert len(effects) == 1, "it has been asked already"


def test_what_is_said_is_counted_and_asked_about_where_it_is_much() -> None:
    """Who is away is said nothing."""
    budget, peer = Budget(), server("s", 0)
    effects: list[BrokerEffect] = []
    small, large = (
        Parcel(Request("e", 1, 1, "t", "", 1, 0, 1, (), "", b"x" * size, 0)) for size in (1, 70_000)
    )
    assert say(peer, small, budget, effects) == 0
    peer.route = Route(Lane.BACKEND, b"s")
    assert say(peer, small, budget, effects) == weigh(small)
    assert effects == [Send(peer.route, small)]
    assert say(peer, large, budget, effects) == weigh(small) + weigh(large) == budget.used
    assert len(effects) == 3
