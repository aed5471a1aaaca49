"""Repeats at the broker: not started twice, not refused while they may run, not in circles."""

from __future__ import annotations

from boards import ASK, PROBE, REPEAT, WAIT, Board, asked_of, fault_of, reply, unknown
from hypothesis import event, given
from hypothesis import strategies as st

from zbus.errors import NoHandler, Overloaded
from zbus.protocol.message import AGAIN, Fault, Reply, Request

# -- repeats (P5) --------------------------------------------------------------------------------


def test_p05_a_repeat_with_a_ticket_goes_to_the_same_handler() -> None:
    """Whatever its flags, and whoever else is less busy; never to two (spec 6.6)."""
    board = Board()
    engine = board.peer("e")
    board.peer("s1", "t")
    board.peer("s2", "t")
    assert asked_of(board.ask(engine, 1))[0] == "s1"
    for flags in (REPEAT, 0, REPEAT):
        to, item = asked_of(board.ask(engine, 1, flags=flags))
        assert (to, item.flags) == ("s1", flags)
    assert len(board.board.tickets) == 1


def test_p05_a_repeat_waits_until_all_have_come_back() -> None:
    """A broker that has just started answers AGAIN before it answers anything else: the server
    that it names, or that knows it, may be a moment away (P6, spec 6.6)."""
    board = Board()
    engine = board.peer("e")
    board.board.settled_at = 1.5
    for target in ("", "s"):
        fault = fault_of(board.ask(engine, flags=REPEAT, target=target))
        assert (fault.code, fault.executed, fault.retry_after_ms) == (AGAIN, 0, 1_501)
    board.now = 1.5
    assert fault_of(board.ask(engine, flags=REPEAT)).code == NoHandler.number


def test_p05_several_servers_are_asked_before_one_starts_it() -> None:
    """Each in turn whether it knows the id; when all said no it is a new one (spec 6.6)."""
    board = Board()
    engine, one, two = board.peer("e"), board.peer("s1", "t"), board.peer("s2", "t")
    told = []
    for server in (one, two):
        to, item = asked_of(board.ask(engine, flags=REPEAT))
        told.append((to, item.flags))
        assert fault_of(board.answer(server, unknown())).code == AGAIN
    to, item = asked_of(board.ask(engine, flags=REPEAT))
    assert told == [("s1", REPEAT | ASK), ("s2", REPEAT | ASK)]
    assert (to, item.flags) == ("s1", REPEAT)
    assert board.answer(one, reply()) == [("e", reply())]


def test_p05_a_second_no_from_one_that_was_given_it_since_is_late() -> None:
    """It was asked twice, because its source came back; its second no must not take away what
    it has started."""
    board = Board()
    engine, one, two = board.peer("e"), board.peer("s1", "t"), board.peer("s2", "t")
    board.ask(engine, flags=REPEAT)
    board.ask(engine, flags=REPEAT)
    board.answer(one, unknown())
    board.ask(engine, flags=REPEAT)
    board.answer(two, unknown())
    assert asked_of(board.ask(engine, flags=REPEAT))[0] == "s1"
    assert board.answer(one, unknown()) == []
    to, item = asked_of(board.ask(engine, flags=REPEAT))
    assert (to, item.flags) == ("s1", REPEAT)
    assert board.answer(one, reply()) == [("e", reply())]


def test_p05_a_server_that_is_away_is_asked_before_another_starts_it() -> None:
    """AGAIN, now and then, until it is back or lost (spec 6.6)."""
    board = Board()
    engine, one, two = board.peer("e"), board.peer("s1", "t"), board.peer("s2", "t")
    board.roster.detach(one, 0.0)
    assert asked_of(board.ask(engine, flags=REPEAT))[0] == "s2"
    board.answer(two, unknown())
    for _ in range(3):
        fault = fault_of(board.ask(engine, flags=REPEAT))
        assert (fault.code, fault.retry_after_ms) == (AGAIN, 100)
    board.attach(one)
    to, item = asked_of(board.ask(engine, flags=REPEAT))
    assert (to, item.flags) == ("s1", REPEAT | ASK)


