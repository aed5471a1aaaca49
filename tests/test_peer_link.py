"""A session over its ports: zbus/peer/link.py, over a network in memory, under virtual time.

The broker's side is the test's own: it hears every item, and says what it likes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_desk import EPOCH, FRONTEND, NAME, PIPE, REPEAT, Desk, reply

from zbus.errors import (
    BadReply,
    Cancelled,
    ClosedError,
    ConfigError,
    Draining,
    Executed,
    HandlerError,
    InternalError,
    NoHandler,
    RequestTimeout,
    Superseded,
    VersionMismatch,
    ZbusError,
)
from zbus.peer.call import DONE, Call, Returned
from zbus.peer.link import pipe_endpoint
from zbus.protocol.effect import Happened
from zbus.protocol.message import (
    NO_FRAMES,
    Bye,
    Cancel,
    Cause,
    Credit,
    Fault,
    Heartbeat,
    Hello,
    Parcel,
    Push,
    Reply,
    Request,
    Role,
    Serve,
    Welcome,
)
from zbus.protocol.requests import Ask
from zbus.protocol.session import State
from zbus.testing.faults import Faults

# -- attaching ------------------------------------------------------------------------------


def test_it_says_hello_and_is_attached_by_the_welcome() -> None:
    """Hello on a new socket; then the face is told, and pushes find the pipe."""
    desk = Desk("serve")
    desk.link.open(desk.now)
    desk.turn()
    assert desk.items() == [Hello(NAME, Role.ENGINE, EPOCH, ("serve",), 1_024, b"")]
    desk.welcome()
    assert [type(event) for event in desk.seen] == [Welcome]
    assert desk.session.state is State.OPEN
    desk.link.push("metric", b"1", NO_FRAMES)
    desk.turn()
    assert [parcel.item for parcel in desk.pushed] == [
        Push(11, NAME, EPOCH, "metric", 1, 1, (b"1",), ())
    ]


def test_silence_is_a_loss_and_everything_is_said_again() -> None:
    """On new sockets: Hello, then the open request as a repeat, and the unsettled push."""
    desk = Desk().attached()
    number = desk.ask(timeout=60.0)
    desk.link.push("metric", b"1", NO_FRAMES)
    desk.turn()
    desk.items()
    before = len(set(desk.routes))
    desk.after(3.0)
    assert desk.seen == ["the broker is silent"]
    assert len(set(desk.routes)) == before + 1
    desk.pushed.clear()
    desk.welcome(session=12)
    hello, again = desk.items()
    assert isinstance(hello, Hello)
    assert isinstance(again, Request)
    assert (again.number, again.flags) == (number, REPEAT)
    assert isinstance(desk.pushed[0].item, Push)
    assert desk.pushed[0].item.session == 12
    desk.say(reply(number))
    assert isinstance(desk.outcome(number), Parcel)


def test_a_refusal_ends_it_and_everything_that_is_open() -> None:
    """The face is told why, once; what comes later counts as nothing."""
    desk = Desk().attached()
    number = desk.ask()
    desk.say(Bye(Cause.SUPERSEDED, "another took over"))
    assert isinstance(desk.outcome(number), Superseded)
    assert [type(event) for event in desk.seen] == [Superseded]
    desk.say(reply(number))
    assert isinstance(desk.outcome(number), Superseded)
    assert desk.link.wake_at(desk.now) is None


@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_broker_of_another_version_is_told_as_that(version: int) -> None:
    """It can answer our Hello in no words of ours. Later, such a message is only malformed."""
    desk = Desk()
    desk.link.open(desk.now)
    desk.turn()
    desk.say_frames([b"ZBP" + bytes([version]) + b"\x91\x93\x04\x04\xa0"])
    assert [type(event) for event in desk.seen] == [Happened, VersionMismatch]
    desk = Desk().attached()
    desk.say_frames([b"ZBP" + bytes([version])])
    assert desk.session.state is State.OPEN
    assert desk.link.counters.malformed == 1


@given(garbage=st.lists(st.binary(max_size=40), min_size=1, max_size=3))
def test_p13_garbage_from_the_broker_is_ignored_and_counted(garbage: list[bytes]) -> None:
    """Nothing ends by it, and the next message is heard."""
    desk = Desk().attached()
    number = desk.ask()
    desk.say_frames([b"\0", *garbage])
    assert desk.link.counters.malformed == 1
    assert desk.happened() == ["malformed_message"]
    assert desk.outcomes[number] == []
    desk.say(reply(number))
    assert isinstance(desk.outcome(number), Parcel)


@pytest.mark.parametrize(
    ("endpoint", "pipes", "expected"),
    [
        ("ipc:///f", ("tcp://127.0.0.1:1", "ipc:///p"), "ipc:///p"),
        ("tcp://127.0.0.1:9", ("ipc:///p", "tcp://127.0.0.1:1"), "tcp://127.0.0.1:1"),
        ("tcp://127.0.0.1:9", ("ipc:///p",), "ipc:///p"),
        ("ipc:///f", (), None),
    ],
)
def test_the_pipe_is_the_one_reached_as_the_broker_was(
    endpoint: str, pipes: tuple[str, ...], expected: str | None
) -> None:
    """By the same transport where there is one; the first otherwise; none without any."""
    assert pipe_endpoint(endpoint, pipes) == expected


# -- sockets that are not to be had, or do not take more ------------------------------------


def test_an_endpoint_that_cannot_be_used_is_the_callers_fault_at_first() -> None:
    """``open`` raises what the network said."""
    desk = Desk(scant=(FRONTEND,))
    with pytest.raises(ConfigError):
        desk.link.open(desk.now)


def test_a_socket_that_is_not_to_be_had_later_is_tried_for_again() -> None:
    """A loss while the process has no descriptor left is a longer pause, and no end (P6)."""
    desk = Desk().attached()
    number = desk.ask(timeout=60.0)
    desk.network.scant = (FRONTEND,)
    desk.after(6.0)
    assert "no_socket" in desk.happened()
    assert desk.outcomes[number] == []
    desk.network.scant = ()
    desk.after(10.0)
    desk.welcome(session=12)
    desk.say(reply(number))
    assert isinstance(desk.outcome(number), Parcel)


def test_a_pipe_that_is_not_to_be_had_is_tried_for_again() -> None:
    """The push stays with us, and leaves once there is a socket for it (P7)."""
    desk = Desk(scant=(PIPE,)).attached()
    desk.link.push("metric", b"1", NO_FRAMES)
    desk.turn()
    assert desk.pushed == []
    desk.network.scant = ()
    for _ in range(6):
        desk.say(Heartbeat())
        desk.after(1.0)
    assert {parcel.item.bodies for parcel in desk.pushed} == {(b"1",)}  # type: ignore[union-attr]
    assert desk.session.out_lanes.queued == 1


def test_a_socket_that_closed_itself_is_a_loss() -> None:
    """As after an interrupted send: we attach anew at once, and say everything again."""
    desk = Desk().attached()
    number = desk.ask()
    desk.turn()
    desk.items()
    for port in desk.network._ports:
        port.close()
    desk.ask()
    desk.turn()
    assert desk.seen == ["the socket is gone"]
    desk.welcome(session=12)
    hello, first, second = desk.items()
    assert isinstance(hello, Hello)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.number, first.flags) == (number, REPEAT)


def test_what_no_longer_waits_for_a_broker_that_does_not_read_is_said_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bound of the outbox drops it; the loss that follows makes it good."""
    monkeypatch.setattr("zbus.peer.link._OUTBOX_BYTES", 2_000)
    desk = Desk(faults=Faults(send_mark=1, receive_mark=1)).attached()
    numbers = [desk.ask(body=b"x" * 900, timeout=60.0) for _ in range(8)]
    assert desk.link.counters.overflows == 1
    assert desk.seen[0] == "the broker does not read"
    desk.turn()
    desk.welcome(session=12)
    desk.after(1.0)
    requests = [item for item in desk.items() if isinstance(item, Request)]
    assert {item.number for item in requests} == set(numbers)
    assert desk.link.is_flushed


