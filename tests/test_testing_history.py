"""A history holds what happened, and to whom it belongs."""

from __future__ import annotations

from zbus.errors import NoHandler, Overloaded
from zbus.protocol.effect import LaneKey
from zbus.protocol.message import NO_FRAMES, Key
from zbus.protocol.requests import Ask
from zbus.testing.history import Asked, Begun, History, Life

KEY = Key("e1", 1, 7)
SERVER = Life("s1", 2)


def asked(key: Key = KEY) -> Asked:
    ask = Ask("echo", b"x", 5.0)
    return Asked(key, Life(key.source, key.epoch), ask, at=1.0, deadline_at=6.0, attached=True)


def test_a_start_belongs_to_the_request_that_was_asked() -> None:
    """One that nobody asked is a stray, by its key."""
    history, one = History(), asked()
    history.asked(one)
    history.began(KEY, begun := Begun(SERVER, 1.5, b"x", NO_FRAMES))
    history.began(Key("e1", 2, 7), stray := Begun(SERVER, 1.5, b"x", NO_FRAMES))
    assert history.requests == {KEY: one}
    assert one.begun == [begun]
    assert history.strays == {Key("e1", 2, 7): [stray]}


def test_the_first_end_is_the_end_and_others_are_counted() -> None:
    """So that a second one can be judged."""
    history, one = History(), asked()
    first = NoHandler()
    history.ended(one, first, 2.0)
    history.ended(one, Overloaded(), 3.0)
    assert (one.outcome, one.ended_at, one.ends) == (first, 2.0, 2)


def test_a_lane_has_what_was_accepted_and_what_was_taken() -> None:
    """In order, whoever comes first."""
    history, lane = History(), LaneKey("e1", 1, "m")
    begun = Begun(SERVER, 1.5, b"a", NO_FRAMES)
    history.took(lane, 1, begun)
    history.pushed(lane, b"a")
    history.pushed(lane, b"b")
    assert history.lanes[lane].accepted == [b"a", b"b"]
    assert history.lanes[lane].taken == [(1, begun)]


def test_what_was_refused_at_once_is_counted_by_its_error() -> None:
    """It is no request: it never was accepted."""
    history = History()
    history.refuse(Overloaded())
    history.refuse(Overloaded())
    assert history.refused == {"Overloaded": 2}
    assert not history.requests
