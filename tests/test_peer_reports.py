"""Who is told how a handler ended, and of what."""

from __future__ import annotations

from zbus.peer.call import DONE, Result
from zbus.peer.reports import PushEnd, RequestEnd
from zbus.protocol.effect import LaneKey
from zbus.protocol.message import Key


def test_the_end_of_a_request_says_which() -> None:
    """By its key, with what the handler returned."""
    told: list[tuple[Key, Result]] = []
    key = Key("engine", 1, 7)
    RequestEnd(lambda key, result: told.append((key, result)), key)(DONE)
    assert told == [(key, DONE)]


def test_the_end_of_a_push_says_where_it_stood() -> None:
    """In its lane, by its number there."""
    told: list[tuple[LaneKey, int, Result]] = []
    lane = LaneKey("engine", 1, "note")
    PushEnd(lambda *end: told.append(end), lane, 3)(DONE)
    assert told == [(lane, 3, DONE)]
