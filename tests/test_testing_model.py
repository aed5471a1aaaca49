"""The judge finds each broken promise in a history, and none in one that keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from zbus.errors import (
    Draining,
    Executed,
    HandlerError,
    NoHandler,
    Overloaded,
    RequestTimeout,
    TargetLost,
)
from zbus.peer.call import Returned
from zbus.protocol.effect import LaneKey, Outcome
from zbus.protocol.message import NO_FRAMES, Key, Parcel, Reply
from zbus.protocol.requests import Ask
from zbus.testing.history import Asked, Begun, History, Life
from zbus.testing.model import Case, judge
from zbus.testing.stage import Disturbance

KEY = Key("e1", 1, 7)
ENGINE, SERVER, OTHER = Life("e1", 1), Life("s1", 1), Life("s2", 1)
LANE = LaneKey("e1", 1, "m")
REPLY = Parcel(Reply(*KEY, b"yes", 0))


def begun(
    life: Life = SERVER, at: float = 11.0, *, body: bytes = b"x", left_s: float = 4.0
) -> Begun:
    return Begun(life, at, body, NO_FRAMES, left_s, Returned(b"yes", NO_FRAMES), at + 1)


def request(outcome: Outcome | None = REPLY, *begins: Begun, ended_at: float = 12.0) -> Asked:
    """Asked at 10, with a deadline at 15, and ended at 12."""
    ask = Ask("echo", b"x", 15.0)
    asked = Asked(KEY, ENGINE, ask, at=10.0, deadline_at=15.0, attached=True, begun=list(begins))
    if outcome is not None:
        asked.outcome, asked.ended_at, asked.ends = outcome, ended_at, 1
        asked.early_s = 15.0 - ended_at
    return asked


def case_of(*requests: Asked, harms: tuple[Disturbance, ...] = (), **known: object) -> Case:
    history = History()
    for asked in requests:
        history.asked(asked)
    delivered: Mapping[LaneKey, int] = {}
    case = Case(
        history=history,
        now=40.0,
        disturbances=harms,
        lives={"e1": 1, "s1": 1, "s2": 1},
        delivered=delivered,
        steady=True,
    )
    return replace(case, **known)  # type: ignore[arg-type]


def broken(case: Case) -> list[str]:
    return [found.promise for found in judge(case)]


def harm(kind: str, who: str, since: float, until: float) -> Disturbance:
    return Disturbance(kind, (who,), since, until)


def test_a_history_that_keeps_all_promises_is_not_blamed() -> None:
    """A reply; a timeout on time; a refusal; a loss with its cause."""
    lost = request(TargetLost("gone"), begun(), ended_at=13.0)
    for one, harms in (
        (request(REPLY, begun()), ()),
        (request(RequestTimeout("late"), ended_at=15.01), ()),
        (request(NoHandler("nobody"), ended_at=10.01), ()),
        (request(HandlerError("raised"), begun()), ()),
        (lost, (harm("crash", "s1", 11.5, 99.0),)),
    ):
        assert broken(case_of(one, harms=harms)) == []


def test_p01_two_ends_or_none() -> None:
    """An end that came twice, and one that never came although all was healed."""
    twice = request(REPLY, begun())
    twice.ends = 2
    assert broken(case_of(twice)) == ["P1"]
    never = request(None)
    assert broken(case_of(never, settled=True)) == ["P1", "P2"]
    assert broken(case_of(never, settled=True, lives={"e1": 2})) == []


@pytest.mark.parametrize("outcome", [RequestTimeout("x"), Draining("x")])
def test_p02_too_early(outcome: Outcome) -> None:
    """A deadline that came before its time."""
    assert broken(case_of(request(outcome, ended_at=14.9))) == ["P2"]


def test_p02_too_late() -> None:
    """An end after the deadline, but for the time for which its process was stopped."""
    late = request(RequestTimeout("x"), ended_at=17.0)
    assert broken(case_of(late)) == ["P2"]
    assert broken(case_of(late, harms=(harm("stop", "e1", 14.0, 17.0),))) == []
    assert broken(case_of(late, harms=(harm("stop", "s1", 14.0, 17.0),))) == ["P2"]
    assert broken(case_of(request(None), now=20.0)) == ["P2"]


def test_p02_begun_too_late() -> None:
    """By the handler's clock, or by ours; a handler that was stopped is no excuse, a source that
    was stopped, or a cut, is one."""
    assert broken(case_of(request(REPLY, begun(left_s=0.0)))) == ["P2"]
    late = request(RequestTimeout("x"), begun(at=17.0), ended_at=15.0)
    assert broken(case_of(late)) == ["P2"]
    assert broken(case_of(late, harms=(harm("stop", "s1", 11.0, 17.0),))) == ["P2"]
    assert broken(case_of(late, harms=(harm("stop", "e1", 11.0, 17.0),))) == []
    cut = Disturbance("cut", ("broker", "s1"), 11.0, 17.0)
    assert broken(case_of(late, harms=(cut,))) == []
    stop, cut = harm("stop", "s1", 10.0, 16.0), Disturbance("cut", ("broker", "s1"), 15.5, 17.0)
    assert broken(case_of(late, harms=(stop, cut))) == []
    assert broken(case_of(late, harms=(cut,))) == ["P2"]


def test_p03_not_told_at_once() -> None:
    """That nobody serves a topic is known in a moment, when nothing else is wrong."""
    slow = request(NoHandler("nobody"), ended_at=10.5)
    assert broken(case_of(slow)) == ["P3"]
    assert broken(case_of(slow, harms=(harm("crash", "broker", 3.0, 9.0),))) == []
    assert broken(case_of(slow, steady=False)) == []
    slow.attached = False
    assert broken(case_of(slow)) == []


def test_p04_a_wrong_no_and_a_wrong_yes() -> None:
    """``no`` of what was begun, also later; ``yes`` of what never was."""
    assert broken(case_of(request(Overloaded("x"), begun()))) == ["P4"]
    assert broken(case_of(request(HandlerError("x")))) == ["P4"]
    maybe = TargetLost("x", executed=Executed.MAYBE)
    crash = (harm("crash", "s1", 11.0, 12.0),)
    assert broken(case_of(request(maybe), harms=crash)) == []


def test_p05_begun_twice() -> None:
    """By one life; or by two, though nobody was lost or only the broker was killed."""
    assert set(broken(case_of(request(REPLY, begun(), begun(at=12.0))))) == {"P5"}
    by_two = request(REPLY, begun(), begun(OTHER))
    assert broken(case_of(by_two)) == ["P5"]
    restarted = (harm("crash", "broker", 11.0, 11.5),)
    assert broken(case_of(by_two, harms=restarted, broker_starts=2)) == ["P5"]
    assert broken(case_of(by_two, harms=restarted, broker_starts=2, settles=False)) == []
    killed = (*restarted, harm("crash", "s1", 10.5, 12.0))
    assert broken(case_of(by_two, harms=killed, broker_starts=2)) == []


def test_p05_bodies_mixed_up() -> None:
    """A handler was given another's body; a caller was given a reply of nobody."""
    assert broken(case_of(request(REPLY, begun(body=b"z")))) == ["P5"]
    forged = Parcel(Reply(*KEY, b"forged", 0))
    assert broken(case_of(request(forged, begun()))) == ["P5"]
    assert broken(case_of(request(forged), lures={"echo"})) == []


