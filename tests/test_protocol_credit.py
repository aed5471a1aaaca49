"""Pushes are conserved: by the sender's lanes, the receiver's, and both over a lossy way (P7)."""

from __future__ import annotations

from itertools import pairwise

import pytest

import zbus.protocol.credit
from zbus.errors import Backpressure
from zbus.protocol.codec import decode, encode
from zbus.protocol.credit import InLanes, OutLane, OutLanes
from zbus.protocol.effect import LaneKey, Take
from zbus.protocol.limits import BATCH_MAX_BYTES, FRAMES_MAX, PUSH_BATCH_MAX
from zbus.protocol.message import Credit, Parcel, Push

LANE = LaneKey("e", 1, "t")


def sender(window: int = 4, count_max: int = 100, bytes_max: int = 10_000) -> OutLanes:
    lanes = OutLanes("e", 1, count_max, bytes_max)
    lanes.window = window
    return lanes


def filled(count: int, window: int = 4) -> OutLanes:
    lanes = sender(window)
    for number in range(1, count + 1):
        lanes.accept("t", b"%d" % number, ())
    return lanes


def pushes(parcels: list[Parcel]) -> list[tuple[int, int, int]]:
    """First sequence, how many, floor."""
    return [
        (item.sequence, len(item.bodies), item.floor)
        for item, _ in parcels
        if isinstance(item, Push)
    ]


def credit(taken: int, window: int = 4, rewind: bool = False, *, lane: LaneKey = LANE) -> Credit:
    return Credit(*lane, taken, window, rewind)


def push(
    sequence: int, *bodies: bytes, floor: int = 1, epoch: int = 1, source: str = "e"
) -> Parcel:
    return Parcel(Push(0, source, epoch, "t", sequence, floor, bodies, ()))


def all_of(lanes: OutLanes) -> list[OutLane]:
    return list(lanes._lanes.values())


def balanced(lanes: OutLanes) -> bool:
    return lanes.accepted == lanes.delivered + lanes.dropped + lanes.queued


# -- the sender ------------------------------------------------------------------------------


def test_the_window_bounds_what_flies() -> None:
    """The rest waits for credit, in order."""
    lanes = filled(10)
    assert pushes(lanes.emit(1, 0.0)) == [(1, 4, 1)]
    assert pushes(lanes.emit(1, 0.0)) == []
    lanes.credit(credit(2), 0.0)
    assert pushes(lanes.emit(1, 0.0)) == [(5, 2, 3)]
    lanes.credit(credit(6, window=2), 0.0)
    assert pushes(lanes.emit(1, 0.0)) == [(7, 2, 7)]
    lanes.credit(credit(7, window=1), 0.0)
    assert pushes(lanes.emit(1, 0.0)) == []
    assert (lanes.delivered, lanes.queued) == (7, 3)


def test_a_receiver_does_not_widen_what_the_broker_allows() -> None:
    """The window of the Welcome is the broker's bound; a Credit may only narrow it."""
    lanes = filled(10)
    lanes.credit(credit(0, window=1_000), 0.0)
    assert pushes(lanes.emit(1, 0.0)) == [(1, 4, 1)]


def test_at_the_bound_a_push_is_refused_and_not_dropped() -> None:
    """By count and by bytes; what was refused was never accepted (P7)."""
    lanes = sender(count_max=2)
    lanes.accept("t", b"1", ())
    lanes.accept("u", b"2", ())
    with pytest.raises(Backpressure):
        lanes.accept("t", b"3", ())
    assert (lanes.accepted, lanes.queued, lanes.dropped) == (2, 2, 0)
    lanes = sender(bytes_max=10)
    lanes.accept("t", b"12345", (b"123",))
    with pytest.raises(Backpressure):
        lanes.accept("t", b"123", ())
    lanes.accept("t", b"12", ())
    assert lanes.size == 10
    lanes.emit(1, 0.0)
    lanes.credit(credit(1), 0.0)
    assert lanes.size == 2


def test_a_hold_keeps_everything_until_there_is_a_window() -> None:
    """Window 0: nothing is sent, and then everything unsettled is sent again (spec 7.3)."""
    lanes = filled(3)
    lanes.emit(1, 0.0)
    lanes.credit(credit(1, window=0), 0.0)
    lanes.accept("t", b"4", ())
    assert lanes.emit(1, 0.0) == []
    assert lanes.probe(1, 1e9, 2.0) == []
    lanes.credit(credit(0, window=4, rewind=True), 0.0)
    assert pushes(lanes.emit(1, 0.0)) == [(2, 3, 2)]