def test_p05_a_full_server_is_asked_whether_it_runs_it_already() -> None:
    """After a restart the window is taken by others: what runs there is not refused, what does
    not run there is (P6, spec 6.6)."""
    board = Board()
    engine, other, server = board.peer("e"), board.peer("f"), board.peer("s", "t", window=1)
    board.ask(other, 1)
    for number in (1, 2):
        to, item = asked_of(board.ask(engine, number, flags=REPEAT))
        assert (to, item.flags) == ("s", REPEAT | ASK)
    assert board.answer(server, reply(1)) == [("e", reply(1))]
    assert fault_of(board.answer(server, unknown(2))).code == AGAIN
    fault = fault_of(board.ask(engine, 2, flags=REPEAT))
    assert (fault.code, fault.executed) == (Overloaded.number, 0)


def test_p05_a_handler_that_is_back_is_asked_again() -> None:
    """What was under way to it may be lost, and may have run: AGAIN, maybe (spec 6.6)."""
    board = Board()
    engine, server = board.peer("e"), board.peer("s", "t")
    board.ask(engine)
    board.roster.detach(server, 0.0)
    assert board.ask(engine, flags=REPEAT) == []
    board.attach(server)
    fault = fault_of(board.said(lambda e: board.board.handler_back(server, e)))
    assert (fault.code, fault.executed, fault.retry_after_ms) == (AGAIN, 1, 0)
    assert asked_of(board.ask(engine, flags=REPEAT))[0] == "s"


def test_a_handler_that_is_away_is_no_reason_to_refuse() -> None:
    """New requests are put off, and nothing is kept (spec 6.3)."""
    board = Board()
    engine, server = board.peer("e"), board.peer("s", "t")
    board.roster.detach(server, 0.0)
    for target in ("", "s"):
        fault = fault_of(board.ask(engine, target=target))
        assert (fault.code, fault.executed, fault.retry_after_ms) == (AGAIN, 0, 100)
    assert len(board.board.tickets) == 0


# -- waiting -------------------------------------------------------------------------------------


def test_waiting_for_a_topic() -> None:
    """Kept without its body until somebody serves it; then asked again, or, for a probe,
    answered by the broker itself (spec 6.3)."""
    board = Board()
    engine = board.peer("e")
    assert board.ask(engine, 1, flags=WAIT) == []
    assert board.ask(engine, 2, flags=WAIT | PROBE) == []
    assert board.ask(engine, 1, flags=WAIT | REPEAT) == []
    board.peer("s", "t")
    first, second = board.said(lambda e: board.board.served("t", e))
    assert isinstance(first[1], Fault)
    assert (first[1].code, first[1].executed, first[1].number) == (AGAIN, 0, 1)
    assert second == ("e", Reply("e", 1, 2, b"", 0))
    assert board.ask(engine, 3, flags=WAIT | PROBE) == [("e", Reply("e", 1, 3, b"", 0))]
    assert asked_of(board.ask(engine, 1, flags=WAIT | REPEAT))[0] == "s"
    assert len(board.board.tickets) == 1


# -- no hot loops ----------------------------------------------------------------------------------


@given(st.data())
def test_again_without_a_pause_always_makes_progress(data: st.DataObject) -> None:
    """A source that asks again whenever it is told to, at once: while no time passes and nobody
    comes or goes, it is told so no more often than there are servers."""
    board = Board()
    engine = board.peer("e")
    servers = [
        board.peer(f"s{number}", "t", window=data.draw(st.integers(1, 2)))
        for number in range(data.draw(st.integers(0, 4)))
    ]
    for server in servers:
        if data.draw(st.booleans()):
            board.roster.detach(server, 0.0)
        elif data.draw(st.booleans()):
            board.ask(board.peer(f"busy-{server.name}"), target=server.name)
    flags = data.draw(st.sampled_from([0, REPEAT, WAIT, REPEAT | WAIT]))
    target = data.draw(st.sampled_from(["", "s0", "s1"]))
    rounds = 0
    said = board.ask(engine, flags=flags, target=target)
    while said:
        ((to, item),) = said
        if isinstance(item, Request) and item.flags & ASK:
            (server,) = [server for server in servers if server.name == to]
            said = board.answer(server, unknown())
        elif isinstance(item, Fault) and item.code == AGAIN and not item.retry_after_ms:
            rounds += 1
            assert rounds <= len(servers), "round and round"
            said = board.ask(engine, flags=flags | REPEAT, target=target)
        else:
            break
    event(f"{rounds} rounds")
