"""A link over ports that are filled and read by hand: what it does with effects."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from fake_ports import FakeNetwork, FakePort

from zbus.errors import BadReply, Cancelled, Draining, ZbusError
from zbus.peer.call import DONE, Call, Returned
from zbus.peer.link import Link
from zbus.protocol.attachment import Identity, State
from zbus.protocol.codec import encode
from zbus.protocol.effect import Outcome
from zbus.protocol.message import (
    Bye,
    Cancel,
    Cause,
    Credit,
    Fault,
    Hello,
    Item,
    Parcel,
    Push,
    Reply,
    Request,
    Welcome,
)
from zbus.protocol.requests import Ask
from zbus.protocol.session import Session
from zbus.transport.port import Sent

WELCOME = Welcome(7, 1, 1_000, 100, 10, 10, ("ipc:///pipe",), 0)
REQUEST = Request("f", 1, 1, "t", "", 5_000, 0, 1, (), "", b"b", 0)
PUSH = Push(0, "f", 1, "t", 1, 1, (b"1", b"2"), ())


class HandPool:
    """Keeps every call until the test ends it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cancelled: list[Call] = []

    def submit(self, call: Call) -> None:
        self.calls.append(call)

    def submit_lane(self, lane: Hashable, calls: Sequence[Call]) -> None:
        self.calls.extend(calls)

    def cancel(self, call: Call) -> None:
        self.cancelled.append(call)

    def close(self, drain_s: float) -> int:
        return 0


class Hand:
    """An attached link of a peer that serves ``t``."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.pool = HandPool()
        session = Session(Identity(name="e"), ("t",))
        self.link = Link(self.network, "ipc:///frontend", session, self.pool)
        self.link.open(0.0)
        assert [type(item) for item in self.dealer.last()] == [Hello]
        self.hear(WELCOME)

    @property
    def dealer(self) -> FakePort:
        return self.network.dealers[-1]

    @property
    def pusher(self) -> FakePort:
        return self.network.pushers[-1]

    def hear(self, *items: Item, now: float = 0.0) -> None:
        self.dealer.received.append((b"", encode([Parcel(item) for item in items])))
        self.link.step(now)


def test_a_request_is_ended_with_its_one_outcome() -> None:
    """Called once, from the turn in which the answer came (P1)."""
    hand, outcomes = Hand(), list[Outcome]()
    number = hand.link.request(Ask("x", b"", 5.0), outcomes.append, 0.0)
    hand.link.flush(0.0)
    assert [type(item) for item in hand.dealer.last()] == [Request]
    hand.hear(Reply("e", 1, number, b"r", 0), Reply("e", 1, number, b"second", 0))
    assert outcomes == [Parcel(Reply("e", 1, 1, b"r", 0))]


def test_what_a_handler_returns_is_said_at_the_next_turn() -> None:
    """Its thread only wakes the one that turns; a reply above the limit is a BadReply that ran."""
    hand = Hand()
    hand.hear(REQUEST)
    (call,) = hand.pool.calls
    assert (call.topic, call.source, call.body, call.deadline) == ("t", "f", b"b", 5.0)
    call.finish(Returned(b"done", ()))
    assert hand.network.woken == 1
    assert hand.link.wake_at(0.0) == 0.0
    hand.link.step(0.0)
    assert hand.dealer.last() == [Reply("f", 1, 1, b"done", 0)]
    hand.hear(Request("f", 1, 2, "t", "", 5_000, 0, 1, (), "", b"", 0))
    hand.pool.calls[1].finish(Returned(bytes(101), ()))
    hand.link.step(0.0)
    (fault,) = hand.dealer.last()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.executed) == (BadReply.number, 2)


def test_a_caller_that_gave_up_is_shown_to_the_handler() -> None:
    """While it runs, and not once it has ended."""
    hand = Hand()
    hand.hear(REQUEST)
    (call,) = hand.pool.calls
    hand.hear(Cancel("f", 1, 1))
    assert call.cancelled
    assert hand.pool.cancelled == [call]
    call.finish(Returned(b"", ()))
    hand.link.step(0.0)
    hand.hear(Cancel("f", 1, 1))
    assert hand.pool.cancelled == [call]


def test_p07_a_push_is_settled_by_its_handler_only() -> None:
    """Well or badly run it is settled; given up because the peer closes it is not."""
    hand = Hand()
    hand.hear(PUSH)
    first, second = hand.pool.calls
    assert (first.body, second.body, first.deadline) == (b"1", b"2", None)
    first.finish(DONE)
    hand.link.step(0.0)
    assert hand.dealer.last() == [Credit("f", 1, "t", 1, 1_024, False)]
    errors: list[ZbusError] = [Cancelled(), Draining()]
    for error in errors:
        second.finish(error)
        hand.link.step(0.0)
        assert hand.dealer.last() == []
    assert hand.link.session.in_lanes.queued == 1
    second.finish(BadReply())
    hand.link.step(0.0)
    assert hand.dealer.last() == [Credit("f", 1, "t", 2, 1_024, False)]


def test_p24_a_lost_broker_costs_no_sockets() -> None:
    """The old ones are closed before new ones are opened; pushes go to the new pipe."""
    hand = Hand()
    hand.link.push("x", b"1", ())
    hand.link.step(0.0)
    assert [type(item) for item in hand.pusher.last()] == [Push]
    old = [hand.dealer, hand.pusher]
    hand.hear(Bye(Cause.SLOW, ""))
    assert [port.closed for port in old] == [True, True]
    assert not hand.dealer.closed
    assert [type(item) for item in hand.dealer.last()] == [Hello]
    hand.hear(WELCOME)
    assert [type(item) for item in hand.pusher.last()] == [Push]
    assert (len(hand.network.dealers), len(hand.network.pushers)) == (2, 2)


def test_p06_a_socket_that_is_gone_or_overflows_is_a_loss() -> None:
    """What waited for it is said again at the next attachment."""
    for trouble in ("gone", "full"):
        hand, outcomes = Hand(), list[Outcome]()
        hand.dealer.answers[b""] = Sent.GONE if trouble == "gone" else Sent.FULL
        hand.link._turn._outbox_bytes = 10
        hand.link.request(Ask("x", b"", 5.0), outcomes.append, 0.0)
        hand.link.flush(0.0)
        assert hand.link.session.state is State.OPENING
        assert [type(item) for item in hand.dealer.last()] == [Hello]
        hand.hear(WELCOME)
        assert [type(item) for item in hand.dealer.last()] == [Request]
        assert outcomes == []
