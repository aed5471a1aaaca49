"""The answering half: each id starts once, repeats are answered, nothing starts too late."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from zbus.errors import Draining, Executed, HandlerError, NoHandler, Overloaded, Superseded
from zbus.errors import ZbusError as Error
from zbus.protocol.answerer import Answerer, fault_item
from zbus.protocol.asker import TO_BROKER
from zbus.protocol.codec import decode, encode
from zbus.protocol.effect import Abandon, Send, SessionEffect, Start
from zbus.protocol.limits import TEXT_MAX
from zbus.protocol.memory import LINGER_S, Memory
from zbus.protocol.message import (
    AGAIN,
    UNKNOWN_ID,
    Cancel,
    Fault,
    Flag,
    Item,
    Key,
    Parcel,
    Reply,
    Request,
)
from zbus.protocol.objects import Objects

TOPICS = {"t": None}


def key(number: int = 1, epoch: int = 1) -> Key:
    return Key("e", epoch, number)


class Side:
    """An answerer, and what it wants done."""

    def __init__(self, window: int = 4, count_max: int = 100, bytes_max: int = 1_000) -> None:
        self.memory = Memory(count_max, bytes_max)
        self.answerer = Answerer(self.memory, window, Objects())
        self.effects: list[SessionEffect] = []

    def asked(
        self, number: int = 1, *, waited_s: float = 0.0, now: float = 0.0, **changes: Any
    ) -> list[SessionEffect]:
        fields = {"epoch": 1, "topic": "t", "ttl_ms": 1_000, "flags": 0, "floor": 0, **changes}
        item = Request(
            "e", number=number, target="", open=(), trace="", body=b"b", frames=1, **fields
        )
        effects: list[SessionEffect] = []
        self.answerer.asked(Parcel(item, (b"frame",)), TOPICS, waited_s, now, effects)
        self.effects += effects
        return effects

    def answer(self, number: int = 1, *, epoch: int = 1, attached: bool = True) -> list[Item]:
        item = Reply("e", epoch, number, b"answer %d" % number, 0)
        effects: list[SessionEffect] = []
        self.answerer.answer(key(number, epoch), Parcel(item), attached, effects)
        self.effects += effects
        return items(effects)

    @property
    def starts(self) -> list[Key]:
        return [effect.key for effect in self.effects if isinstance(effect, Start)]


def items(effects: list[SessionEffect]) -> list[Item]:
    return [effect.parcel.item for effect in effects if isinstance(effect, Send)]


def refusal(effects: list[SessionEffect]) -> Fault:
    (item,) = items(effects)
    assert isinstance(item, Fault)
    assert len(effects) == 1
    return item


# -- starting once -----------------------------------------------------------------------------


def test_a_request_starts_with_all_that_came() -> None:
    """Its frames, and the instant until which it may run."""
    side = Side()
    (start,) = side.asked(7, ttl_ms=1_500, now=10.0)
    assert isinstance(start, Start)
    assert start.key == key(7)
    assert start.request.topic == "t"
    assert start.frames == (b"frame",)
    assert start.deadline == 11.5


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "repeat", "know?", "answer", "later", "settle"]),
        st.integers(1, 4),
    ),
    max_size=40,
)


@given(STEPS)
def test_p05_an_id_starts_at_most_once(steps: list[tuple[str, int]]) -> None:
    """Repeats, questions, answers and settlements in any order: one start for an id that its
    source may still ask for, and every repeat gets the same answer (P5)."""
    side, now = Side(), 0.0
    answered: dict[int, Item] = {}
    floor = 1
    for verb, number in steps:
        if number < floor:
            continue
        if verb == "later":
            now += 0.2
        elif verb == "settle":
            floor = number
        elif verb == "answer":
            said = side.answer(number)
            assert len(said) == (key(number) in side.starts and number not in answered)
            answered.update((number, item) for item in said)
        else:
            started = key(number) in side.starts
            flags = {"ask": 0, "repeat": int(Flag.REPEAT), "know?": int(Flag.ASK)}[verb]
            effects = side.asked(number, flags=flags, floor=floor, now=now)
            if number in answered:
                assert items(effects) == [answered[number]]
            elif started:
                assert effects == []
            elif verb == "know?":
                assert refusal(effects).code == UNKNOWN_ID
            event(f"{verb}, {'known' if started else 'new'}")
    assert len(side.starts) == len(set(side.starts))
    assert side.answerer.started == len(side.starts)


def test_p05_an_answer_that_nobody_could_hear_waits_for_the_repeat() -> None:
    """Detached it is kept; the repeat gets it, as often as it comes."""
    side = Side()
    side.asked(1)
    assert side.answer(1, attached=False) == []
    assert side.answer(1) == []
    for _ in range(3):
        assert items(side.asked(1, flags=int(Flag.REPEAT))) == [Reply("e", 1, 1, b"answer 1", 0)]
    assert side.answerer.repeats == 3


def test_p05_a_question_starts_nothing() -> None:
    """The broker asks whether we know an id: no is an answer, and no start (spec 6.6)."""
    side = Side()
    assert refusal(side.asked(1, flags=int(Flag.ASK | Flag.REPEAT))).code == UNKNOWN_ID
    assert refusal(side.asked(1, topic="u", flags=int(Flag.ASK))).code == UNKNOWN_ID
    assert side.starts == []
    assert side.memory.count == 0


def test_p05_memory_is_not_cut_short_by_our_own_stall() -> None:
    """Fresh work after a minute's stall is remembered for its whole time, and refused to nobody,
    though its handler is told to hurry."""
    side = Side()
    (start,) = side.asked(1, ttl_ms=65_000, waited_s=60.0)
    assert isinstance(start, Start)
    assert start.deadline == 5.0
    side.answer(1)
    side.memory.expire(64.0 + LINGER_S)
    repeat = side.asked(1, flags=int(Flag.REPEAT), now=64.0)
    assert items(repeat) == [Reply("e", 1, 1, b"answer 1", 0)]


def test_p05_a_run_that_was_given_up_still_ends() -> None:
    """A handler that outlives its caller holds its place in the window until it returns, and
    then no longer (P11)."""
    side = Side(window=1)
    side.asked(1, now=0.0)
    assert refusal(side.asked(2, floor=2, now=5.0)).code == Overloaded.number
    side.memory.expire(1.0 + LINGER_S)
    assert refusal(side.asked(3, floor=3, now=20.0)).code == Overloaded.number
    side.answer(1)
    assert side.memory.running == 0
    assert len(side.asked(4, floor=4, now=21.0)) == 1
    assert side.starts == [key(1), key(4)]


def test_work_that_was_turned_away_may_be_started_elsewhere() -> None:
    """A closing pool says Draining, not run: that id is no memory, for its repeat must start."""
    side = Side()
    side.asked(1)
    effects: list[SessionEffect] = []
    side.answerer.answer(key(), Parcel(fault_item(key(), Draining())), True, effects)
    assert refusal(effects).code == Draining.number
    assert (side.memory.running, side.memory.count) == (0, 0)
    assert refusal(side.asked(1, flags=int(Flag.ASK | Flag.REPEAT))).code == UNKNOWN_ID


# -- refusing --------------------------------------------------------------------------------------


def test_p04_what_is_refused_did_not_run() -> None:
    """Unknown topic, no room in the window or the memory, a dead life: all say no, and start
    nothing."""
    side = Side(window=1)
    side.asked(1, epoch=2)
    faults = [
        refusal(side.asked(2, epoch=2, topic="u")),
        refusal(side.asked(2, epoch=2)),
        refusal(side.asked(1, epoch=1)),
    ]
    assert [fault.code for fault in faults] == [
        NoHandler.number,
        Overloaded.number,
        Superseded.number,
    ]
    side = Side(count_max=1)
    side.asked(1)
    side.answer(1)
    faults.append(refusal(side.asked(2)))
    side = Side(bytes_max=5)
    side.asked(1)
    side.answer(1)
    faults.append(refusal(side.asked(2)))
    assert {fault.code for fault in faults[3:]} == {Overloaded.number}
    assert {fault.executed for fault in faults} == {0}
    assert side.answerer.refused == 1


def test_p02_what_may_be_too_late_is_asked_again() -> None:
    """It may have waited for as long as we slept: its source knows how late it is. Not at once,
    because for a moment everything looks late (spec 6.2)."""
    side = Side()
    fault = refusal(side.asked(1, ttl_ms=1_000, waited_s=1.0))
    assert (fault.code, fault.executed, fault.retry_after_ms) == (AGAIN, 0, 50)
    assert refusal(side.asked(1, ttl_ms=0)).code == AGAIN
    assert side.starts == []
    assert len(side.asked(1, ttl_ms=1_001, waited_s=1.0)) == 1
    assert side.starts == [key(1)]


@given(st.integers(0, 10_000), st.floats(0.0, 10.0))
def test_p02_nothing_starts_after_its_deadline(ttl_ms: int, waited_s: float) -> None:
    """Whatever the wait, a start has time left, and no more than was left."""
    side = Side()
    effects = side.asked(1, ttl_ms=ttl_ms, waited_s=waited_s, now=100.0)
    for effect in effects:
        if isinstance(effect, Start):
            assert 100.0 < effect.deadline <= 100.0 + ttl_ms / 1_000.0 - waited_s + 1e-9
    assert len(effects) == 1


def test_a_refused_source_leaves_nothing_behind() -> None:
    """Ten thousand names that were only refused are not kept."""
    side = Side()
    side.asked(1)
    side.answer(1)
    assert refusal(side.asked(2, floor=2, topic="u")).code == NoHandler.number
    assert side.memory._sources == {}


# -- giving up ---------------------------------------------------------------------------------


def test_giving_up_is_shown_to_a_running_handler_only() -> None:
    """Not for what has ended, nor for what never came."""
    side = Side()
    side.asked(1)
    side.asked(2)
    side.answer(2)
    side.effects.clear()
    for number in (1, 2, 3):
        side.answerer.cancelled(Cancel("e", 1, number), side.effects)
    assert side.effects == [Abandon(key(1))]


def test_an_answer_to_nothing_is_no_answer() -> None:
    """What was never started has no end, and an end is said once (P1)."""
    side = Side()
    assert side.answer(1) == []
    side.asked(1)
    assert len(side.answer(1)) == 1
    assert side.answer(1) == []


# -- faults on the wire ------------------------------------------------------------------------


@pytest.mark.parametrize("retry_after_s", [0.0, 1.5, -1.0, 1e300, float("inf")])
def test_any_error_fits_on_the_wire(retry_after_s: float) -> None:
    """Whatever a handler raised, the fault about it is a message: texts are cut and mended, and
    a hint is a count of milliseconds."""
    error = HandlerError("x" * 2_000 + "\ud800", retry_after_s=retry_after_s)
    item = fault_item(key(), error)
    assert decode(encode([Parcel(item)])) == [Parcel(item)]
    assert len(item.text) <= TEXT_MAX
    assert item.code == HandlerError.number
    assert item.retry_after_ms == min(max(retry_after_s, 0.0) * 1_000, 2**53)


@pytest.mark.parametrize("executed", list(Executed))
def test_a_fault_says_whether_it_ran(executed: Executed) -> None:
    """0 no, 1 maybe, 2 yes (spec 4.7)."""
    error: Error = NoHandler("why", executed=executed)
    assert fault_item(key(), error).executed == ["no", "maybe", "yes"].index(executed)
    assert TO_BROKER.peer == b""
