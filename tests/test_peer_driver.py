"""Who turns the link: zbus/peer/driver.py, over links that are acted and over real sockets."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from brokers import BOUND_S, ended, in_a_thread, until
from seats import LONG_S, SOON_S, Acted, Bench, Told, among_others, bench_at, raising_at

from zbus.errors import (
    Backpressure,
    CallerError,
    Cancelled,
    ClosedError,
    Executed,
    ForkedClientError,
    InternalError,
    RequestTimeout,
    ZbusError,
)
from zbus.peer.body import encode_body
from zbus.peer.link import Link
from zbus.peer.slot import Slot
from zbus.protocol.effect import Outcome
from zbus.protocol.message import Parcel

# -- an acted link: what happens when is the test's to say --------------------------------------

pytestmark = pytest.mark.pure


@pytest.fixture
def acted() -> Iterator[Acted]:
    made = Acted()
    made.driver.start()
    yield made
    made.driver.stop()
    made.joined()
    assert made.network.most <= 1, "two slept on the network at once"


def test_who_is_alone_leads(acted: Acted) -> None:
    """After a few requests one by one the caller turns by itself."""
    acted.leading()
    before = acted.link.turns["zbus-io"], acted.link.turns["caller"]
    acted.reply()
    assert acted.link.turns["zbus-io"] == before[0]
    assert acted.link.turns["caller"] > before[1]


def test_a_leader_learns_what_the_io_thread_heard_for_it(acted: Acted) -> None:
    """On its beat the I/O thread takes the reply before the sleeping leader sees its edge."""
    slot = acted.leading()
    acted.link.replies.append(1)
    acted.beat()
    acted.joined()
    assert slot.outcome is not None


def test_a_leader_wakes_for_what_a_beat_made_due(acted: Acted) -> None:
    """The I/O thread's turn moved the next instant forward: the leader sleeps no longer."""
    acted.leading()
    before = acted.link.turns["caller"]
    acted.link.due = time.monotonic() + 0.1
    acted.beat()
    until(lambda: acted.link.turns["caller"] > before, "the leader turns")
    acted.reply()


def test_a_leader_wakes_for_what_a_call_made_due(acted: Acted) -> None:
    """It leads on, where nothing else is to be done than to look again, earlier."""
    slot = acted.leading()
    before = acted.link.turns["caller"]
    acted.link.due = time.monotonic() + 0.1
    acted.driver.call(lambda link, now: None)
    until(lambda: acted.link.turns["caller"] > before, "the leader turns")
    assert acted.driver._leader is slot
    acted.reply()


@pytest.mark.parametrize("what", ["asks", "pushes"])
def test_whoever_comes_calls_the_leader_off(acted: Acted, what: str) -> None:
    """The I/O thread turns for both from then on, and nobody but it."""
    slot = acted.leading()
    before = acted.link.turns["caller"]
    if what == "asks":
        acted.caller()
    else:
        acted.driver.call(lambda link, now: None, turn=True)
    until(lambda: "zbus-io" in acted.sleepers(), "the I/O thread")
    assert acted.driver._leader is None
    acted.link.replies.extend(acted.link.session.asker)
    acted.network.wake()
    acted.joined()
    assert slot.outcome is not None
    assert acted.link.turns["caller"] == before


def test_the_io_thread_waits_for_no_leader_that_does_not_go(acted: Acted) -> None:
    """A signal's handler keeps the leader's thread: others are served all the same."""
    acted.leading()
    with acted.network.held_up():
        acted.link.replies.append(2)
        slot = acted.caller()
        until(lambda: slot.outcome is not None, "the reply")
        before = acted.link.turns["zbus-io"]
        until(lambda: acted.link.turns["zbus-io"] > before, "it turns on")
        acted.network.wake()
    acted.reply()


def test_a_stop_waits_for_the_leader_before_it_closes_the_network(acted: Acted) -> None:
    """Else a leader polls descriptors that are somebody else's by now. And it comes at once,
    although the I/O thread stands by for a long beat."""
    acted.leading()
    began = time.monotonic()
    with acted.network.held_up():
        stopper, _ = in_a_thread(acted.driver.stop)
        until(lambda: not acted.driver.is_running, "it stops")
        acted.driver._io.join(SOON_S)
        assert not acted.driver._io.is_alive()
        assert stopper.is_alive(), "it waits for the leader"
        assert acted.network.closed == 0
    ended(stopper)
    assert time.monotonic() - began < SOON_S
    acted.joined()
    assert isinstance(acted.outcomes[-1], Cancelled)
    assert acted.network.closed == 1


