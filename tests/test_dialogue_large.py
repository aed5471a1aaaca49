"""Large bodies between whole sessions and brokers: whole or not at all (P22, spec 14).

The bodies are small and the bound on what is not cut smaller still, so that a few hundred bytes
are many chunks. A *step* delivers one round of messages, so that a fault can be put between any
two of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import UNSETTLED, Bus, End, body_of, both, error_of

from zbus.errors import Cancelled, Damaged, Executed, RequestTimeout, TargetLost, TooLarge
from zbus.protocol.effect import Send, Told
from zbus.protocol.limits import Limits
from zbus.protocol.message import NO_FRAMES, Accept, Chunk, Done, Item, Parcel, Reply, Request
from zbus.protocol.objects import WINDOW
from zbus.protocol.requests import Ask
from zbus.protocol.session import SessionLimits
from zbus.testing.tables import session_leftovers

SMALL = Limits(restart_settle_s=0.0, body_max_bytes=10, object_max_bytes=1_000)
SETTLING = Limits(restart_settle_s=1.5, body_max_bytes=10, object_max_bytes=1_000)
BODY = bytes(range(200))
STEPS = range(0, 60, 3)


def step(bus: Bus, count: int = 1) -> None:
    """Deliver what is under way, and turn everybody once."""
    for _ in range(count):
        bus.hop()
        bus._deliver_down()
        bus.tick()


def said(end: End, kind: type[Item]) -> list[Item]:
    """What this peer said of this kind, in order."""
    sent = [effect.parcel.item for effect in end.seen if isinstance(effect, Send)]
    return [item for item in sent if isinstance(item, kind)]


def empty(bus: Bus) -> bool:
    """Whether nobody holds anything of a large body, and no ticket is open."""
    assert bus.broker is not None
    held = [end.session.objects.count for end in bus.ends.values()]
    return not any(held) and not len(bus.broker.switchboard.tickets)


def begun(count: int, limits: Limits = SMALL, **options: bool) -> tuple[Bus, End, End, int]:
    """A request with a large body, ``count`` steps after it was asked."""
    bus = Bus(limits)
    engine, server = both(bus, **options)
    number = bus.ask(engine, "t", BODY)
    step(bus, count)
    return bus, engine, server, number


# -- all is well ------------------------------------------------------------------------------


def test_both_ways() -> None:
    """A large argument, and a reply as large; one request, one start, one reply."""
    bus, engine, server, number = begun(0)
    bus.settle()
    assert body_of(engine, number) == BODY[::-1]
    assert list(server.starts.values()) == [1]
    assert [type(item) for item in said(engine, Request)] == [Request]
    assert not said(server, Reply)
    assert len(said(engine, Done)) == 1
    assert empty(bus)


def test_a_handler_gets_it_as_if_it_had_come_at_once() -> None:
    """Its body and its frames, and the time that was left when it was asked for."""
    bus = Bus(SMALL)
    engine, server = both(bus, holds=True)
    frames = (BODY, b"", bytes(7))
    ask = Ask("t", b"head", 5.0, frames)
    bus.carry(engine, engine.session.request(ask, bus.now))
    bus.settle()
    (start,) = server.running.values()
    assert (start.request.body, start.request.frames, start.frames) == (b"head", 3, frames)
    assert start.deadline == 5.0
    bus.carry(server, server.session.reply(start.key, b"", frames, bus.now))
    bus.settle()
    outcome = engine.outcomes[ask.number]
    assert isinstance(outcome, Parcel)
    assert isinstance(outcome.item, Reply)
    assert (outcome.item.body, outcome.item.frames, outcome.frames) == (b"", 3, frames)


def test_it_does_not_start_before_all_is_there() -> None:
    """And then at once; it is known from its first item on (spec 14.4)."""
    bus, _, server, _ = begun(4, holds=True)
    assert not server.starts
    assert server.session.answerer.memory.running == 1
    bus.settle()
    assert len(server.running) == 1


def test_a_small_body_is_not_cut() -> None:
    """Nothing is new for what is not above the bound."""
    bus = Bus(SMALL)
    engine, server = both(bus)
    number = bus.ask(engine, "t", bytes(10))
    bus.settle()
    assert body_of(engine, number) == bytes(10)
    for end in (engine, server):
        assert not said(end, Chunk)


def test_a_peer_may_ask_itself() -> None:
    """It is its own sender and receiver, both ways."""
    bus = Bus(SMALL)
    server = bus.join("server", "t")
    number = bus.ask(server, "t", BODY)
    bus.settle()
    assert body_of(server, number) == BODY[::-1]
    assert empty(bus)


def test_what_is_too_large_is_refused_at_once() -> None:
    """By what the broker says, by what the receiver will have, and for a push in any case."""
    bus = Bus(SMALL)
    engine = bus.join("engine")
    bus.join("server", "t", limits=SessionLimits(objects_bytes=100))
    with pytest.raises(TooLarge):
        bus.ask(engine, "t", bytes(1_001))
    with pytest.raises(TooLarge):
        engine.session.push("t", bytes(11))
    number = bus.ask(engine, "t", bytes(101))
    bus.settle()
    assert isinstance(error_of(engine, number), TooLarge)
    assert error_of(engine, number).executed is Executed.NO
    assert empty(bus)


def test_a_reply_that_its_source_will_not_have_ran() -> None:
    """TooLarge, and it was run; the handler's side keeps nothing of it."""
    bus = Bus(SMALL)
    engine = bus.join("engine", limits=SessionLimits(objects_bytes=100))
    server = bus.join("server", "t", holds=True)
    number = bus.ask(engine, "t")
    bus.settle()
    bus.answer(server, body=bytes(101))
    bus.settle()
    assert isinstance(error_of(engine, number), TooLarge)
    assert error_of(engine, number).executed is Executed.YES
    assert empty(bus)


