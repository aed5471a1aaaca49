"""Who is thought alive at the broker: told in time (P10), and nobody falsely (P11)."""

from __future__ import annotations

import itertools

import pytest
from desks import (
    BACK,
    ENGINE,
    FRONT,
    SERVER,
    Desk,
    losses,
    request,
)
from hypothesis import given
from hypothesis import strategies as st
from machines import sent

from zbus.protocol.effect import Happened, Send
from zbus.protocol.message import Bye, Cause, Credit, Fault, Heartbeat, Welcome

# -- life ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0.25, 0.01, 0.07, 0.24])
def test_p10_a_peer_that_owes_is_lost_within_three_intervals(turns: float) -> None:
    """Not after 2.25 s of silence, and by 2.75 s, whenever the broker happens to turn (P10)."""
    desk = Desk().attached()
    desk.hear(FRONT, request())
    lost_at = None
    while desk.now < 4.0 and lost_at is None:
        desk.now = min(desk.now + turns, desk.broker.wake_at())
        desk.hear(FRONT, Heartbeat())
        if losses([(desk.now, effect) for effect in desk.tick()]):
            lost_at = desk.now
    assert lost_at is not None
    assert 2.5 <= lost_at <= 2.75 + 1e-9


def test_p11_who_says_anything_lives() -> None:
    """A heartbeat an interval from the idle, anything else from the busy: never lost."""
    desk = Desk().attached()
    desk.hear(FRONT, request())
    for second in range(1, 31):
        assert losses(desk.turn_until(float(second))) == []
        desk.hear(FRONT, Heartbeat())
        desk.hear(BACK, Credit("nobody", 1, "t", 1, 1, False))


def test_p11_an_idle_peer_is_given_longer() -> None:
    """It beats less often, and may hold its interpreter as long; 4 intervals (spec 8.3)."""
    seen = Desk().attached().turn_until(6.0)
    assert {name for _, name in losses(seen)} == {"e", "s"}
    assert all(4.0 <= at <= 4.25 for at, _ in losses(seen))


def test_p11_silence_before_it_owed_anything_is_no_evidence() -> None:
    """An idle server that was silent for 3.5 s and is given a request has its time from then."""
    desk = Desk().attached()
    desk.turn_until(3.5)
    desk.hear(FRONT, ENGINE, request())
    seen = desk.turn_until(5.9)
    assert losses(seen) == []
    at, name = losses(desk.turn_until(6.3))[0]
    assert name == "s"
    assert 6.0 <= at <= 6.25


def test_p11_a_verdict_is_no_debt() -> None:
    """The origin of a lost request has nothing open: it is judged like an idle peer."""
    desk = Desk().attached()
    desk.hear(FRONT, request())
    desk.hear(BACK, Bye(Cause.CLOSED, ""))
    seen = desk.turn_until(5.0)
    assert [(name, at >= 4.0) for at, name in losses(seen)] == [("e", True)]


@given(st.lists(st.floats(0.4, 60.0), min_size=1, max_size=8))
def test_p11_the_broker_s_own_stalls_blame_nobody(stalls: list[float]) -> None:
    """Stopped again and again for however long, before anything could be read (P11)."""
    desk = Desk().attached()
    desk.hear(FRONT, request())
    for stall in stalls:
        desk.now += stall
        assert losses([(desk.now, effect) for effect in desk.tick()]) == []


def test_the_broker_beats() -> None:
    """Every peer hears it once an interval, and no more (spec 8.2)."""
    desk = Desk().attached()
    beats = [at for at, effect in desk.turn_until(3.9) if isinstance(effect, Send)]
    assert 3 * 2 <= len(beats) <= 4 * 2
    gaps = [later - sooner for sooner, later in itertools.pairwise([0.0, *sorted(set(beats))])]
    assert max(gaps) <= 1.25


@pytest.mark.parametrize("owes", [False, True])
def test_p10_a_peer_that_is_gone_may_come_back_for_one_interval(owes: bool) -> None:
    """Then it is lost (spec 6.8)."""
    desk = Desk().attached()
    if owes:
        desk.hear(FRONT, request())
    desk.turn_until(0.6)
    assert [type(effect) for effect in desk.broker.gone(BACK, desk.now)] == [Happened]
    assert desk.broker.gone(BACK, desk.now) == []
    desk.hear(FRONT, Heartbeat())
    seen = desk.turn_until(3.0)
    (at, name) = losses(seen)[0]
    assert name == "s"
    assert 1.6 <= at <= 1.85
    faults = [item for item in sent([effect for _, effect in seen]) if isinstance(item, Fault)]
    assert len(faults) == owes


def test_p10_a_peer_that_comes_back_in_time_is_not_lost() -> None:
    """Everything it holds is asked again, and nothing faulted."""
    desk = Desk().attached()
    desk.hear(FRONT, request())
    desk.broker.gone(BACK, desk.now)
    desk.turn_until(0.9)
    effects = desk.hear(BACK, SERVER)
    assert [type(item) for item in sent(effects)] == [Welcome, Fault]
    desk.hear(FRONT, Heartbeat())
    assert losses(desk.turn_until(2.0)) == []