def test_after_a_stop_every_call_says_closed(acted: Acted) -> None:
    """And a second stop changes nothing."""
    acted.driver.stop()
    acted.driver.stop()
    assert not acted.driver.is_running
    with pytest.raises(ClosedError):
        acted.driver.call(lambda link, now: None)
    acted.caller()
    acted.joined()
    assert isinstance(acted.outcomes[-1], ClosedError)
    assert acted.link.closed == 1


def test_p21_after_a_fork_every_call_says_so_and_stop_touches_nothing(acted: Acted) -> None:
    """The parent's sockets are the parent's."""
    acted.driver.origin.leave()
    with pytest.raises(ForkedClientError):
        acted.driver.call(lambda link, now: None)
    acted.driver.stop()
    assert acted.link.closed == 0
    acted.driver.origin.is_elsewhere = False


@pytest.mark.parametrize("turner", ["io thread", "leader"])
def test_a_bug_in_a_turn_ends_everything_and_leaves_nobody_waiting(
    acted: Acted, turner: str
) -> None:
    """As InternalError, in whatever thread it shows; afterwards the driver is stopped."""
    if turner == "leader":
        acted.leading()
    for _ in range(3):
        acted.caller()
    asking = 4 if turner == "leader" else 3
    until(lambda: len(acted.link.session.asker) == asking, "requests")
    acted.outcomes.clear()
    acted.link.fault = ValueError("a bug")
    acted.network.wake()
    acted.joined()
    assert [type(outcome) for outcome in acted.outcomes] == [InternalError] * asking
    assert "a bug" in str(acted.outcomes[0])
    assert not acted.driver.is_running
    acted.driver.stop()
    assert acted.network.closed == 1


@pytest.mark.parametrize("error", [Told(), ValueError("of a signal's handler")])
def test_what_is_raised_in_the_main_thread_is_its_own(acted: Acted, error: BaseException) -> None:
    """It may be a signal's handler's: the link is mended, and the I/O thread takes over what is
    left, for the driver goes on."""
    acted.alone()
    acted.link.fault, acted.link.fault_in = error, threading.current_thread().name
    slot = Slot(time.monotonic() + LONG_S)

    def disturb() -> None:
        until(lambda: acted.sleepers() == ["MainThread"], "it leads")
        acted.beat()

    disturber, _ = in_a_thread(disturb)
    with pytest.raises(type(error)):
        acted.driver.converse(acted.link.ask(slot), slot)
    ended(disturber)
    assert acted.link.mended == 1
    assert acted.driver.is_running
    until(lambda: acted.sleepers() == ["zbus-io"], "the I/O thread")
    acted.link.replies.append(1)
    acted.network.wake()
    assert slot.wait(SOON_S)


