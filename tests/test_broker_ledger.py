"""Which connections are cut, and why: zbus/broker/ledger.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zbus.broker.ledger import Bounds, Connection, Ledger, Why

CAP, STRANGERS, GROWTH = 1_000_000, 4_000_000, 10_000_000
HELLO_S, LOOK_S, JUDGE_S = 5.0, 0.01, 0.25
LATE_S = HELLO_S + 3 * JUDGE_S
PLENTY = 100_000
BOUNDS = Bounds(
    connections=PLENTY,
    unread_bytes=CAP,
    strangers_bytes=STRANGERS,
    hello_s=HELLO_S,
    growth_bytes=GROWTH,
)


class Book:
    """A ledger, its time, and what it has said."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.ledger = Ledger(bounds)
        self.now = 100.0
        self.delivered = 0
        self.cut: dict[int, Why] = {}
        self.company: set[int] = set()
        self.ledger.turn(self.now)

    def come(
        self, descriptor: int, *, pipe: bool = False, near: bool = False, tcp: bool = True
    ) -> Connection:
        return self.ledger.accepted(
            descriptor, 2 if pipe else 0, self.delivered, greets=not pipe, near=near, tcp=tcp
        )

    def bring(
        self, descriptor: int, taken: int | None, *, size: int = 0, idle: bool = True
    ) -> bool:
        connection = self.ledger.at(descriptor)
        assert connection is not None
        return self.ledger.saw(connection, taken, size, self.delivered, idle)

    def hear(self, descriptor: int) -> None:
        self.delivered += 1
        self.ledger.heard(descriptor, self.delivered)

    def pass_time(self, seconds: float) -> dict[int, Why]:
        """Judge every quarter of a second; who was cut has ended, as it does."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + JUDGE_S, until)
            self.ledger.turn(self.now)
            self.judge()
        return self.cut

    def judge(self) -> dict[int, Why]:
        found = [*self.ledger.verdicts(), *self.ledger.overdue(self.company)]
        for connection, why in found:
            assert connection.descriptor not in self.cut, "it is said once"
            self.cut[connection.descriptor] = why
            self.ledger.ended(connection.descriptor)
        return self.cut


@pytest.fixture
def book() -> Book:
    return Book()


def test_p13_an_endless_message_is_cut_where_it_passes_the_bound(book: Book) -> None:
    """One byte more than a message may have; what was delivered before does not count."""
    for descriptor in (5, 6):
        book.come(descriptor)
        book.bring(descriptor, 10 * CAP // 20)
        book.hear(descriptor)
        book.bring(descriptor, 70 * CAP)
    book.bring(5, 71 * CAP)
    book.bring(6, 71 * CAP + 1)
    assert book.judge() == {6: Why.ENDLESS}


def test_p13_whoever_delivers_is_not_endless(book: Book) -> None:
    """However much it has brought before that was known."""
    book.come(5)
    book.bring(5, CAP + 1)
    book.hear(5)
    assert book.judge() == {}


def test_p13_what_the_port_may_have_to_deliver_is_no_blame(book: Book) -> None:
    """Not before it says that it has nothing, or has delivered from everybody else."""
    book.come(5)
    assert not book.bring(5, 2 * CAP, idle=False)
    book.delivered += 1_000
    assert not book.bring(5, 2 * CAP, idle=False)
    assert book.judge() == {}
    book.delivered += 1_000
    assert book.bring(5, 2 * CAP, idle=False)
    assert book.judge() == {5: Why.ENDLESS}


def test_p13_one_of_this_machine_is_endless_if_the_process_grows(book: Book) -> None:
    """By more than a message explains, over three looks; one from elsewhere is not to blame."""
    for descriptor in (5, 6, 7, 8):
        book.come(descriptor, near=descriptor != 6)
    still = book.come(9, near=True)
    for size in (0, GROWTH + 1, GROWTH + 1):
        assert book.judge() == {}
        for descriptor in (5, 6):
            book.bring(descriptor, None, size=size)
        book.hear(7)
        book.bring(7, None, size=size)
        book.bring(8, None, size=min(size, GROWTH))
        book.bring(9, still.taken, size=size)  # nothing came
    assert book.judge() == {5: Why.ENDLESS}


def test_p13_everybody_has_a_turn(book: Book) -> None:
    """Strangers at any time, and all that were not heard since the last time."""
    for descriptor in (5, 6, 7):
        book.come(descriptor)
    book.come(8, tcp=False)
    book.hear(6)
    ledger = book.ledger
    assert [each.descriptor for each in ledger.strangers()] == [5, 7]
    assert [each.descriptor for each in ledger.unheard()] == [5, 7]
    assert [each.descriptor for each in ledger.unheard()] == [5, 6, 7]


def test_p13_strangers_share_one_bound(book: Book) -> None:
    """Who brought most is cut; who has said something, or leaves, counts no longer."""
    for descriptor in range(10):
        book.come(descriptor)
        book.bring(descriptor, CAP // 2 + (descriptor in (5, 6)))
    assert book.judge() == {5: Why.HOARD, 6: Why.HOARD}
    assert book.ledger.held_bytes == 8 * (CAP // 2)
    book.hear(3)
    book.ledger.ended(4)
    assert book.ledger.held_bytes == 6 * (CAP // 2)
    book.come(20)
    book.bring(20, CAP)
    assert len(book.judge()) == 2


def test_p13_silence_is_cut_after_its_time(book: Book) -> None:
    """Without an attachment, whether it has said something else or nothing."""
    for descriptor in (5, 6, 7):
        book.come(descriptor)
    book.hear(6)
    book.hear(7)
    book.ledger.attached({7})
    assert book.pass_time(HELLO_S) == {}
    assert book.pass_time(LATE_S - HELLO_S) == {5: Why.SILENT, 6: Why.SILENT}
    assert book.pass_time(100.0).keys() == {5, 6}
    book.ledger.attached(set())
    assert book.pass_time(HELLO_S).keys() == {5, 6}
    assert book.pass_time(LATE_S - HELLO_S)[7] is Why.SILENT


def test_p11_a_broker_that_was_stopped_blames_nobody(book: Book) -> None:
    """What a connection said meanwhile is still to be read."""
    book.come(5)
    book.now += 1_000.0
    book.ledger.turn(book.now)
    assert book.judge() == {}
    assert book.pass_time(HELLO_S / 2) == {}
    assert book.pass_time(LATE_S) == {5: Why.SILENT}


def test_p13_the_pipe_may_be_silent_for_those_who_are_attached(book: Book) -> None:
    """And for whoever has pushed; others go, and so does who begins and does not go on."""
    for descriptor in (5, 6, 7, 8, 9):
        book.come(descriptor, pipe=True)
    book.hear(6)
    book.company = {7, 8, 9}
    book.bring(7, 700)  # its handshake
    book.bring(8, 100_000)
    for step in range(12):
        book.bring(9, 100_000 + step)
        book.pass_time(1.0)
    assert book.cut == {5: Why.SILENT, 8: Why.STALLED}
    assert [each.descriptor for each in book.ledger.silent_on_pipe()] == [7]
    book.company = {9}
    assert 7 not in book.pass_time(JUDGE_S)
    book.company = {7}
    book.pass_time(JUDGE_S)
    book.company = {9}
    assert 7 not in book.pass_time(JUDGE_S)
    assert book.pass_time(JUDGE_S)[7] is Why.SILENT


def test_p13_a_crowd_loses_who_has_been_silent_longest() -> None:
    """Then who has said something and is not attached; among those who are, the newest goes."""
    book = Book(replace(BOUNDS, connections=3))
    for descriptor in (5, 6, 7, 8):
        book.come(descriptor)
        if descriptor in (5, 7):
            book.hear(descriptor)
    assert book.judge() == {6: Why.CROWD}
    for descriptor in (8, 9):
        book.come(descriptor)
        book.hear(descriptor)
    book.ledger.attached({5, 8, 9})
    assert book.judge().keys() == {6, 7}
    book.come(10)
    book.hear(10)
    book.ledger.attached({5, 8, 9, 10})
    assert book.judge().keys() == {6, 7, 10}
    assert len(book.ledger) == 3


def test_p13_the_condemned_have_a_moment(book: Book) -> None:
    """To hear why; even if they are attached, or go on talking."""
    book.come(5)
    book.ledger.condemn(5)
    book.ledger.condemn(6)
    book.ledger.attached({5})
    book.hear(5)
    assert book.judge() == {}
    assert book.pass_time(JUDGE_S) == {5: Why.CONDEMNED}


def test_a_verdict_is_said_once_whatever_follows(book: Book) -> None:
    """The end of a connection may be a while in coming."""
    book.come(5)
    book.ledger.attached({5})
    book.bring(5, 2 * CAP)
    assert [why for _, why in book.ledger.verdicts()] == [Why.ENDLESS]
    book.bring(5, 9 * CAP)
    book.ledger.condemn(5)
    book.ledger.attached(set())
    assert book.pass_time(LATE_S) == {}
    assert not book.ledger.is_watching


def test_a_descriptor_is_used_again(book: Book) -> None:
    """What its last owner did is no blame, and no merit."""
    first = book.come(5)
    book.bring(5, 2 * CAP)
    book.ledger.condemn(5)
    book.ledger.attached({5})
    assert book.come(5) is not first
    assert (book.ledger.held_bytes, len(book.ledger), book.ledger.is_watching) == (0, 1, True)
    assert book.pass_time(LATE_S) == {5: Why.SILENT}
    book.ledger.ended(5)
    assert book.ledger.at(5) is None
    book.cut.clear()
    book.come(5)
    book.ledger.attached({5})
    book.come(5)
    book.ledger.attached({5})
    assert book.pass_time(LATE_S) == {}


class Siege(RuleBasedStateMachine):
    """Honest connections among hostile ones, of both kinds, in any order and at any pace."""

    MOST = 12

    def __init__(self) -> None:
        super().__init__()
        self.book = Book(replace(BOUNDS, connections=self.MOST))
        self.number = 0
        self.taken: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.honest: set[int] = set()
        self.pushers: set[int] = set()
        self.since: dict[int, float] = {}
        self.awake = 0.0

    def _come(self, pipe: bool) -> int:
        self.number += 1
        self.book.come(self.number, pipe=pipe)
        self.taken[self.number] = self.read[self.number] = 0
        if not pipe:
            self.since[self.number] = self.awake
        return self.number

    def _judge(self) -> None:
        gone = set(self.book.cut)
        for descriptor in self.book.judge().keys() - gone:
            if descriptor in self.honest:
                assert self.book.cut[descriptor] is Why.CROWD
                assert len(self.honest | self.pushers) > self.MOST
            self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        self.honest.discard(descriptor)
        self.pushers.discard(descriptor)
        for table in (self.taken, self.read, self.since):
            table.pop(descriptor, None)

    def _attached(self) -> set[int]:
        return {each for each in self.honest if each in self.since}

    @rule(pipe=st.booleans())
    def an_honest_one_comes(self, pipe: bool) -> None:
        descriptor = self._come(pipe)
        self.honest.add(descriptor)
        self.book.hear(descriptor)
        self.book.ledger.attached(self._attached())
        self._judge()

    @rule(pipe=st.booleans(), count=st.integers(1, 9))
    def hostile_ones_come(self, pipe: bool, count: int) -> None:
        for _ in range(count):
            self._come(pipe)
        self._judge()

    @rule(data=st.data(), size=st.integers(1, 3 * CAP), idle=st.booleans())
    def something_comes(self, data: st.DataObject, size: int, idle: bool) -> None:
        if not self.taken:
            return
        descriptor = data.draw(st.sampled_from(sorted(self.taken)))
        if descriptor in self.honest:
            size = min(size, CAP - (self.taken[descriptor] - self.read[descriptor]))
        self.taken[descriptor] += size
        self.book.bring(descriptor, self.taken[descriptor], idle=idle)
        self._judge()

    @rule(data=st.data())
    def a_message_is_complete(self, data: st.DataObject) -> None:
        if self.taken:
            descriptor = data.draw(st.sampled_from(sorted(self.taken)))
            self.read[descriptor] = self.taken[descriptor]
            self.book.hear(descriptor)
            if descriptor not in self.since:
                self.pushers.add(descriptor)

    @rule(data=st.data())
    def one_leaves(self, data: st.DataObject) -> None:
        if self.taken:
            descriptor = data.draw(st.sampled_from(sorted(self.taken)))
            self.book.ledger.ended(descriptor)
            self._forget(descriptor)
            self.book.ledger.attached(self._attached())

    @rule(seconds=st.sampled_from([LOOK_S, JUDGE_S, 1.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        """In one step, as for a broker that was stopped, or did nothing else."""
        self.book.now += seconds
        self.awake += min(seconds, 0.5)
        self.book.ledger.turn(self.book.now)
        self._judge()

    @invariant()
    def all_bounds_hold(self) -> None:
        ledger = self.book.ledger
        assert len(ledger) == len(self.taken) <= self.MOST
        assert 0 <= ledger.held_bytes <= STRANGERS
        for descriptor in self.taken:
            connection = ledger.at(descriptor)
            assert connection is not None
            assert connection.unread <= CAP
            assert connection.is_peer == (descriptor in self._attached())

    @invariant()
    def silence_does_not_last(self) -> None:
        for descriptor, since in self.since.items():
            if descriptor not in self.honest:
                assert self.awake - since < HELLO_S + 1.5


TestSiege = Siege.TestCase
