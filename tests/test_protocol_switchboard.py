"""Requests at the broker: who gets one, who may answer it, and who is told what at once."""

from __future__ import annotations

import pytest
from boards import ASK, REPEAT, Board, asked_of, fault_of, reply, unknown

from zbus.errors import (
    Draining,
    NoHandler,
    NoTarget,
    NotAuthorized,
    Overloaded,
    TargetLost,
)
from zbus.protocol.budget import ITEM_BYTES
from zbus.protocol.effect import Asked, Lane, Route, Send
from zbus.protocol.message import (
    AGAIN,
    UNKNOWN_ID,
    Cancel,
    Fault,
    Flag,
    Key,
    Parcel,
    Reply,
    Request,
)
from zbus.protocol.roster import Peer

# -- routing -----------------------------------------------------------------------------------


def test_a_request_goes_as_it_came_to_who_serves_it() -> None:
    """The item and its frames unchanged; the answer comes back the same way (spec 2.4)."""
    board = Board()
    engine, server = board.peer("e"), board.peer("s", "t")
    board.ask(engine, ttl_ms=700)
    sent = board.effects[-1]
    assert isinstance(sent, Send)
    item = Request("e", 1, 1, "t", "", 700, 0, 1, (), "", b"b", 1)
    assert sent == Send(server.route or Route(Lane.PIPE), Parcel(item, (b"frame",)))
    assert board.answer(server, reply()) == [("e", reply())]
    assert len(board.board.tickets) == 0


def test_the_least_busy_server_with_room_gets_it() -> None:
    """Fewest open requests first; a full one is passed over, however small it is (spec 6.3)."""
    board = Board()
    engine = board.peer("e")
    board.peer("s-small", "t", window=1)
    board.peer("s-large", "t", window=3)
    to = [asked_of(board.ask(engine, number))[0] for number in (1, 2, 3, 4)]
    assert to == ["s-small", "s-large", "s-large", "s-large"]
    assert fault_of(board.ask(engine, 5)).code == Overloaded.number


def test_a_name_is_asked_whatever_its_role() -> None:
    """Engines too, where the policy allows it; by topic they are not found (spec 6.3)."""
    board = Board()
    engine, other = board.peer("e"), board.peer("other", "t")
    assert asked_of(board.ask(engine, 1, target="other"))[0] == "other"
    assert fault_of(board.ask(engine, 2)).code == NoHandler.number
    assert next(iter(other.holds)).key == Key("e", 1, 1)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({}, NoHandler.number),
        ({"target": "nobody"}, NoTarget.number),
        ({"target": "s"}, NoHandler.number),
    ],
    ids=["topic", "target", "its topic"],
)
def test_p03_unserved_is_told_at_once(how: dict[str, str], code: int) -> None:
    """Nobody serves it, nobody has that name, or whoever has it does not: told at once, not run,
    and nothing is kept (P3, P4)."""
    board = Board()
    engine, _ = board.peer("e"), board.peer("s", "other")
    fault = fault_of(board.ask(engine, **how))  # type: ignore[arg-type]
    assert (fault.code, fault.executed) == (code, 0)
    assert len(board.board.tickets) == 0


def test_policy_does_not_tell_who_is_there() -> None:
    """An engine that may not ask engines gets the same word for one that is not there (P15)."""
    board = Board(engines_may_ask=False)
    engine, server = board.peer("e"), board.peer("s", "t")
    board.peer("other", "t")
    codes = {fault_of(board.ask(engine, target=name)).code for name in ("other", "nobody")}
    assert codes == {NotAuthorized.number}
    assert asked_of(board.ask(engine, target="s"))[0] == "s"
    assert asked_of(board.ask(server, target="other"))[0] == "other"