def test_what_a_full_socket_does_not_take_is_kept_in_order_and_tried_again() -> None:
    """``is_flushed`` says whether anything is left; ``wake_at`` asks for the next try soon."""
    desk = Desk(faults=Faults(send_mark=1)).attached()
    numbers = [desk.ask() for _ in range(5)]
    states = [desk.link.is_flushed]
    wake_at = desk.link.wake_at(desk.now)
    assert wake_at is not None
    assert wake_at <= desk.now + 0.05
    desk.after(1.0)
    states.append(desk.link.is_flushed)
    assert states == [False, True]
    assert [item.number for item in desk.items() if isinstance(item, Request)] == numbers


# -- our requests ---------------------------------------------------------------------------


def test_p01_only_the_first_answer_counts() -> None:
    """A second, a foreign and an unknown one are dropped and counted."""
    desk = Desk().attached()
    number = desk.ask(body=b"hi")
    desk.turn()
    (item,) = desk.items()
    assert isinstance(item, Request)
    assert (item.topic, item.body, item.number) == ("work", b"hi", number)
    desk.say(reply(number, b"first"), reply(number, b"second"), reply(number + 9))
    desk.say(Reply("other", EPOCH, number, b"", 0), Reply(NAME, EPOCH - 1, number, b"", 0))
    assert desk.outcome(number) == Parcel(reply(number, b"first"))
    assert desk.session.asker.late_answers == 4