def test_progress_is_told_both_ways() -> None:
    """As it is acknowledged, and as it comes; up to the whole."""
    bus = Bus(SMALL)
    engine, _ = both(bus)
    ask = Ask("t", BODY, 5.0)
    ask.progress = lambda progress: None
    bus.carry(engine, engine.session.request(ask, bus.now))
    bus.settle()
    moved = [effect.progress for effect in engine.seen if isinstance(effect, Told)]
    for of in ("argument", "reply"):
        steps = [each.done_bytes for each in moved if each.of == of]
        assert steps == sorted(steps)
        assert steps[-1] == len(BODY)
    assert {each.size_bytes for each in moved} == {len(BODY)}


# -- something goes wrong -----------------------------------------------------------------------


def _broker_restarts(bus: Bus, engine: End, server: End) -> None:
    bus.replace()


def _source_is_cut(bus: Bus, engine: End, server: End) -> None:
    bus.cut(engine, up=2, down=2)


def _handler_is_cut(bus: Bus, engine: End, server: End) -> None:
    bus.cut(server, up=2, down=2)


FAULTS = (_broker_restarts, _source_is_cut, _handler_is_cut)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("limits", [UNSETTLED, SETTLING], ids=["at once", "settling"])
@pytest.mark.parametrize("count", STEPS[1:])
def test_it_goes_on_where_it_was(
    count: int, limits: Limits, fault: Callable[[Bus, End, End], None]
) -> None:
    """Whenever a connection or the broker is lost: the reply is there in time, the handler ran
    once, and what is sent twice is no more than was under way (P6, P22)."""
    limits = Limits(
        restart_settle_s=limits.restart_settle_s, body_max_bytes=10, object_max_bytes=1_000
    )
    bus, engine, server, number = begun(count, limits)
    fault(bus, engine, server)
    bus.run(4.9)
    assert body_of(engine, number) == BODY[::-1]
    assert list(server.starts.values()) == [1]
    for end in (engine, server):
        assert len(said(end, Chunk)) <= len(BODY) // 10 + 2 * WINDOW
    assert empty(bus) or fault is _source_is_cut  # whose Done may be lost; see below


def test_a_done_that_is_lost_costs_nothing_after_the_deadline() -> None:
    """The source has the reply; the handler's side and the broker hold it until its time is up."""
    bus, engine, server, number = begun(0)
    while number not in engine.outcomes:
        step(bus)
    bus.cut(engine, up=9)
    bus.run(30.0)
    assert body_of(engine, number) == BODY[::-1]
    assert empty(bus)
    assert not list(session_leftovers(server.session, set()))


@pytest.mark.parametrize("count", STEPS)
def test_a_caller_gives_up(count: int) -> None:
    """Both ends and the broker are rid of it at once, and what has not begun never does."""
    bus, engine, server, number = begun(count)
    started = sum(server.starts.values())
    if number in engine.outcomes:
        return
    bus.carry(engine, engine.session.cancel(number, bus.now))
    assert isinstance(error_of(engine, number), Cancelled)
    bus.settle()
    assert empty(bus)
    if not started:
        assert sum(server.starts.values()) <= (count == 0)
    assert not server.session.answerer.memory.running


@pytest.mark.parametrize("count", STEPS)
def test_the_time_is_up(count: int) -> None:
    """While a body is under way and its receiver or its sender hangs: it ends on time, and the
    other side keeps nothing of it either."""
    for hangs in ("engine", "server"):
        bus, engine, server, number = begun(count)
        if number in engine.outcomes:
            return
        bus.ends[hangs].stopped = True
        bus.now = 5.0
        bus.tick()
        bus.ends[hangs].stopped = False
        bus.run(0.5)
        assert isinstance(error_of(engine, number), RequestTimeout)
        bus.run(0.5)
        assert empty(bus)
        assert not server.session.answerer.memory.running


@pytest.mark.parametrize("count", STEPS[1:])
def test_the_handler_is_lost(count: int) -> None:
    """Whoever waits is told (P10), and keeps nothing."""
    bus, engine, _, number = begun(count)
    bus.crash("server")
    bus.run(4.0)
    if number in engine.outcomes and isinstance(engine.outcomes[number], Parcel):
        return
    assert isinstance(error_of(engine, number), TargetLost)
    assert empty(bus)


