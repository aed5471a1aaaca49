"""What a peer counts adds up at every instant (P7): zbus/peer/counters.py."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from link_desk import EPOCH, NAME, Desk

from zbus.errors import Backpressure, ClosedError, HandlerError
from zbus.peer.call import DONE
from zbus.peer.counters import PeerCounters, counters_of
from zbus.protocol.message import NO_FRAMES, Bye, Cause, Credit, Push
from zbus.protocol.session import SessionLimits


def push(desk: Desk, number: int) -> None:
    for _ in range(number):
        desk.link.push("metric", b"1", NO_FRAMES)


ACTS: dict[str, Callable[[Desk, int], None]] = {
    "push": push,
    "credit": lambda desk, n: desk.say(Credit(NAME, EPOCH, "metric", n, 8, n % 2 == 0)),
    "hold": lambda desk, n: desk.say(Credit(NAME, EPOCH, "metric", 0, 0, False)),
    "time": lambda desk, n: desk.after(0.3 * n),
    "welcome": lambda desk, n: desk.welcome(20 + n),
    "end": lambda desk, n: desk.say(Bye(Cause.SUPERSEDED, "")),
    "close": lambda desk, n: desk.link.close(desk.now),
}


@given(acts=st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 9)), max_size=40))
def test_p07_accepted_is_delivered_dropped_and_queued(acts: list[tuple[str, int]]) -> None:
    """After whatever happens; the caller's own count of what was accepted is the same."""
    desk = Desk(limits=SessionLimits(pushes=20)).attached()
    accepted = 0
    for act, n in acts:
        try:
            ACTS[act](desk, n)
            accepted += n if act == "push" else 0
        except (Backpressure, ClosedError):
            accepted = counters_of(desk.link).accepted
        counters = counters_of(desk.link)
        assert counters.accepted == accepted
        assert counters.accepted == counters.delivered + counters.dropped + counters.queued
        assert counters.unsettled == counters.dropped + counters.queued
        assert min(counters) >= 0


def test_each_thing_is_counted_as_itself() -> None:
    """One of each: a request that is open, one that is served, pushes taken, failed, repeated."""
    desk = Desk("serve").attached()
    push(desk, 5)
    desk.turn()
    desk.say(Credit(NAME, EPOCH, "metric", 1, 8, False))
    desk.ask()
    desk.asked(1)
    desk.asked(1)
    pushed = Push(0, "other", 3, "serve", 1, 1, (b"1", b"2", b"3"), ())
    desk.say(pushed, pushed)
    calls = desk.hands.lanes[0][1]
    calls[0].finish(DONE)
    calls[1].finish(HandlerError("it raised"))
    desk.turn()
    desk.after(3.0)  # the broker is silent
    assert counters_of(desk.link) == PeerCounters(
        accepted=5,
        delivered=1,
        dropped=0,
        queued=4,
        taken=2,
        taken_queued=1,
        push_repeats=3,
        push_failures=1,
        started=1,
        repeats=1,
        late_answers=0,
        losses=1,
        open_requests=1,
    )