def test_p14_begun_without_being_asked() -> None:
    """A request in the name of a peer that did not ask it; strangers may ask what they like."""
    case = case_of()
    case.history.began(KEY, begun())
    assert broken(case) == ["P14"]
    assert broken(replace(case, strangers=frozenset({"e1"}))) == []


def test_p07_lanes() -> None:
    """Pushes taken out of order, twice, mixed up, out of nothing, or settled and never taken."""
    for sequences, delivered, expected in (
        ([1, 2, 3], 3, 0),
        ([1, 3, 2], 3, 1),
        ([1, 1, 2], 0, 1),
        ([1, 2, 4], 0, 1),
        ([1], 2, 1),
    ):
        case = case_of(delivered={LANE: delivered})
        for number in range(3):
            case.history.pushed(LANE, b"%d" % (number + 1))
        for number in sequences:
            case.history.took(LANE, number, begun(body=b"%d" % number))
        assert len(broken(case)) == expected, sequences
        assert broken(replace(case, strangers=frozenset({"e1"}))) == []
    mixed = case_of()
    mixed.history.pushed(LANE, b"1")
    mixed.history.took(LANE, 1, begun(body=b"2"))
    assert broken(mixed) == ["P7"]


def test_p10_a_loss_that_was_not_told() -> None:
    """A handler's process died, and three beats later its caller still waited."""
    waits = request(RequestTimeout("x"), begun(), ended_at=15.0)
    waits.begun[0].ended_at = None
    crash = harm("crash", "s1", 11.5, 40.0)
    assert broken(case_of(waits, harms=(crash,))) == ["P10"]
    assert broken(case_of(waits, harms=(harm("stop", "s1", 11.5, 40.0),))) == ["P10"]
    assert broken(case_of(waits, harms=(harm("stop", "s1", 11.5, 13.0),))) == []
    assert broken(case_of(waits, harms=(crash, harm("stop", "broker", 12.0, 13.0)))) == []


def test_p11_a_loss_without_a_cause() -> None:
    """Told that a handler is lost, though nothing was done to any; or a broker that gave up peers
    when only itself was stopped."""
    lost = request(TargetLost("x"), begun())
    assert broken(case_of(lost)) == ["P11"]
    assert broken(case_of(lost, harms=(harm("stop", "broker", 9.0, 11.0),))) == ["P11"]
    assert broken(case_of(lost, harms=(harm("stop", "s1", 9.0, 11.0),))) == []
    assert broken(case_of(peers_lost=1)) == ["P11"]
    assert broken(case_of(peers_lost=1, harms=(harm("crash", "e1", 1.0, 2.0),))) == []


def test_what_is_broken_says_of_which_request() -> None:
    """With all that is needed to find it in a trace."""
    (found,) = judge(case_of(request(Overloaded("full"), begun())))
    assert str(found) == (
        "P4: [e1.1 #7 to anybody:echo at 10.0000] ended as Overloaded(no): full,"
        " but was begun by Life(name='s1', number=1)"
    )