@pytest.mark.parametrize("count", STEPS)
def test_the_source_is_lost(count: int) -> None:
    """The handler's side keeps nothing for whom nobody waits."""
    bus, _, server, _ = begun(count)
    bus.crash("engine")
    bus.run(4.0)
    assert empty(bus)
    assert not server.session.answerer.memory.running


def _spoil(bus: Bus, from_: End) -> None:
    """Flip a bit in the next chunk that this peer has under way."""
    for _ in range(200):
        for _, message in from_.up:
            if len(message) > 1:
                raw = bytearray(message[1])
                raw[0] ^= 1
                message[1] = bytes(raw)
                return
        step(bus)
    raise AssertionError("no chunk came by")


@pytest.mark.parametrize("side", ["argument", "reply"])
def test_damage_is_found_and_is_an_error(side: str) -> None:
    """Whole or not at all: nothing of it is given to anybody, and the error says who ran."""
    bus, engine, server, number = begun(5)
    if side == "reply":
        while not server.starts:
            step(bus)
    _spoil(bus, engine if side == "argument" else server)
    bus.settle()
    error = error_of(engine, number)
    assert isinstance(error, Damaged)
    assert error.executed is (Executed.NO if side == "argument" else Executed.YES)
    assert sum(server.starts.values()) == (side == "reply")
    assert empty(bus)


def test_a_closing_peer_hands_its_reply_over() -> None:
    """It is not idle before its source has all of it (P18)."""
    bus, engine, server, number = begun(0)
    while not server.starts:
        step(bus)
    assert not server.session.answerer.memory.running
    assert not server.session.idle
    bus.settle()
    assert number in engine.outcomes
    assert server.session.idle


def test_an_ended_session_holds_nothing() -> None:
    """Closed in the middle, on either side."""
    for name in ("engine", "server"):
        bus, _, _, _ = begun(9)
        end = bus.ends[name]
        bus.carry(end, end.session.close(bus.now))
        assert not end.session.objects.count


def test_other_items_do_not_wait_for_it() -> None:
    """No more chunks are ever under way to one peer than the window says, so that a small request
    that is asked meanwhile is answered long before."""
    bus, engine, _, large = begun(6)
    small = bus.ask(engine, "t", b"small")
    step(bus, 12)
    assert small in engine.outcomes
    assert large not in engine.outcomes


def test_many_at_once_share_the_window() -> None:
    """All of them arrive; the tables, looked at after each turn, have bounded what flies."""
    bus = Bus(SMALL)
    engine, server = both(bus)
    numbers = [bus.ask(engine, "t", BODY[: 50 + place]) for place in range(3 * WINDOW)]
    bus.settle()
    assert all(body_of(engine, number) for number in numbers)
    assert len(server.starts) == len(numbers)
    assert empty(bus)


def test_several_servers_and_a_new_broker() -> None:
    """The one that has half of it is found, and goes on; no other starts it (spec 6.6)."""
    bus = Bus(SMALL)
    engine = bus.join("engine")
    servers = [bus.join(f"server-{place}", "t") for place in range(3)]
    number = bus.ask(engine, "t", BODY)
    step(bus, 9)
    bus.replace()
    bus.run(4.9)
    assert body_of(engine, number) == BODY[::-1]
    assert sum(sum(server.starts.values()) for server in servers) == 1
    rewinds = [item for server in servers for item in said(server, Accept)]
    assert {item.rewind for item in rewinds if isinstance(item, Accept)} == {True, False}


ACTS = st.sampled_from(["step", "step", "step", "ask", "small", "run", "cancel", *FAULTS])


@given(st.lists(ACTS, max_size=60))
def test_whatever_happens(acts: list[object]) -> None:
    """Any order of faults: each request has one outcome, each reply is its own and whole, nothing
    runs twice, and after the deadlines nobody holds anything."""
    bus = Bus(SMALL)
    engine, server = both(bus)
    bodies: dict[int, bytes] = {}
    for act in acts:
        if callable(act):
            act(bus, engine, server)
        elif act == "ask" or act == "small":
            body = bytes([len(bodies)]) * (3 if act == "small" else 95)
            bodies[bus.ask(engine, "t", body, 8.0)] = body
        elif act == "cancel" and bodies:
            bus.carry(engine, engine.session.cancel(max(bodies), bus.now))
        elif act == "run":
            bus.run(0.3)
        else:
            step(bus)
    bus.run(30.0)
    assert set(engine.outcomes) == set(bodies)
    for number, outcome in engine.outcomes.items():
        if isinstance(outcome, Parcel):
            assert body_of(engine, number) == bodies[number][::-1]
            assert outcome.frames == NO_FRAMES
    assert all(count == 1 for count in server.starts.values())
    assert empty(bus)