def test_a_bug_in_ending_everything_still_hangs_nobody(
    acted: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has no outcome by its deadline is told of the bug."""

    def stumble(_error: ZbusError) -> None:
        raise ValueError("another bug")

    monkeypatch.setattr(acted.link, "end_all", stumble)
    slot = Slot(time.monotonic() + 0.2)
    acted.link.fault = ValueError("a bug")
    with pytest.raises(InternalError):
        acted.driver.converse(acted.link.ask(slot), slot)
    monkeypatch.undo()


def test_coming_back_in_while_the_lock_is_held_is_refused(acted: Acted) -> None:
    """A signal's handler or a finalizer would wait for its own thread for ever."""
    refused: list[str] = []

    def nothing(_link: Link, _now: float) -> None: ...

    def again(_link: Link, _now: float) -> None:
        for act in (partial(acted.driver.call, nothing), acted.driver.stop):
            try:
                act()
            except CallerError as error:
                refused.append(error.what)

    acted.driver.call(again)
    assert len(refused) == 2
    acted.driver.call(lambda link, now: None)
    assert acted.driver.is_running


def test_what_a_call_refuses_changes_nothing_and_what_it_breaks_is_mended(acted: Acted) -> None:
    """A typed refusal is no accident; anything else may have left the link half done."""

    def refuse(_link: Link, _now: float) -> None:
        raise ClosedError("as asked")

    def stumble(_link: Link, _now: float) -> None:
        raise Told

    with pytest.raises(ClosedError):
        acted.driver.call(refuse)
    assert acted.link.mended == 0
    with pytest.raises(Told):
        acted.driver.call(stumble)
    assert acted.link.mended == 1
    acted.driver.call(lambda link, now: None)


# -- over real sockets ---------------------------------------------------------------------------


@pytest.fixture
def slow_beat(runtime_dir: Path) -> Iterator[Bench]:
    """Where nothing but a wake-up ends a sleep in time."""
    with bench_at(runtime_dir, LONG_S) as bench:
        yield bench


@pytest.fixture
def quick_beat(runtime_dir: Path) -> Iterator[Bench]:
    with bench_at(runtime_dir, 0.1) as bench:
        yield bench


@pytest.mark.real
def test_others_are_not_kept_waiting_by_a_leader(slow_beat: Bench) -> None:
    """While one waits for long, others ask, submit and push, and each is served at once."""
    seat = slow_beat.seat
    thread, results = in_a_thread(lambda: seat.alone().request("hold", 1))
    until(lambda: slow_beat.held, "the leader waits")
    assert seat.driver._leader is not None
    began = time.monotonic()
    assert isinstance(seat.request("echo", 2), Parcel)
    slot = seat.submit("echo", 3)
    assert slot.wait(BOUND_S)
    seat.push("note", 4)
    until(lambda: slow_beat.taken, "the push")
    assert time.monotonic() - began < SOON_S
    slow_beat.go_on.set()
    ended(thread)
    assert isinstance(results[0], Parcel)


@pytest.mark.real
@pytest.mark.parametrize("state", ["standing by", "leading", "turning"])
def test_p02_short_deadlines_end_on_time_whoever_sleeps_for_long(
    slow_beat: Bench, state: str
) -> None:
    """Submitted and followed requests of 50 ms, while the next turn is due in seconds."""
    seat = slow_beat.seat
    thread = None
    if state != "turning":
        seat.alone()
    if state == "leading":
        thread, _ = in_a_thread(lambda: seat.request("hold", 1))
        until(lambda: slow_beat.held and seat.driver._leader is not None, "a leader")
    for _ in range(5):
        began = time.monotonic()
        slot = seat.submit("hold", 1, 0.05)
        assert slot.wait(BOUND_S)
        assert isinstance(slot.outcome, RequestTimeout)
        assert 0.05 <= time.monotonic() - began < 0.05 + SOON_S
        began = time.monotonic()
        assert isinstance(seat.request("hold", 1, 0.05), RequestTimeout)
        assert 0.05 <= time.monotonic() - began < 0.05 + SOON_S
    slow_beat.go_on.set()
    if thread is not None:
        ended(thread)


@pytest.mark.real
def test_a_push_just_before_a_sleep_is_not_slept_over(slow_beat: Bench) -> None:
    """Pushes at every moment between two turns; a lost wake-up would take seconds."""
    seat = slow_beat.seat
    began = time.monotonic()
    for number in range(200):
        if number % 10 == 0:
            seat.alone()
        seat.push("note", number)
        if number % 3:
            until(lambda: len(slow_beat.taken) > number, "the push")  # noqa: B023
    until(lambda: len(slow_beat.taken) == 200, "the pushes")
    assert slow_beat.taken == list(range(200))
    assert time.monotonic() - began < 7.0


@pytest.mark.real
def test_a_signal_that_raises_ends_the_leaders_wait_and_nobody_elses(slow_beat: Bench) -> None:
    """Its request is cancelled and its handler told; the lead goes on to the I/O thread."""
    seat = slow_beat.seat
    seat.alone()
    other: threading.Thread | None = None
    results: list[Any] = []

    def raise_it(_number: int, _frame: FrameType | None) -> None:
        raise Told

    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        main = threading.get_ident()

        def disturb() -> None:
            until(lambda: slow_beat.held and seat.driver._leader is not None, "this leads")
            nonlocal other, results
            other, results = in_a_thread(lambda: seat.request("hold", 2))
            until(lambda: len(slow_beat.held) == 2, "a follower")
            signal.pthread_kill(main, signal.SIGUSR1)

        disturber, trouble = in_a_thread(disturb)
        with pytest.raises(Told):
            seat.request("hold", 1)
        ended(disturber)
        assert trouble == [None]
    finally:
        signal.signal(signal.SIGUSR1, before)
    until(lambda: slow_beat.is_told(), "the handler is told")
    assert not slow_beat.is_told(1)
    assert seat.driver._leader is None
    began = time.monotonic()
    assert isinstance(seat.request("echo", 3), Parcel)
    slow_beat.go_on.set()
    assert other is not None
    ended(other)
    assert isinstance(results[0], Parcel)
    assert time.monotonic() - began < SOON_S
    assert seat.session.losses == 0


@pytest.mark.real
def test_a_signals_handler_may_stop_the_driver_above_the_leader(slow_beat: Bench) -> None:
    """The interrupted request is Cancelled, and the network is closed after its sleep."""
    seat = slow_beat.seat
    seat.alone()

    def stop(_number: int, _frame: FrameType | None) -> None:
        seat.driver.stop()

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        main = threading.get_ident()

        def disturb() -> None:
            until(lambda: slow_beat.held and seat.driver._leader is not None, "this leads")
            signal.pthread_kill(main, signal.SIGUSR1)

        disturber, trouble = in_a_thread(disturb)
        outcome = seat.request("hold", 1)
        ended(disturber)
        assert trouble == [None]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(outcome, Cancelled)
    with pytest.raises(ClosedError):
        seat.link._network.wait(0.0)


@pytest.mark.real
def test_a_stop_cancels_whoever_waits(slow_beat: Bench) -> None:
    """A leader, followers and submitted requests, each exactly once, and at once."""
    seat = slow_beat.seat
    callers = [in_a_thread(lambda: seat.alone().request("hold", 1))]
    until(lambda: slow_beat.held, "the leader")
    callers += [in_a_thread(lambda: seat.request("hold", 2)) for _ in range(4)]
    slots = [seat.submit("hold", 3) for _ in range(4)]
    until(lambda: len(seat.session.asker) == 9, "all ask")
    began = time.monotonic()
    seat.driver.stop()
    for thread, _ in callers:
        ended(thread)
    outcomes = [results[0] for _, results in callers] + [slot.outcome for slot in slots]
    assert [type(outcome) for outcome in outcomes] == [Cancelled] * 9
    assert {outcome.executed for outcome in outcomes} == {Executed.MAYBE}
    assert time.monotonic() - began < SOON_S


@pytest.mark.real
def test_p11_beats_go_on_while_a_leader_waits_and_while_the_io_thread_stands_by(
    quick_beat: Bench,
) -> None:
    """A second each at a heartbeat of 100 ms: neither side ever misses the other."""
    seat, here = quick_beat.seat, quick_beat.here
    seat.alone()
    assert isinstance(seat.request("hold", 1, 1.0), RequestTimeout)
    until_s = time.monotonic() + 1.0
    while time.monotonic() < until_s:
        seat.alone()
        until(lambda: not seat.driver._standby, "it no longer stands by")
    assert seat.session.losses == 0
    assert here.events("peer_lost") == 0
    assert here.events("peer_attached") == 2


class Load:
    """Callers that ask, submit or push until their bus is closed, and what was wrong with it."""

    def __init__(self, bench: Bench) -> None:
        self.seat = bench.seat
        self.stopping = threading.Event()
        self.wrong: list[object] = []
        self.asked: Counter[str] = Counter()

    def work(self, thread: int) -> None:
        """One caller's day."""
        number = 0
        while not self.stopping.is_set():
            number += 1
            try:
                (self._ask, self._submit, self._push)[thread % 3](thread, number)
            except Backpressure:
                self.stopping.wait(0.001)
            except ClosedError:
                return

    def _ask(self, thread: int, number: int) -> None:
        self._check(self.seat.request("echo", [thread, number]), [thread, number])

    def _submit(self, thread: int, number: int) -> None:
        slot = self.seat.submit("echo", [thread, number])
        if not slot.wait(BOUND_S):
            self.wrong.append("no outcome")
        self._check(slot.outcome, [thread, number])

    def _push(self, thread: int, number: int) -> None:
        self.seat.push("note", thread * 1_000_000 + number)
        out = self.seat.driver.call(lambda link, now: vars(link.session.out_lanes).copy())
        if out["accepted"] != out["delivered"] + out["dropped"] + out["queued"]:
            self.wrong.append(out)

    def _check(self, outcome: Outcome | None, sent: list[int]) -> None:
        self.asked[type(outcome).__name__] += 1
        if isinstance(outcome, Parcel):
            if outcome.item.body != encode_body(sent)[0]:  # type: ignore[union-attr]
                self.wrong.append((sent, outcome))
        elif not isinstance(outcome, Cancelled):
            self.wrong.append(outcome)


@pytest.mark.real
def test_p21_many_threads_ask_submit_push_and_one_closes(slow_beat: Bench) -> None:
    """Each call ends as its own reply or as closed, and the counts add up at every moment."""
    load = Load(slow_beat)
    callers = [threading.Thread(target=load.work, args=(n,), daemon=True) for n in range(32)]
    for caller in callers:
        caller.start()
    until(lambda: load.asked["Parcel"] > 1_000 and len(slow_beat.taken) > 1_000, "some load")
    slow_beat.seat.driver.stop()
    for caller in callers:
        caller.join(BOUND_S)
        assert not caller.is_alive(), "a caller hangs"
    load.stopping.set()
    assert load.wrong == []
    lanes: dict[int, list[int]] = {}
    for taken in slow_beat.taken:
        lanes.setdefault(taken // 1_000_000, []).append(taken)
    assert all(numbers == sorted(set(numbers)) for numbers in lanes.values())


def test_a_handlers_thread_says_its_reply_unless_somebody_has_the_link(acted: Acted) -> None:
    """It waits for nobody: where the link is held, its holder or the I/O thread will hear it."""
    acted.link.on_finished()
    assert acted.link.heard == {threading.current_thread().name: 1}

    def report_from_within(link: Link, now: float) -> None:
        acted.link.on_finished()  # as a pool does that refuses at once

    acted.driver.call(report_from_within)
    turns = acted.link.turns["zbus-io"]
    with acted.driver._lock:
        thread, results = in_a_thread(acted.link.on_finished)
        ended(thread)
    assert results == [None]
    until(lambda: acted.link.turns["zbus-io"] > turns, "the I/O thread looks")
    assert acted.link.heard == {threading.current_thread().name: 1}
    acted.driver.stop()
    acted.link.on_finished()
    assert acted.link.heard.total() == 1


def test_a_bug_in_saying_replies_is_no_handlers(acted: Acted) -> None:
    """The handler's thread goes on; everything open ends as InternalError."""
    acted.caller()
    until(lambda: acted.link.session.asker, "a request")
    acted.link.fault = ValueError("a bug")
    acted.link.on_finished()
    acted.joined()
    assert isinstance(acted.outcomes[-1], InternalError)
    assert not acted.driver.is_running


@pytest.mark.real
def test_no_reply_of_a_handler_is_slept_over(slow_beat: Bench) -> None:
    """Handlers end at every moment of the I/O thread's turns; a lost wake-up takes seconds."""
    seat = slow_beat.seat
    began = time.monotonic()
    for _ in range(40):
        slots = [seat.submit("echo", number) for number in range(24)]
        for slot in slots:
            assert slot.wait(BOUND_S)
            assert isinstance(slot.outcome, Parcel)
    assert time.monotonic() - began < 7.0


@pytest.mark.real
@pytest.mark.slow
def test_whatever_a_signal_interrupts_in_a_leader_is_said_again(slow_beat: Bench) -> None:
    """An exception at any call in a leading caller: its own to bear, and nobody else's. Every
    other request is replied to and every push taken once, on a new connection if need be."""
    seat, where = slow_beat.seat, Counter[str]()
    moment = spared = 0
    while spared < 5:
        seat.alone()
        over = threading.Event()
        other, results = in_a_thread(lambda: among_others(seat, over))  # noqa: B023
        struck = raising_at(moment, where)
        try:
            seat.request("echo", "mine", LONG_S)
        except Told:
            assert struck
        finally:
            sys.setprofile(None)
            over.set()
        ended(other)
        assert [type(outcome) for outcome in results[0]] == [Parcel] * 3
        moment += 1
        until(lambda: len(slow_beat.taken) == 2 * moment, "the pushes")  # noqa: B023
        until(lambda: seat.session.idle, "nothing is left open")
        spared += not struck
    assert {"driver.py", "link.py", "turn.py", "session.py", "sockets.py"} <= where.keys()
    assert slow_beat.taken == [1, 2] * moment
    assert seat.driver.is_running