def test_bounds_refuse_before_anything_is_kept() -> None:
    """Of the handler's window and of the source's open requests: Overloaded, not run, and when
    to ask again (P8)."""
    board = Board(open_requests=2)
    engine, other = board.peer("e"), board.peer("f")
    board.peer("s", "t", window=3)
    for number in (1, 2):
        board.ask(engine, number)
    faults = [fault_of(board.ask(engine, 3))]
    board.ask(other, 1)
    faults.append(fault_of(board.ask(other, 2), "f"))
    assert {(fault.code, fault.executed) for fault in faults} == {(Overloaded.number, 0)}
    assert all(fault.retry_after_ms > 0 for fault in faults)
    assert len(board.board.tickets) == 3


def test_a_draining_broker_takes_no_new_work_and_finishes_the_old() -> None:
    """P18."""
    board = Board()
    engine, server = board.peer("e"), board.peer("s", "t")
    board.ask(engine, 1)
    board.board.draining = True
    fault = fault_of(board.ask(engine, 2))
    assert (fault.code, fault.executed) == (Draining.number, 0)
    assert asked_of(board.ask(engine, 1, flags=REPEAT))[0] == "s"
    assert board.answer(server, reply()) == [("e", reply())]


# -- time --------------------------------------------------------------------------------------


def test_p02_a_request_without_time_is_not_forwarded() -> None:
    """Nobody need answer it: its source has told its caller (spec 6.2)."""
    board = Board()
    engine, _ = board.peer("e"), board.peer("s", "t")
    assert board.ask(engine, ttl_ms=0) == []
    assert board.board.counts["expired"] == 1


def test_p02_a_stall_of_the_broker_counts_as_time_gone() -> None:
    """What is left is forwarded; what may be too late is asked again, a little later."""
    board = Board()
    engine, _ = board.peer("e"), board.peer("s", "t")
    fault = fault_of(board.ask(engine, ttl_ms=1_000, waited_s=1.0))
    assert (fault.code, fault.executed, fault.retry_after_ms) == (AGAIN, 0, 50)
    _, item = asked_of(board.ask(engine, ttl_ms=1_000, waited_s=0.4))
    assert 598 <= item.ttl_ms <= 600


def test_a_ticket_is_closed_at_its_deadline() -> None:
    """Then an answer is late: dropped and counted (spec 6.7)."""
    board = Board()
    engine, server = board.peer("e"), board.peer("s", "t")
    board.ask(engine, ttl_ms=1_000)
    board.board.expire(0.999)
    assert len(board.board.tickets) == 1
    board.board.expire(1.0)
    assert len(board.board.tickets) == 0
    assert board.answer(server, reply()) == []
    assert board.board.counts["late_answers"] == 1
    assert not engine.owes
    assert not server.owes


# -- answers -----------------------------------------------------------------------------------


def test_only_who_was_asked_can_answer_and_only_once() -> None:
    """Foreign, second, unknown, another life's: dropped and counted (P14, spec 6.7)."""
    board = Board()
    engine, server, other = board.peer("e"), board.peer("s", "t"), board.peer("s2", "x")
    board.ask(engine)
    answers: list[tuple[Peer, Reply | Fault]] = [
        (other, reply()),
        (engine, reply()),
        (server, reply(2)),
        (server, reply(epoch=2)),
        (server, reply(source="f")),
        (other, unknown()),
    ]
    for peer, item in answers:
        assert board.answer(peer, item) == []
    assert board.answer(server, reply()) == [("e", reply())]
    assert board.answer(server, reply()) == []
    assert board.board.counts["late_answers"] == 7


def test_p10_the_loss_of_a_handler_is_told_at_once_and_to_a_repeat() -> None:
    """TargetLost, maybe run; told again to who was away and asks again (P10, spec 6.6)."""
    board = Board()
    engine, server = board.peer("e"), board.peer("s", "t")
    board.ask(engine, 1)
    board.ask(engine, 2)
    route = engine.route
    engine.route = None
    assert board.lose(server) == []
    engine.route = route
    board.peer("s2", "t")
    for number in (1, 2, 1):
        fault = fault_of(board.ask(engine, number, flags=REPEAT))
        assert (fault.code, fault.executed) == (TargetLost.number, 1)
    assert len(board.board.tickets) == 0
    board.board.expire(5.0)
    assert asked_of(board.ask(engine, 1, flags=REPEAT))[0] == "s2"


