"""The broker's notes: who asked, who has it, until when; and what a lost handler leaves."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from zbus.errors import TargetLost
from zbus.protocol.liveness import Pulse
from zbus.protocol.message import Key, Role
from zbus.protocol.roster import Peer, Ticket
from zbus.protocol.tickets import Tickets


def peer(name: str) -> Peer:
    return Peer(name, Role.SERVER, 1, b"", 4, Pulse(0.0))


def ticket(origin: Peer, number: int = 1, deadline: float = 5.0, topic: str = "t") -> Ticket:
    return Ticket(Key(origin.name, 1, number), topic, origin, deadline)


def test_a_ticket_stands_with_both_ends() -> None:
    """With its origin by number and with its handler, until it is closed."""
    tickets, origin, handler, other = Tickets(9), peer("e"), peer("s"), peer("o")
    one = ticket(origin)
    tickets.open(one)
    assert origin.asked == {1: one}
    tickets.give(one, handler)
    tickets.give(one, other)
    assert (list(handler.holds), list(other.holds)) == ([], [one])
    assert len(tickets) == 1
    tickets.close(one)
    assert (origin.asked, list(other.holds), one.handler) == ({}, [], None)
    assert len(tickets) == 0
    assert tickets.next_at() is None


def test_tickets_that_wait_are_found_by_topic() -> None:
    """Until they are closed; then the topic itself is forgotten."""
    tickets, origin = Tickets(9), peer("e")
    one, two = ticket(origin, 1), ticket(origin, 2)
    for waiting in (one, two):
        tickets.open(waiting)
        tickets.await_topic(waiting)
    assert tickets.awaiting("t") == [one, two]
    tickets.close(one)
    tickets.due(5.0)
    assert tickets.awaiting("t") == []
    assert tickets._awaited == {}


def test_what_is_due_is_closed() -> None:
    """At its deadline and not before, with all it stood in."""
    tickets, origin, handler = Tickets(9), peer("e"), peer("s")
    one, two = ticket(origin, 1, 5.0), ticket(origin, 2, 6.0)
    for each in (one, two):
        tickets.open(each)
        tickets.give(each, handler)
    assert tickets.next_at() == 5.0
    assert tickets.due(4.99) == []
    assert tickets.due(5.0) == [one]
    assert origin.asked == {2: two}
    assert list(handler.holds) == [two]


def test_what_nobody_waits_for_stays_with_its_handler() -> None:
    """Given up or overdue, until it is answered; but not what it was only asked about, and at
    most so many, the newest."""
    tickets, origin, handler = Tickets(9), peer("e"), peer("s")
    given_up, overdue, asked = (ticket(origin, number) for number in (1, 2, 3))
    asked.asking = True
    for each in (given_up, overdue, asked):
        tickets.open(each)
        tickets.give(each, handler)
    tickets.give_up(given_up)
    assert handler.unanswered == {given_up.key: given_up}
    tickets.due(5.0)
    assert list(handler.unanswered.values()) == [given_up, overdue]
    assert (origin.asked, list(handler.holds), len(tickets)) == ({}, [], 0)
    for number in range(300):
        each = ticket(origin, number)
        tickets.open(each)
        tickets.give(each, handler)
        tickets.give_up(each)
    assert [key.number for key in handler.unanswered] == list(range(44, 300))


def test_a_verdict_is_kept_for_a_repeat() -> None:
    """Out of the open ones, whom it would keep from their bound and their rest, until its time
    is up (spec 6.6)."""
    tickets, origin, handler = Tickets(9), peer("e"), peer("s")
    one = ticket(origin)
    tickets.open(one)
    tickets.give(one, handler)
    verdict = TargetLost()
    tickets.judge(one, verdict)
    assert (origin.asked, list(handler.holds), len(tickets)) == ({}, [], 0)
    assert origin.judged[1].verdict is verdict
    assert tickets.due(4.9) == []
    assert 1 in origin.judged
    assert tickets.due(5.0) == []
    assert origin.judged == {}


def test_verdicts_are_bounded_for_each_source() -> None:
    """The oldest goes: nothing grows past its limit."""
    tickets, origin = Tickets(2), peer("e")
    for number in (1, 2, 3):
        one = ticket(origin, number)
        tickets.open(one)
        tickets.judge(one, TargetLost())
    assert list(origin.judged) == [2, 3]
    assert len(tickets._judged) == 2
    tickets.forget_judged(origin)
    assert origin.judged == {}
    assert len(tickets._judged) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from("open give take wait close judge due".split()),
        st.integers(1, 5),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(STEPS)
def test_both_ends_agree_after_every_step(steps: list[tuple[str, int, int]]) -> None:
    """Whoever holds a ticket is its handler, whoever asked it has it, and neither keeps what is
    closed."""
    tickets, origin, handlers = Tickets(3), peer("e"), [peer("a"), peer("b"), peer("c")]
    for now, (verb, number, which) in enumerate(steps):
        one = origin.asked.get(number)
        if verb == "open" and one is None and number not in origin.judged:
            tickets.open(ticket(origin, number, now + 10.0 - number))
        elif verb == "due":
            tickets.due(float(now))
        elif one is None:
            continue
        elif verb == "give":
            tickets.give(one, handlers[which])
        elif verb == "take":
            tickets.give(one, None)
        elif verb == "wait" and one.handler is None:
            tickets.await_topic(one)
        elif verb == "close":
            tickets.close(one)
        elif verb == "judge":
            tickets.judge(one, TargetLost())
        asked = set(origin.asked.values())
        held = {each: handler for handler in handlers for each in handler.holds}
        assert held == {each: each.handler for each in asked if each.handler is not None}
        assert len(tickets) == len(asked)
        assert set(tickets.awaiting("t")) == {each for each in asked if each.waits}
        assert len(tickets._judged) == len(origin.judged) <= 3
        assert not set(origin.judged) & set(origin.asked)
        event(f"{len(asked)} open")