def test_a_welcome_releases_and_rewinds_all_lanes() -> None:
    """Everything unsettled is sent again, in order, within the new window (spec 7.4)."""
    lanes = filled(5)
    lanes.accept("u", b"u", ())
    lanes.emit(1, 0.0)
    lanes.credit(credit(1, window=0), 0.0)
    lanes.window = 3
    lanes.rewind()
    again = lanes.emit(2, 0.0)
    assert pushes(again) == [(2, 3, 2), (1, 1, 1)]
    assert {item.session for item, _ in again if isinstance(item, Push)} == {2}


@pytest.mark.parametrize("lane", [LaneKey("e", 1, "u"), LaneKey("f", 1, "t"), LaneKey("e", 2, "t")])
def test_credit_of_another_lane_counts_for_nothing(lane: LaneKey) -> None:
    """Neither another's, nor another life's, nor on a topic we never pushed to."""
    lanes = filled(3)
    lanes.emit(1, 0.0)
    lanes.credit(credit(3, lane=lane), 0.0)
    assert (lanes.delivered, lanes.queued) == (0, 3)


def test_a_lost_tail_is_probed_and_no_more_often_than_it_must() -> None:
    """After two silent intervals the newest push is said again, once a silence (spec 7.7)."""
    lanes = filled(3)
    lanes.emit(1, 0.0)
    seen = [now for now in range(100) if pushes(lanes.probe(1, now / 10, 2.0)) == [(3, 1, 1)]]
    assert len(seen) == 4
    assert 20 <= seen[0] <= 23
    assert all(20 <= later - sooner <= 23 for sooner, later in pairwise(seen))
    lanes.credit(credit(3), 10.0)
    assert lanes.probe(1, 99.0, 2.0) == []