def test_p04_the_loss_of_who_was_only_asked_may_have_been_the_loss_of_its_run() -> None:
    """Who runs it says nothing to the question, so its loss is no proof that it did not run,
    and nobody else may start it."""
    board = Board()
    engine, one = board.peer("e"), board.peer("s1", "t")
    board.peer("s2", "t")
    assert asked_of(board.ask(engine, flags=REPEAT))[0] == "s1"
    fault = fault_of(board.lose(one))
    assert (fault.code, fault.executed) == (TargetLost.number, 1)
    assert fault_of(board.ask(engine, flags=REPEAT)).code == TargetLost.number


def test_giving_up_reaches_the_handler_and_closes_the_ticket() -> None:
    """Once; and not for what is another's or another life's (spec 6.9)."""
    board = Board()
    engine, server = board.peer("e"), board.peer("s", "t")
    board.ask(engine, 1)
    board.ask(engine, 2)
    cancel = board.board.cancelled
    assert board.said(lambda e: cancel(engine, Cancel("e", 2, 1), e)) == []
    assert board.said(lambda e: cancel(engine, Cancel("e", 1, 1), e)) == [("s", Cancel("e", 1, 1))]
    assert board.said(lambda e: cancel(engine, Cancel("e", 1, 1), e)) == []
    assert board.lose(engine) == [("s", Cancel("e", 1, 2))]
    assert not server.owes


# -- the broker's own topics -----------------------------------------------------------------------


def test_the_broker_answers_its_own_topics() -> None:
    """Whatever their target; to who was away, again when it asks again (spec 6.3)."""
    board = Board()
    engine = board.peer("e")
    assert board.ask(engine, 1, "zbus.ping", target="nobody") == []
    assert board.effects == [Asked(Key("e", 1, 1), "zbus.ping")]
    assert board.ask(engine, 1, "zbus.ping", flags=REPEAT) == []
    route = engine.route
    assert route is not None
    engine.route = None
    answer = board.board.answer
    assert board.said(lambda e: answer(Key("e", 1, 1), b"r", (b"f",), e)) == []
    engine.route = route
    assert board.ask(engine, 1, "zbus.ping", flags=REPEAT) == []
    board.said(lambda e: answer(Key("e", 1, 1), b"r", (b"f",), e))
    assert board.effects[-2] == Asked(Key("e", 1, 1), "zbus.ping")
    assert board.effects[-1] == Send(route, Parcel(Reply("e", 1, 1, b"r", 1), (b"f",)))
    board.ask(engine, 2, "zbus.nope")
    refuse = board.board.refuse
    assert fault_of(board.said(lambda e: refuse(Key("e", 1, 2), NoHandler(), e))).executed == 0
    assert board.said(lambda e: refuse(Key("e", 1, 2), NoHandler(), e)) == []
    assert board.said(lambda e: answer(Key("x", 1, 2), b"", (), e)) == []


def test_only_the_broker_asks_whether_an_id_is_known() -> None:
    """A source that sets ASK itself is served as if it had not (spec 4.5)."""
    board = Board()
    engine, _ = board.peer("e"), board.peer("s", "t")
    to, item = asked_of(board.ask(engine, 1, flags=int(Flag.ASK)))
    assert (to, item.flags) == ("s", 0)


# -- no room for its bytes -----------------------------------------------------------------------

SIZE = ITEM_BYTES + len(b"b") + len(b"frame")
"""What a request of a ``Board`` weighs."""