def test_p02_a_deadline_ends_a_request_and_not_before() -> None:
    """By our own clock, whatever the broker does."""
    desk = Desk().attached()
    number = desk.ask(timeout=0.5)
    desk.after(0.499)
    assert desk.outcomes[number] == []
    wake_at = desk.link.wake_at(desk.now)
    assert wake_at is not None
    assert wake_at <= 1_000.5
    desk.after(0.001)
    assert isinstance(desk.outcome(number), RequestTimeout)


def test_a_cancelled_request_is_taken_back() -> None:
    """The broker is told, and a reply that comes all the same is late."""
    desk = Desk().attached()
    number = desk.ask()
    desk.link.cancel(number, desk.now)
    desk.link.flush(desk.now)
    desk.turn()
    assert desk.items()[1] == Cancel(NAME, EPOCH, number)
    desk.say(reply(number))
    assert isinstance(desk.outcome(number), Cancelled)
    desk.link.cancel(number, desk.now)
    assert isinstance(desk.outcome(number), Cancelled)


def test_close_says_goodbye_and_ends_everything_once() -> None:
    """Open requests as Cancelled, queued pushes as dropped; a second close changes nothing."""
    desk = Desk().attached()
    number = desk.ask()
    desk.link.push("metric", b"1", NO_FRAMES)
    settled: list[bool] = []
    desk.link.when_settled(lambda: settled.append(True))
    for _ in range(2):
        desk.link.close(desk.now)
    desk.fabric.advance(desk.now)
    desk._listen()
    assert [item for item in desk.items() if isinstance(item, Bye)] == [Bye(Cause.CLOSED, "")]
    assert isinstance(desk.outcome(number), Cancelled)
    assert desk.session.out_lanes.dropped == 1
    assert settled == [True]
    with pytest.raises(ClosedError):
        desk.ask()


def test_fail_ends_everything_even_what_the_session_has_forgotten() -> None:
    """Nobody waits for ever for an outcome that a bug has swallowed."""
    desk = Desk().attached()
    numbers = [desk.ask() for _ in range(3)]
    desk.session.asker.requests.end(numbers[1])  # its outcome got lost
    desk.link.fail(InternalError("a bug"), desk.now)
    outcomes = [desk.outcome(number) for number in numbers]
    errors = [outcome for outcome in outcomes if isinstance(outcome, InternalError)]
    assert [error.executed for error in errors] == [Executed.MAYBE] * 3


def test_mend_attaches_anew_and_ends_what_lost_its_outcome() -> None:
    """After an exception half way through: the others are asked again, and nothing else ends."""
    desk = Desk().attached()
    lost, kept = desk.ask(), desk.ask()
    desk.session.asker.requests.end(lost)
    desk.link.mend(desk.now)
    assert isinstance(desk.outcome(lost), Cancelled)
    assert desk.outcomes[kept] == []
    assert desk.seen == ["interrupted"]
    desk.turn()
    desk.items()
    desk.welcome(session=12)
    assert [item.number for item in desk.items() if isinstance(item, Request)] == [kept]
    desk.say(reply(kept))
    assert isinstance(desk.outcome(kept), Parcel)


