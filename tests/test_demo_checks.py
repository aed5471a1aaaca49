"""The self-checks of the demo, each of which must fail where it should: zbus/demo/checks.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.demo.checks import ACCURACY_MIN, History, Kill, checks, latency, nothing_left
from zbus.demo.events import Aborted, Check
from zbus.demo.ledger import REPLIED, Kind, Record
from zbus.demo.plan import SERVER, SPIN, STORY, STRAY, Plan

PLAN = Plan(engines=2, rounds=2)
KILL = Kill(100.0, 100.01)
PLANTED = "HANDLER_EXCEPTION"
LATE = "COMMUNICATION_ERROR ZB-301, executed=maybe"
ABORTED = Aborted(
    job="astray", pid=7, answer=LATE, step="asked", ending="exit code 0", took_ms=1041.3
)
COUNTS = {"accepted": 3, "delivered": 3, "dropped": 0, "queued": 0, "repeats": 1}
ONCE, STARTS, FAULT, PUSHES, PAUSE, ABORT, LEARNED = range(7)
Ledgers = dict[str, list[Record]]


class Notes:
    """The ledgers of a run, written one request at a time."""

    def __init__(self) -> None:
        self.ledgers: Ledgers = {name: [] for name in (*PLAN.names, SERVER, STORY, STRAY)}
        self.aborted: Aborted | None = None
        self._keys = map("id-{}".format, itertools.count())

    def note(self, name: str, *record: Any) -> None:
        """A line of this part's ledger."""
        self.ledgers[name].append(Record(*record))

    def ask(self, topic: str, begun_s: float, ended_s: float, end: str = REPLIED) -> str:
        """A request of an engine to the server; its id."""
        key = next(self._keys)
        others = {"model.score": (SERVER, "engine-2"), SPIN: (STORY, STRAY)}
        asks, runs = others.get(topic, ("engine-1", SERVER))
        self.note(asks, begun_s, Kind.BEGUN, key, topic)
        self.note(runs, begun_s, Kind.STARTED, key, asks)
        self.note(asks, ended_s, Kind.ENDED, key, end)
        return key

    def edit(self, change: Callable[[Record], Record | None]) -> None:
        """Change every record, or leave it out."""
        for name, records in self.ledgers.items():
            changed = map(change, records)
            self.ledgers[name] = [record for record in changed if record is not None]

    def judged(self, accuracy: float = 0.95) -> list[Check]:
        """What the checks say."""
        return checks(History(PLAN, self.ledgers, KILL, self.aborted), accuracy)


def good_run() -> Notes:
    """A run in which every promise is kept."""
    notes = Notes()
    for begun_s in (90.0, 95.0):
        notes.ask("train.report", begun_s, begun_s + 0.001)
    for number in range(4):
        notes.ask("model.score", 91.0 + number, 91.5 + number, PLANTED if number == 1 else REPLIED)
    notes.ask("train.watch", 99.0, 100.9)
    notes.ask("train.report", 100.2, 100.8)
    notes.ask("train.report", 101.0, 101.003)
    notes.ask(SPIN, 102.0, 102.25, LATE)
    notes.aborted = ABORTED
    for name in PLAN.names:
        for number in (1, 2, 3):
            notes.note(SERVER, 92.0 + number, Kind.TOOK, name, number)
        notes.note(name, 110.0, Kind.COUNTED, name, COUNTS)
    return notes


def broken(notes: Notes, accuracy: float = 0.95) -> list[int]:
    """The numbers of the checks that do not hold."""
    return [number for number, check in enumerate(notes.judged(accuracy)) if not check.kept]


def test_a_good_run_keeps_every_promise() -> None:
    """And says in figures what was found."""
    notes = good_run()
    assert broken(notes) == []
    found = [check.found for check in notes.judged()]
    assert found[ONCE] == "10 asked, 10 ended"
    assert found[STARTS] == "10 starts for 10 requests, 2 repeats known"
    assert found[FAULT] == "engine-2: 3 replied, 1 HANDLER_EXCEPTION"
    assert found[PUSHES] == "6 accepted, 6 delivered, 0 dropped, 0 queued, 6 taken"
    assert found[PAUSE] == (
        "800 ms to a reply; 1 requests were open and 1 asked meanwhile, the last ended after"
        " 900 ms; 0 failed"
    )
    assert found[ABORT] == (
        "abort confirmed in 1,041 ms (asked, exit code 0); before that, 1 handler ran and ended"
        f" with {LATE}"
    )
    assert found[LEARNED] == "0.950"