def test_p08_a_target_without_room_is_told_to_who_asks_and_nobody_else() -> None:
    """Until its answer shows that it reads; others go on (P9)."""
    board = Board(target_bytes=2 * SIZE)
    origin, other = board.peer("e"), board.peer("f")
    slow = board.peer("s1", "t")
    board.peer("s2", "u")
    assert [asked_of(board.ask(origin, number))[0] for number in (1, 2)] == ["s1", "s1"]
    fault = fault_of(board.ask(origin, 3))
    assert (fault.code, fault.executed, fault.retry_after_ms) == (Overloaded.number, 0, 50)
    assert asked_of(board.ask(other, 1, "u"))[0] == "s2"
    assert fault_of(board.ask(other, 2), "f").code == Overloaded.number
    board.answer(slow, reply(1))
    assert asked_of(board.ask(origin, 4))[0] == "s1"
    assert fault_of(board.ask(origin, 5)).code == Overloaded.number
    asked = [each.parcel.item for each in board.effects if isinstance(each, Send)]
    (receipt, *_) = [item for item in asked if isinstance(item, Request) and not item.source]
    board.answer(slow, Fault("", 0, receipt.number, UNKNOWN_ID, 0, 0, ""))
    assert slow.backlog.waiting == SIZE, "it had read the first two when it was asked"
    assert asked_of(board.ask(origin, 6))[0] == "s1"
    assert slow.backlog.waiting == 2 * SIZE


def test_p08_another_server_with_room_gets_it() -> None:
    """Also if it is busier."""
    board = Board(target_bytes=SIZE)
    origin = board.peer("e")
    one = board.peer("s1", "t")
    two = board.peer("s2", "t")
    assert asked_of(board.ask(origin, 1))[0] == "s1"
    board.roster.budget.prove(one.backlog, one.backlog.given)
    assert asked_of(board.ask(origin, 2))[0] == "s2"
    assert len(two.holds) == 1
    assert asked_of(board.ask(origin, 3))[0] == "s1"
    assert fault_of(board.ask(origin, 4)).code == Overloaded.number


@pytest.mark.parametrize("ended", ["overdue", "cancelled", "lost", "away"])
def test_p08_what_is_over_still_waits_unless_its_connection_is_gone(ended: str) -> None:
    """A request whose time is up lies in the broker's memory all the same."""
    board = Board(target_bytes=SIZE)
    origin, server = board.peer("e"), board.peer("s", "t")
    board.ask(origin, 1, ttl_ms=1_000)
    if ended == "overdue":
        board.board.expire(2.0)
    elif ended == "cancelled":
        board.said(lambda effects: board.board.cancelled(origin, Cancel("e", 1, 1), effects))
    elif ended == "away":
        board.roster.detach(server, 0.0)
    else:
        board.lose(server)
    assert not origin.asked or ended == "away"
    assert server.backlog.waiting == (SIZE if ended in ("overdue", "cancelled") else 0)


def test_a_repeat_without_room_is_put_off_and_not_refused() -> None:
    """It may have run: the same id comes again, and its answer is no less an answer."""
    board = Board(target_bytes=SIZE)
    origin, server = board.peer("e"), board.peer("s", "t")
    board.ask(origin, 1)
    again = fault_of(board.ask(origin, 1, flags=REPEAT))
    assert (again.code, again.executed, again.retry_after_ms) == (AGAIN, 0, 50)
    board.roster.budget.prove(server.backlog, server.backlog.given)
    assert asked_of(board.ask(origin, 1, flags=REPEAT))[0] == "s"
    assert board.answer(server, reply(1)) == [("e", reply(1))]


def test_who_has_no_room_is_not_asked_about_a_repeat_yet() -> None:
    """Of two servers, either may know the id: the broker waits for both (P5)."""
    board = Board(target_bytes=SIZE)
    origin = board.peer("e")
    full, other = board.peer("s1", "t"), board.peer("s2", "t")
    mark = board.roster.budget.give(full.backlog, SIZE)
    to, _ = asked_of(board.ask(origin, 1, flags=REPEAT))
    assert to == "s2"
    assert fault_of(board.answer(other, unknown(1))).code == AGAIN
    assert fault_of(board.ask(origin, 1, flags=REPEAT)).code == AGAIN
    board.roster.budget.prove(full.backlog, mark)
    to, item = asked_of(board.ask(origin, 1, flags=REPEAT))
    assert (to, bool(item.flags & ASK)) == ("s1", True)