def test_a_request_that_was_not_noted_ends_for_nobody() -> None:
    """The call that asked was interrupted before it could say whom to tell; cancel ends it."""
    desk = Desk().attached()
    ask = Ask("work", b"", desk.now + 10.0)
    desk.session.request(ask, desk.now)
    desk.link.cancel(ask.number, desk.now)
    assert len(desk.session.asker) == 0


# -- requests of others ---------------------------------------------------------------------


def test_a_request_becomes_a_call_and_its_result_a_reply() -> None:
    """With everything that a handler is told; the reply leaves in the next turn."""
    desk = Desk("serve").attached()
    call = desk.asked(1, body=b"question")
    assert (call.topic, call.source, call.body, call.trace) == (
        "serve",
        "other",
        b"question",
        "trace",
    )
    assert call.deadline == pytest.approx(desk.now + 5.0)
    call.finish(Returned(b"answer", NO_FRAMES))
    assert desk.link.wake_at(desk.now) == desk.now
    assert not desk.link.is_flushed
    desk.turn()
    assert desk.items() == [Reply("other", 3, 1, b"answer", 0)]
    assert desk.link._calls == {}


@pytest.mark.parametrize(
    ("result", "code", "executed"),
    [
        (HandlerError("it raised"), HandlerError.number, 2),
        (NoHandler("none here"), NoHandler.number, 0),
        (Returned(b"x" * 1_001, NO_FRAMES), BadReply.number, 2),
        (Returned(b"", (b"x" * 900, b"y" * 101)), BadReply.number, 2),
    ],
)
def test_p12_what_is_no_reply_becomes_a_typed_fault(
    result: Returned | ZbusError, code: int, executed: int
) -> None:
    """Also a reply beyond what the broker's Welcome allows."""
    desk = Desk("serve").attached()
    desk.asked(1).finish(result)
    desk.turn()
    (item,) = desk.items()
    assert isinstance(item, Fault)
    assert (item.code, item.executed) == (code, executed)


def test_an_executor_that_refuses_at_once_is_heard_in_the_same_turn() -> None:
    """``finish`` may be called from within ``submit``."""
    desk = Desk("serve").attached()
    desk.hands.refuses = Draining("closing")
    desk.asked(1)
    (item,) = desk.items()
    assert isinstance(item, Fault)
    assert item.code == Draining.number


def test_p05_a_repeat_is_answered_from_memory() -> None:
    """The handler is called once, the reply said twice."""
    desk = Desk("serve").attached()
    desk.asked(1).finish(Returned(b"once", NO_FRAMES))
    desk.turn()
    desk.asked(1)
    assert desk.items() == [Reply("other", 3, 1, b"once", 0)] * 2
    assert len(desk.hands.calls) == 1


def test_a_caller_that_gave_up_is_shown_to_the_handler() -> None:
    """The call is marked and the executor told; one that is unknown or has ended is not."""
    desk = Desk("serve").attached()
    call = desk.asked(1)
    desk.say(Cancel("other", 3, 1), Cancel("other", 3, 2))
    assert call.cancelled
    assert desk.hands.cancelled == [call]
    call.finish(Cancelled(executed=Executed.YES))
    desk.turn()
    desk.say(Cancel("other", 3, 1))
    assert desk.hands.cancelled == [call]


def test_topics_may_come_and_go() -> None:
    """The broker hears of it, and what is served no longer is refused."""
    desk = Desk("serve").attached()
    desk.link.serve(("more",), ("serve",), desk.now)
    desk.link.flush(desk.now)
    desk.turn()
    assert desk.items() == [Serve(("more",), ("serve",))]
    desk.asked(1, "more")
    desk.say(Request("other", 3, 2, "serve", "", 5_000, 0, 1, (), "", b"", 0))
    (refused,) = desk.items()
    assert isinstance(refused, Fault)
    assert refused.executed == 0
    assert [call.topic for call in desk.hands.calls] == ["more"]


# -- pushes of others -----------------------------------------------------------------------


def taking(desk: Desk, first: int, count: int) -> list[Call]:
    """The calls for so many pushes of one lane."""
    bodies = tuple(b"%d" % number for number in range(first, first + count))
    desk.say(Push(0, "other", 3, "serve", first, first, bodies, ()))
    return desk.hands.lanes[-1][1]