def test_nothing_happened_is_not_good() -> None:
    """A run without requests, pushes or a restart shows nothing, so nothing holds."""
    assert broken(Notes()) == [ONCE, STARTS, FAULT, PUSHES, PAUSE, ABORT]


@pytest.mark.parametrize("kind", [Kind.ENDED, Kind.BEGUN])
def test_a_request_that_does_not_end_or_ends_twice_is_found(kind: Kind) -> None:
    """So is one that ended and was never asked."""
    lost, doubled = good_run(), good_run()
    key = next(record.key for record in lost.ledgers["engine-1"])
    lost.edit(lambda record: None if record[1:3] == (kind, key) else record)
    assert ONCE in broken(lost)
    doubled.ledgers["engine-1"] += [
        record for record in doubled.ledgers["engine-1"] if record[1:3] == (kind, key)
    ]
    assert ONCE in broken(doubled)


def test_a_handler_that_starts_twice_is_found() -> None:
    """Also where the second start is in another process."""
    for name in (SERVER, "engine-2"):
        notes = good_run()
        started = next(each for each in notes.ledgers[SERVER] if each.kind is Kind.STARTED)
        notes.ledgers[name].append(started)
        assert broken(notes) == [STARTS]
        assert "1 twice" in notes.judged()[STARTS].found


def test_a_reply_that_no_handler_gave_is_found() -> None:
    """It cannot be."""
    notes = good_run()
    key = notes.ask("train.report", 103.0, 103.1)
    notes.edit(lambda record: None if record[1:3] == (Kind.STARTED, key) else record)
    assert broken(notes) == [STARTS]
    assert "1 never, but replied" in notes.judged()[STARTS].found


def test_a_start_that_nobody_asked_for_is_found() -> None:
    """An id that no ledger knows."""
    notes = good_run()
    notes.note(SERVER, 103.0, Kind.STARTED, "unknown", "engine-1")
    assert broken(notes) == [STARTS]
    assert "1 unasked" in notes.judged()[STARTS].found


@pytest.mark.parametrize("end", [REPLIED, "COMMUNICATION_ERROR ZB-403, executed=maybe", "ERROR"])
def test_a_planted_error_that_comes_as_something_else_is_found(end: str) -> None:
    """It is the code of a handler that raised, and no other."""
    notes = good_run()
    notes.edit(lambda record: record._replace(detail=end) if record.detail == PLANTED else record)
    assert FAULT in broken(notes)


def test_an_engine_that_does_not_go_on_after_its_error_is_found() -> None:
    """One score less than there should be."""
    notes = good_run()
    key = notes.ask("model.score", 99.0, 99.1)
    assert broken(notes) == [FAULT]
    notes.edit(lambda record: None if record.key == key else record)
    assert broken(notes) == []
    notes.edit(lambda record: None if record.detail == PLANTED else record)
    assert FAULT in broken(notes)


@pytest.mark.parametrize(
    "counts",
    [
        {"accepted": 4},
        {"delivered": 2},
        {"dropped": 1},
        {"queued": 1},
        {"accepted": 4, "delivered": 4},
        {"accepted": 2, "delivered": 2},
        {"accepted": 4, "dropped": 2, "delivered": 2},
    ],
)
def test_a_push_that_is_not_accounted_for_is_found(counts: dict[str, int]) -> None:
    """The sender's equation, and what the server took."""
    notes = good_run()
    notes.edit(
        lambda record: (
            record._replace(detail={**record.detail, **counts})
            if record[1:3] == (Kind.COUNTED, "engine-2")
            else record
        )
    )
    assert broken(notes) == [PUSHES]
    assert notes.judged()[PUSHES].found.endswith("; not so for engine-2")