def test_batches_keep_the_maxima_of_a_message() -> None:
    """By count, bytes and frames; a single large push travels alone."""
    lanes = sender(window=5_000, count_max=5_000, bytes_max=1 << 30)
    for _ in range(PUSH_BATCH_MAX + 1):
        lanes.accept("t", b"", ())
    for _ in range(3):
        lanes.accept("t", bytes(BATCH_MAX_BYTES // 2), ())
    lanes.accept("t", bytes(2 * BATCH_MAX_BYTES), ())
    for _ in range(3):
        lanes.accept("t", b"", (b"f",) * (FRAMES_MAX // 2))
    parcels = lanes.emit(1, 0.0)
    assert [count for _, count, _ in pushes(parcels)] == [1024, 3, 1, 1, 2, 1]
    for parcel in parcels:
        assert decode(encode([parcel])) == [parcel]


def test_the_end_drops_what_is_queued_and_counts_it() -> None:
    """Given up is not lost: accepted = delivered + dropped (P7)."""
    lanes = filled(5)
    lanes.emit(1, 0.0)
    lanes.credit(credit(2), 0.0)
    assert lanes.drop_all() == 3
    assert (lanes.delivered, lanes.dropped, lanes.queued, lanes.size) == (2, 3, 0, 0)
    assert balanced(lanes)


# -- the receiver ----------------------------------------------------------------------------


def test_repeats_are_dropped_and_answered_with_credit() -> None:
    """Whole ones and the head of a batch; the sender learns how far it is settled."""
    lanes = InLanes(8, 0.25)
    assert lanes.receive(push(1, b"1", b"2"), 0.0) == Take(LANE, 1, ((b"1", ()), (b"2", ())))
    assert lanes.receive(push(1, b"1", b"2"), 0.0) is None
    assert lanes.receive(push(2, b"2", b"3"), 0.0) == Take(LANE, 3, ((b"3", ()),))
    lanes.taken(LANE, 1)
    assert [item for item, _ in lanes.emit()] == [credit(1, 8)]
    assert (lanes.repeats, lanes.delivered, lanes.queued) == (3, 1, 2)
    assert lanes.emit() == []


def test_a_gap_asks_for_a_rewind_now_and_then() -> None:
    """Nothing beyond it is taken; the sender is asked once a quarter of a second (spec 7.2)."""
    lanes = InLanes(8, 0.25)
    asked = []
    for tenth in range(10):
        assert lanes.receive(push(3, b"3"), tenth / 10) is None
        asked += [(tenth, item) for item, _ in lanes.emit()]
    assert asked == [(tenth, credit(0, 8, True)) for tenth in (0, 3, 6, 9)]


def test_a_higher_floor_says_what_another_server_took() -> None:
    """The lane goes on there; handlers that still run are done with nothing (spec 7.2)."""
    lanes = InLanes(8, 0.25)
    lanes.receive(push(1, b"1", b"2", b"3"), 0.0)
    lanes.taken(LANE, 1)
    assert lanes.receive(push(7, b"7", floor=7), 0.0) == Take(LANE, 7, ((b"7", ()),))
    lanes.taken(LANE, 3)
    assert [item for item, _ in lanes.emit()] == [credit(6, 8)]
    assert (lanes.delivered, lanes.queued) == (3, 1)
    lanes.taken(LANE, 7)
    assert (lanes.delivered, lanes.queued) == (4, 0)


def test_a_lower_floor_repeats_nothing() -> None:
    """What this server runs is not run again because its credit was lost."""
    lanes = InLanes(8, 0.25)
    lanes.receive(push(5, b"5", b"6", floor=5), 0.0)
    assert lanes.receive(push(5, b"5", b"6", floor=5), 0.0) is None
    assert lanes.receive(push(6, b"6", b"7", floor=6), 0.0) == Take(LANE, 7, ((b"7", ()),))


def test_a_newer_life_settles_the_older_and_the_dead_say_nothing() -> None:
    """Pushes of a dead life that come after those of a newer one are not taken (spec 7.2)."""
    lanes = InLanes(8, 0.25)
    lanes.receive(push(1, b"old"), 0.0)
    assert lanes.receive(push(1, b"new", epoch=2), 0.0) is not None
    assert (lanes.delivered, lanes.queued) == (1, 1)
    assert lanes.receive(push(2, b"old"), 0.0) is None
    assert lanes.receive(push(2, b"more", epoch=2), 0.0) is not None
    lanes.taken(LANE, 1)
    lanes.taken(LaneKey("e", 2, "t"), 2)
    assert [item for item, _ in lanes.emit()] == [credit(2, 8, lane=LaneKey("e", 2, "t"))]


def test_what_is_served_no_longer_is_refused_once_the_rest_is_done() -> None:
    """Window 0, but not while a handler may still settle something (spec 7.3)."""
    lanes = InLanes(8, 0.25)
    lanes.refuse(push(1, b"1").item)  # type: ignore[arg-type]
    assert [item for item, _ in lanes.emit()] == [credit(0, 0)]
    lanes.receive(push(1, b"1"), 0.0)
    lanes.refuse(push(2, b"2").item)  # type: ignore[arg-type]
    assert lanes.emit() == []
    lanes.taken(LANE, 1)
    lanes.refuse(push(2, b"2").item)  # type: ignore[arg-type]
    assert [item for item, _ in lanes.emit()] == [credit(1, 8), credit(1, 0)]


def test_lanes_are_bounded_and_only_settled_ones_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest that is settled goes; its sender would begin at its floor."""
    monkeypatch.setattr(zbus.protocol.credit, "_LANES_MAX", 3)
    lanes = InLanes(8, 0.25)
    for source in "abc":
        lanes.receive(push(1, b"1", source=source), 0.0)
    lanes.taken(LaneKey("b", 1, "t"), 1)
    lanes.emit()
    lanes.receive(push(1, b"1", source="d"), 0.0)
    assert [key.source for key in lanes._lanes] == ["a", "c", "d"]
    assert lanes.receive(push(2, b"2", source="b", floor=2), 0.0) is not None


def test_frames_stay_with_their_bodies() -> None:
    """Through a batch, a repeat of its head, and the codec."""
    out, lanes = sender(), InLanes(8, 0.25)
    groups = ((), (b"f",), (b"g", b"h"), ())
    for number, group in enumerate(groups):
        out.accept("t", b"%d" % number, group)
    (parcel,) = decode(encode(out.emit(1, 0.0)))
    lanes.receive(push(1, b"0"), 0.0)
    take = lanes.receive(parcel, 0.0)
    assert take == Take(LANE, 2, ((b"1", (b"f",)), (b"2", (b"g", b"h")), (b"3", ())))