def test_p07_pushes_are_credited_once_their_handler_is_done() -> None:
    """In order, up to the last; a handler that failed is done with its push as well."""
    desk = Desk("serve").attached()
    calls = taking(desk, 1, 3)
    assert [(call.body, call.deadline) for call in calls] == [
        (b"1", None),
        (b"2", None),
        (b"3", None),
    ]
    assert desk.items() == []
    calls[0].finish(DONE)
    calls[1].finish(HandlerError("it raised"))
    desk.turn()
    assert desk.items() == [Credit("other", 3, "serve", 2, 1_024, False)]
    assert desk.link.counters.pushes_failed == 1
    calls[2].finish(DONE)
    desk.turn()
    assert desk.items() == [Credit("other", 3, "serve", 3, 1_024, False)]


@pytest.mark.parametrize("given_up", [Cancelled(), Draining()])
def test_p07_a_push_that_is_given_up_here_stays_with_its_sender(given_up: ZbusError) -> None:
    """It is not credited, so that another server may have it."""
    desk = Desk("serve").attached()
    calls = taking(desk, 1, 2)
    calls[0].finish(DONE)
    calls[1].finish(given_up)
    desk.turn()
    assert desk.items() == [Credit("other", 3, "serve", 1, 1_024, False)]
    assert desk.session.in_lanes.queued == 1
    assert desk.link.counters.pushes_failed == 0


# -- pushes of ours -------------------------------------------------------------------------


def test_when_settled_waits_for_the_last_push() -> None:
    """At once if there is none; else with the Credit that settles them all."""
    desk = Desk().attached()
    told: list[str] = []
    desk.link.when_settled(lambda: told.append("at once"))
    assert told == ["at once"]
    for body in (b"1", b"2"):
        desk.link.push("metric", body, NO_FRAMES)
    desk.link.when_settled(lambda: told.append("later"))
    desk.turn()
    desk.say(Credit(NAME, EPOCH, "metric", 1, 8, False))
    assert told == ["at once"]
    desk.say(Credit(NAME, EPOCH, "metric", 2, 8, False))
    assert told == ["at once", "later"]
    desk.link.push("metric", b"3", NO_FRAMES)
    desk.turn()
    desk.say(Credit(NAME, EPOCH, "metric", 3, 8, False))
    assert told == ["at once", "later"]


# -- whatever happens -----------------------------------------------------------------------

ACTS: dict[str, Callable[[Desk, int], None]] = {
    "ask": lambda desk, n: void(desk.ask(timeout=0.1 * (n + 1))),
    "reply": lambda desk, n: desk.say(reply(n)),
    "fault": lambda desk, n: desk.say(Fault(NAME, EPOCH, n, 401, 2, 0, "raised")),
    "again": lambda desk, n: desk.say(Fault(NAME, EPOCH, n, 1, 0, 50, "")),
    "cancel": lambda desk, n: desk.link.cancel(n, desk.now),
    "time": lambda desk, n: desk.after(0.1 * n),
    "bye": lambda desk, n: desk.say(Bye(Cause.DRAINING, "")),
    "welcome": lambda desk, n: desk.welcome(20 + n),
    "mend": lambda desk, n: desk.link.mend(desk.now),
    "garbage": lambda desk, n: desk.say_frames([b"ZBP\x01" + b"\xc1" * n]),
}


def void(_value: object) -> None:
    """An act has no result."""


@given(
    acts=st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 9)), max_size=30),
    fails=st.booleans(),
)
def test_p01_every_request_ends_exactly_once(acts: list[tuple[str, int]], fails: bool) -> None:
    """Whatever the broker says and whenever it is lost; at its deadline at the latest, and all
    that is open when the link is closed, or fails."""
    desk = Desk().attached()
    deadlines: dict[int, float] = {}
    for act, n in acts:
        before = set(desk.outcomes)
        ACTS[act](desk, n)
        for number in desk.outcomes.keys() - before:
            deadlines[number] = desk.now + 0.1 * (n + 1)
        for number, outcomes in desk.outcomes.items():
            assert len(outcomes) <= 1
            assert outcomes or desk.now <= deadlines[number] + 1e-9, "P2: it is overdue"
    if fails:
        desk.link.fail(InternalError("a bug"), desk.now)
    else:
        desk.link.close(desk.now)
    assert {len(outcomes) for outcomes in desk.outcomes.values()} <= {1}
    assert desk.link._ends == {}