@given(st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_pushes_out_of_order_are_found(numbers: list[int]) -> None:
    """Or taken twice. A gap is one that was dropped, for which the equation is there."""
    notes, left = good_run(), iter(numbers)
    notes.edit(
        lambda record: (
            record._replace(detail=next(left)) if record[1:3] == (Kind.TOOK, "engine-1") else record
        )
    )
    in_order = numbers == sorted(set(numbers))
    assert broken(notes) == ([] if in_order else [PUSHES])


def test_an_engine_that_pushed_nothing_is_found() -> None:
    """Nothing is shown by nothing."""
    notes = good_run()
    none = {"accepted": 0, "delivered": 0, "dropped": 0, "queued": 0, "repeats": 0}
    notes.edit(lambda record: record._replace(detail=none) if record.detail == COUNTS else record)
    notes.edit(lambda record: None if record.kind is Kind.TOOK else record)
    assert broken(notes) == [PUSHES]


@pytest.mark.parametrize("end", [LATE, "COMMUNICATION_ERROR ZB-403, executed=maybe"])
def test_a_request_that_failed_because_of_the_restart_is_found(end: str) -> None:
    """With what it ended as."""
    notes = good_run()
    notes.ask("train.report", 100.1, 105.0, end)
    assert broken(notes) == [PAUSE]
    assert notes.judged()[PAUSE].found.endswith(f"1 failed, {end}")


def test_a_restart_that_nobody_met_shows_nothing() -> None:
    """So does one after which nobody had a reply."""
    notes = good_run()
    notes.edit(lambda record: None if record.at_s in (99.0, 100.9) else record)
    assert PAUSE in broken(notes)
    notes = good_run()
    notes.edit(lambda record: None if record.at_s > 100.9 else record)
    notes.edit(lambda record: None if record.at_s in (100.2, 100.8) else record)
    assert PAUSE in broken(notes)
    assert "no reply since" in notes.judged()[PAUSE].found


def test_a_reply_to_an_older_request_is_no_sign_of_life() -> None:
    """It may have passed the broker before that died."""
    notes = good_run()
    notes.ask("train.report", 99.999, 100.02)
    notes.ask("train.report", 100.005, 100.03)
    assert notes.judged()[PAUSE].found.startswith("800 ms to a reply")


def test_an_abort_that_was_none_is_found() -> None:
    """No abort, an engine that had ended before, and a handler that did answer."""
    none, early, heard = good_run(), good_run(), good_run()
    none.aborted = None
    assert broken(none) == [ABORT]
    assert none.judged()[ABORT].found == "not aborted"
    early.aborted = replace(ABORTED, step="nothing")
    assert broken(early) == [ABORT]
    heard.edit(lambda each: each._replace(detail=REPLIED) if each.detail == LATE else each)
    assert broken(heard) == [ABORT]


def test_a_handler_that_never_began_is_no_reason_to_abort() -> None:
    """But it may have been asked before it was there, as long as that did not run."""
    notes = good_run()
    notes.ledgers[STRAY].clear()
    assert ABORT in broken(notes)
    notes = good_run()
    key = notes.ask(SPIN, 101.0, 101.1, "COMMUNICATION_ERROR ZB-104, executed=no")
    notes.edit(lambda each: None if each[1:3] == (Kind.STARTED, key) else each)
    assert broken(notes) == []


@pytest.mark.parametrize("accuracy", [0.0, ACCURACY_MIN - 0.001])
def test_a_model_that_learned_too_little_is_found(accuracy: float) -> None:
    """At the limit it is good enough."""
    assert broken(good_run(), accuracy) == [LEARNED]
    assert broken(good_run(), ACCURACY_MIN) == []


def test_what_is_left_behind_is_named() -> None:
    """Processes that ended badly, and whatever is still there."""
    assert nothing_left({"broker": 0, "server": 0}, []).kept
    for exits, left, found in (
        ({"broker": 0, "server": 1}, [], "server ended with 1"),
        ({"broker": None}, [], "broker ended with None"),
        ({"broker": 0}, ["process 7", "/tmp/zbus-demo-x"], "process 7, /tmp/zbus-demo-x"),
    ):
        check = nothing_left(exits, left)
        assert not check.kept
        assert check.found == found


def test_latency_leaves_out_what_met_the_restart() -> None:
    """And says how many those are. Other requests wait for news, on purpose."""
    told = latency(History(PLAN, good_run().ledgers, KILL, None))
    assert (told.requests, told.waited) == (3, 1)
    assert told.p50_ms == pytest.approx(1.0)
    assert told.p99_ms == pytest.approx(3.0)
    assert latency(History(PLAN, Notes().ledgers, KILL, None)).requests == 0


@given(st.integers(1, 400))
def test_percentiles_are_of_the_nearest_rank(count: int) -> None:
    """The smallest that so many percent do not exceed: one that was measured."""
    notes = Notes()
    for number in range(count):
        notes.ask("train.report", 0.0, (number + 1) / 1000)
    told = latency(History(PLAN, notes.ledgers, KILL, None))
    assert told.p50_ms == (count + 1) // 2
    assert told.p99_ms == -(-count * 99 // 100)
