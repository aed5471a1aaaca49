"""What the handler's side remembers: all that it must, for as long as it must, and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from zbus.errors import HandlerError
from zbus.protocol.answerer import fault_item
from zbus.protocol.memory import LINGER_S, Memory, Started
from zbus.protocol.message import Key, Parcel, Reply, Request


def key(number: int, epoch: int = 1, source: str = "e") -> Key:
    return Key(source, epoch, number)


def request(
    number: int, floor: int = 0, still_open: tuple[int, ...] = (), epoch: int = 1
) -> Request:
    return Request("e", epoch, number, "t", "", 1_000, 0, floor, still_open, "", b"", 0)


def reply(of: Key, size: int = 0) -> Parcel:
    return Parcel(Reply(*of, b"x" * size, 0))


def remembered(memory: Memory) -> set[Key]:
    return {entry.key for entry in entries(memory)}


def entries(memory: Memory) -> Iterator[Started]:
    for source in memory._sources.values():
        yield from source.started.values()


def check(memory: Memory) -> None:
    """The counters say what the tables hold, and every entry has an end."""
    held = list(entries(memory))
    assert memory.count == len(held)
    assert memory.size == sum(entry.size for entry in held)
    assert all(entry.key in memory._expiry for entry in held)
    assert all(entry.answer is None for entry in memory._running.values())
    assert all((entry.answer is None) == (entry.key in memory._running) for entry in held)


# -- remembering -----------------------------------------------------------------------------


def test_what_was_begun_is_known_until_it_is_settled() -> None:
    """While it runs, after it has ended, and not before or under another name."""
    memory = Memory(10, 100)
    assert memory.get(key(7)) is None
    entry = memory.begin(key(7), 5.0)
    assert memory.get(key(7)) is entry
    assert memory.get(key(7, source="other")) is None
    assert memory.get(key(7, epoch=2)) is None
    memory.finish(entry, reply(key(7), 3))
    known = memory.get(key(7))
    assert known is entry
    assert known.answer == reply(key(7), 3)
    memory.settle(request(8, floor=8))
    assert memory.get(key(7)) is None
    check(memory)


def test_a_second_end_is_ignored() -> None:
    """The first answer is the one that is remembered (P1)."""
    memory = Memory(10, 100)
    entry = memory.begin(key(1), 5.0)
    memory.finish(entry, reply(key(1), 3))
    memory.finish(entry, reply(key(1), 50))
    assert entry.answer == reply(key(1), 3)
    assert (memory.running, memory.size) == (0, 3)


def test_the_bounds_refuse_before_the_start() -> None:
    """By count and by bytes; the replies of what runs already are kept in any case."""
    memory = Memory(2, 10)
    first = memory.begin(key(1), 5.0)
    assert memory.has_room()
    second = memory.begin(key(2), 5.0)
    assert not memory.has_room()
    memory.finish(first, reply(key(1), 100))
    memory.finish(second, Parcel(fault_item(key(2), HandlerError("why"))))
    assert memory.size == 103
    memory.settle(request(3, floor=2))
    assert memory.size == 3
    assert memory.has_room()
    memory.finish(memory.begin(key(3), 5.0), reply(key(3), 7))
    memory.settle(request(4, floor=3))
    assert not (memory.size >= 10)
    memory.finish(memory.begin(key(4), 5.0), reply(key(4), 10))
    memory.settle(request(5, floor=4))
    assert memory.count < 2
    assert not memory.has_room()
    check(memory)


def test_frames_count_as_bytes() -> None:
    """A reply of large frames is no smaller for having them beside its item."""
    memory = Memory(10, 100)
    entry = memory.begin(key(1), 5.0)
    memory.finish(entry, Parcel(Reply(*key(1), b"xy", 1), (bytes(50),)))
    assert memory.size == 52


# -- settling --------------------------------------------------------------------------------


@given(st.permutations(range(1, 7)), st.integers(0, 8), st.sets(st.integers(1, 6)))
def test_settling_forgets_exactly_what_the_source_says(
    order: list[int], floor: int, still_open: set[int]
) -> None:
    """Whatever the order of arrival: all below the floor but the stragglers (spec 6.4)."""
    memory = Memory(100, 1_000)
    for number in order:
        memory.finish(memory.begin(key(number), 9.0), reply(key(number), number))
    stragglers = tuple(sorted(number for number in still_open if number < floor))
    memory.settle(request(9, floor, stragglers))
    kept = {number for number in order if number >= floor or number in stragglers}
    assert remembered(memory) == {key(number) for number in kept}
    event(f"{len(stragglers)} stragglers kept")
    check(memory)


@given(st.data())
def test_a_source_that_tells_the_truth_is_never_forgotten(data: st.DataObject) -> None:
    """A whole life of one source: every open request is known at every step, and of the ended
    ones no more than the floor allows stay."""
    memory, is_open, done = Memory(1_000, 10_000), set[int](), set[int]()
    for number in range(1, data.draw(st.integers(1, 25)) + 1):
        is_open.add(number)
        floor = data.draw(st.integers(min(is_open), number)) if is_open else number
        told = tuple(sorted(other for other in is_open if other < floor))
        memory.settle(request(number, floor, told))
        if memory.get(key(number)) is None:
            memory.begin(key(number), 9.0)
        for other in data.draw(st.sets(st.sampled_from(sorted(is_open)))):
            entry = memory.get(key(other))
            assert entry is not None
            memory.finish(entry, reply(key(other), 1))
            is_open.discard(other)
            done.add(other)
        assert all(memory.get(key(other)) for other in is_open)
        assert not any(
            memory.get(key(other)) for other in done if other < floor and other not in told
        )
        check(memory)


def test_a_straggler_is_forgotten_once_it_is_no_longer_named() -> None:
    """Below the floor only the list speaks for it."""
    memory = Memory(10, 100)
    for number in (1, 2, 3):
        memory.begin(key(number), 9.0)
    memory.settle(request(4, floor=3, still_open=(1,)))
    assert remembered(memory) == {key(1), key(3)}
    memory.settle(request(5, floor=3))
    assert remembered(memory) == {key(3)}


def test_what_came_late_is_settled_no_later() -> None:
    """An id that was put off and came after a younger one does not hide behind it."""
    memory = Memory(10, 100)
    memory.begin(key(5), 9.0)
    memory.begin(key(3), 9.0)
    memory.settle(request(6, floor=4))
    assert remembered(memory) == {key(5)}


def test_a_newer_life_settles_the_older_ones() -> None:
    """Before it is looked at whether there is room, so that the dead take none from the living."""
    memory = Memory(2, 100)
    memory.finish(memory.begin(key(1), 9.0), reply(key(1), 9))
    memory.begin(key(2), 9.0)
    assert not memory.has_room()
    memory.settle(request(1, floor=1, epoch=2))
    assert memory.has_room()
    assert remembered(memory) == set()
    assert memory.outdated(key(3, epoch=1))
    assert not memory.outdated(key(1, epoch=2))
    memory.begin(key(1, epoch=2), 9.0)
    memory.settle(request(9, floor=9, epoch=1))
    assert remembered(memory) == {key(1, epoch=2)}
    check(memory)


# -- a run that nobody waits for ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["settled", "overdue", "newer life"])
def test_a_run_that_nobody_waits_for_holds_its_place(how: str) -> None:
    """It is running until its handler returns, whoever has given it up (P11): the window counts
    it, no second one starts beside it (P5), and its end frees the place."""
    memory = Memory(10, 100)
    entry = memory.begin(key(1), 5.0)
    if how == "settled":
        memory.settle(request(2, floor=2))
    elif how == "overdue":
        memory.expire(5.0 + LINGER_S)
    else:
        memory.settle(request(1, floor=1, epoch=2))
    assert (memory.count, memory.running) == (0, 1)
    assert memory.get(key(1)) is entry
    memory.finish(entry, reply(key(1), 5))
    assert (memory.running, memory.size) == (0, 0)
    assert memory.get(key(1)) is None
    check(memory)


def test_what_did_not_run_may_start_again() -> None:
    """Forgotten at once, and with its size."""
    memory = Memory(10, 100)
    entry = memory.begin(key(1), 5.0)
    memory.finish(entry, reply(key(1), 5))
    memory.forget(entry)
    assert memory.get(key(1)) is None
    assert (memory.count, memory.size, memory.running) == (0, 0, 0)
    other = memory.begin(key(1), 5.0)
    memory.forget(entry)
    assert memory.get(key(1)) is other
    check(memory)


# -- time --------------------------------------------------------------------------------------


def test_an_unsettled_id_outlives_its_deadline() -> None:
    """By a while, because a repeat may have been under way; then it is forgotten with all it
    held, and its source with it."""
    memory = Memory(10, 100)
    memory.finish(memory.begin(key(1), 5.0), reply(key(1), 9))
    memory.begin(key(2), 6.0)
    assert memory.next_at() == 5.0 + LINGER_S
    memory.expire(4.99 + LINGER_S)
    assert remembered(memory) == {key(1), key(2)}
    memory.expire(5.0 + LINGER_S)
    assert remembered(memory) == {key(2)}
    memory.expire(6.0 + LINGER_S)
    assert memory._sources == {}
    assert memory.next_at() is None
    check(memory)


def test_a_repeat_extends_the_memory_and_never_shortens_it() -> None:
    """A repeat with more time left says that the source still waits (spec 6.4)."""
    memory = Memory(10, 100)
    entry = memory.begin(key(1), 5.0)
    memory.extend(entry, 4.0)
    assert memory.next_at() == 5.0 + LINGER_S
    memory.extend(entry, 8.0)
    memory.expire(7.0 + LINGER_S)
    assert memory.get(key(1)) is entry
    memory.finish(entry, reply(key(1)))
    memory.expire(8.0 + LINGER_S)
    assert memory.get(key(1)) is None


def test_sources_that_come_and_go_leave_nothing() -> None:
    """Ten thousand names that asked once each are not kept for ever."""
    memory = Memory(100_000, 100)
    for number in range(10_000):
        one = key(1, source=f"e{number}")
        memory.finish(memory.begin(one, float(number)), reply(one))
        memory.expire(float(number))
    assert len(memory._sources) <= LINGER_S + 1
    memory.drop_empty("e9999")
    assert memory.get(key(1, source="e9999")) is not None


def test_a_source_that_was_only_refused_is_not_kept() -> None:
    """Nothing of it is remembered, so it is not remembered itself."""
    memory = Memory(10, 100)
    memory.finish(memory.begin(key(1), 5.0), reply(key(1)))
    memory.settle(request(2, floor=2))
    memory.drop_empty("e")
    assert memory._sources == {}
    memory.drop_empty("nobody")
