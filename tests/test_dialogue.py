"""Sessions and a broker back to back, without a network: the promises of their dialogue.

Messages go through the real codec; each test that shows a promise bears its number.
"""

from __future__ import annotations

import pytest
from machines import Bus, attached, body_of, both, error_of

from zbus.errors import (
    BrokerUnreachable,
    Cancelled,
    Draining,
    Executed,
    NoHandler,
    NoTarget,
    Overloaded,
    RequestTimeout,
    Superseded,
)
from zbus.protocol.attachment import State
from zbus.protocol.effect import Ended
from zbus.protocol.limits import Limits
from zbus.protocol.message import Cause, Flag
from zbus.protocol.session import SessionLimits

WAIT = int(Flag.WAIT)
PROBE = int(Flag.PROBE)


# -- P1, P2, P3, P4: one outcome, on time, at once, and whether it ran ---------------------------


def test_p01_a_request_ends_once_with_its_reply() -> None:
    """By topic and by name, from either side, however many are open."""
    bus = Bus()
    engine, server = both(bus)
    other = bus.join("engine-2", "t")
    numbers = [bus.ask(engine, "t", b"%02d" % number) for number in range(50)]
    asked = bus.ask(server, "t", b"ab", target="engine-2")
    bus.settle()
    replies = [body_of(engine, number) for number in numbers]
    assert replies == [(b"%02d" % number)[::-1] for number in range(50)]
    assert body_of(server, asked) == b"ba"
    assert sum(server.starts.values()) == 50
    assert sum(other.starts.values()) == 1


def test_p02_a_request_ends_at_its_deadline_and_not_before() -> None:
    """The caller's own clock ends it, whoever sleeps."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    number = bus.ask(engine, "t", timeout=1.2345)
    bus.run(1.2344)
    assert engine.outcomes == {}
    bus.run(10.0)
    assert type(error_of(engine, number)) is RequestTimeout
    assert engine.ended_at[number] == pytest.approx(1.2345)
    bus.answer(server)
    bus.settle()
    assert bus.broker is not None
    assert bus.broker.switchboard.counts["late_answers"] == 1


def test_p03_unserved_is_told_at_once() -> None:
    """No topic, no target, not its topic: no time passes, and it was not run."""
    bus = Bus()
    engine, _ = both(bus)
    numbers = [
        bus.ask(engine, "nobody.serves.this"),
        bus.ask(engine, "t", target="nobody"),
        bus.ask(engine, "u", target="server"),
    ]
    bus.settle()
    errors = [error_of(engine, number) for number in numbers]
    assert [type(error) for error in errors] == [NoHandler, NoTarget, NoHandler]
    assert {error.executed for error in errors} == {Executed.NO}
    assert {engine.ended_at[number] for number in numbers} == {bus.now}


def test_p03_also_from_a_broker_that_has_just_started() -> None:
    """Who never knew another broker need not wait for anybody to come back."""
    bus = Bus(Limits())
    engine = bus.join("engine")
    number = bus.ask(engine, "t")
    bus.settle()
    assert type(error_of(engine, number)) is NoHandler


def test_p04_no_broker_at_all() -> None:
    """It never left: not run."""
    bus = Bus()
    bus.kill()
    engine = bus.join("engine")
    number = bus.ask(engine, "t", timeout=3.0)
    bus.run(4.0)
    assert type(error_of(engine, number)) is BrokerUnreachable
    assert error_of(engine, number).executed is Executed.NO


def test_p04_a_server_that_is_lost_while_its_broker_is_away() -> None:
    """The next broker knows of no server; the request was with one, so it may have run."""
    bus = Bus()
    engine, _ = both(bus, holds=True)
    number = bus.ask(engine, "t", timeout=60.0)
    bus.settle()
    bus.replace()
    bus.crash("server")
    bus.run_until(lambda: number in engine.outcomes)
    assert type(error_of(engine, number)) is NoHandler
    assert error_of(engine, number).executed is Executed.MAYBE


def test_waiting_for_a_topic() -> None:
    """A request that waits, and a probe, go on as soon as somebody serves it."""
    bus = Bus()
    engine = bus.join("engine")
    waits = bus.ask(engine, "t", b"ab", timeout=60.0, flags=WAIT)
    probe = bus.ask(engine, "t", timeout=60.0, flags=WAIT | PROBE)
    bus.run(10.0)
    assert engine.outcomes == {}
    bus.join("server", "t")
    assert body_of(engine, waits) == b"ba"
    assert body_of(engine, probe) == b""
    assert engine.ended_at[waits] == bus.now


# -- P5, P6: once, and a restart is a pause ------------------------------------------------------


@pytest.mark.parametrize("settle_s", [0.0, 1.5])
def test_p05_a_broker_is_replaced_under_running_handlers(settle_s: float) -> None:
    """They go on, their requests join them, nobody starts twice, and all end in replies (P6)."""
    bus = Bus(Limits(restart_settle_s=settle_s))
    engine, server = both(bus, holds=True)
    bus.run(3.0)
    numbers = [bus.ask(engine, "t", timeout=60.0) for _ in range(20)]
    bus.settle()
    bus.replace()
    bus.answer(server)
    took = bus.run_until(lambda: attached(bus))
    assert took <= 2.0
    while server.running:
        bus.answer(server)
    bus.run_until(lambda: len(engine.outcomes) == 20)
    assert [body_of(engine, number) for number in numbers] == [b"done"] * 20
    assert set(server.starts.values()) == {1}
    assert server.session.answerer.repeats >= 20


def test_p05_two_servers_of_one_topic() -> None:
    """After the restart each is asked before one may start it; who runs it keeps it."""
    bus = Bus(Limits(restart_settle_s=1.5))
    engine = bus.join("engine")
    one, two = bus.join("server-1", "t", holds=True), bus.join("server-2", "t", holds=True)
    numbers = [bus.ask(engine, "t", timeout=60.0) for _ in range(4)]
    bus.settle()
    before = set(one.running), set(two.running)
    assert [len(keys) for keys in before] == [2, 2]
    bus.replace()
    bus.run(5.0)
    assert (set(one.running), set(two.running)) == before
    for server in (one, two):
        while server.running:
            bus.answer(server)
    bus.settle()
    assert sorted(engine.outcomes) == numbers
    assert sum((one.starts + two.starts).values()) == 4


def test_p05_a_server_that_comes_back_late_is_waited_for() -> None:
    """The other one may not start what it runs: a young broker keeps repeats waiting."""
    bus = Bus(Limits(restart_settle_s=1.5))
    engine = bus.join("engine")
    one = bus.join("server-1", "t", holds=True)
    number = bus.ask(engine, "t", timeout=60.0)
    bus.settle()
    two = bus.join("server-2", "t", holds=True)
    bus.replace()
    one.stopped = True
    bus.run(1.2)
    one.stopped = False
    bus.run(3.0)
    assert two.running == {}
    bus.answer(one)
    bus.settle()
    assert body_of(engine, number) == b"done"


@pytest.mark.parametrize("lost", ["request in", "request out", "reply in", "reply out"])
def test_p05_what_is_lost_with_a_connection_starts_once(lost: str) -> None:
    """The request or its reply, on either side of the broker: said again, started once."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    number = bus.ask(engine, "t", timeout=60.0)
    if lost == "request in":
        bus.cut(engine, up=1)
    elif lost == "request out":
        bus.hop()
        bus.cut(server, down=1)
    bus.run_until(lambda: bool(server.running))
    bus.answer(server)
    if lost == "reply in":
        bus.cut(server, up=1)
    elif lost == "reply out":
        bus.hop()
        bus.cut(engine, down=1)
    took = bus.run_until(lambda: number in engine.outcomes)
    assert took <= 1.0
    assert body_of(engine, number) == b"done"
    assert list(server.starts.values()) == [1]


def test_p06_what_is_asked_while_the_broker_is_away_ends_in_a_reply() -> None:
    """Never sent before, and the engine is back before its server: the server is a moment away,
    and not gone."""
    bus = Bus(Limits(restart_settle_s=1.5))
    engine, server = both(bus)
    bus.run(2.0)
    bus.kill()
    bus.run(3.0)
    numbers = [bus.ask(engine, "t", timeout=60.0), bus.ask(engine, "t", target="server")]
    server.stopped = True
    bus.start()
    bus.run(0.5)
    assert engine.is_open
    server.stopped = False
    bus.run_until(lambda: len(engine.outcomes) == 2)
    assert [body_of(engine, number) for number in numbers] == [b"", b""]


def test_p06_a_full_window_is_no_reason_to_refuse_what_runs_in_it() -> None:
    """A new request takes the slot at the new broker before the repeat of the one that runs."""
    bus = Bus(Limits(restart_settle_s=1.5))
    engine, other = bus.join("engine"), bus.join("engine-2")
    server = bus.join("server", "t", holds=True, limits=SessionLimits(window=1))
    number = bus.ask(engine, "t", timeout=60.0)
    bus.settle()
    bus.replace()
    bus.run_until(lambda: attached(bus))
    late = bus.ask(other, "t", timeout=60.0)
    bus.run(2.0)
    assert type(error_of(other, late)) is Overloaded
    bus.answer(server)
    bus.settle()
    assert body_of(engine, number) == b"done"


@pytest.mark.parametrize("planned", [False, True])
def test_p06_back_within_two_seconds(planned: bool) -> None:
    """Two hundred idle peers, whether the broker said goodbye or not."""
    bus = Bus(Limits())
    for number in range(200):
        bus.join(f"engine-{number}")
    bus.run(0.7)
    assert bus.broker is not None
    if planned:
        bus.leave()
    bus.replace()
    assert bus.run_until(lambda: attached(bus)) <= 2.0


# -- drain, takeover, close ------------------------------------------------------------------------


def test_p18_a_planned_restart_is_a_pause() -> None:
    """A draining broker finishes what is open and takes nothing new; what it turned away is
    asked again at the next one (P6, P18)."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    old = bus.ask(engine, "t", timeout=60.0)
    bus.settle()
    assert bus.broker is not None
    bus.broker.drain()
    new = bus.ask(engine, "t", timeout=60.0)
    bus.run(1.0)
    assert engine.outcomes == {}
    bus.answer(server)
    bus.settle()
    assert body_of(engine, old) == b"done"
    assert len(bus.broker.switchboard.tickets) == 0
    bus.leave()
    assert engine.session.state is State.OPENING
    bus.start()
    bus.run_until(lambda: bool(server.running))
    bus.answer(server)
    bus.settle()
    assert body_of(engine, new) == b"done"


def test_p18_a_drain_without_a_successor_ends_as_draining() -> None:
    """Its time is up before another broker is there: not run."""
    bus = Bus()
    engine, _ = both(bus)
    assert bus.broker is not None
    bus.broker.drain()
    number = bus.ask(engine, "t", timeout=1.0)
    bus.run(1.0)
    assert type(error_of(engine, number)) is Draining
    assert error_of(engine, number).executed is Executed.NO


def test_a_newer_start_takes_over() -> None:
    """The older one is told and ends; what it asked is given up, what it held is lost (P14)."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    bus.ask(engine, "t", timeout=60.0)
    bus.settle()
    old = bus.ends.pop("engine")
    bus.ends["old"] = old
    bus.join("engine", epoch=2)
    (ended,) = [effect for effect in old.seen if isinstance(effect, Ended)]
    assert type(ended.error) is Superseded
    assert error_of(old, 1).executed is Executed.MAYBE
    assert server.abandoned == list(server.running)
    del bus.ends["old"]
    bus.run(3.0)
    assert attached(bus)


def test_a_session_that_closes_leaves_nothing_at_the_broker() -> None:
    """Its requests are given up, its lanes and its name are free."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    number = bus.ask(engine, "t", timeout=60.0)
    engine.session.push("t", b"1")
    bus.settle()
    bus.carry(engine, engine.session.close(bus.now))
    bus.settle()
    assert type(error_of(engine, number)) is Cancelled
    assert server.abandoned
    assert bus.broker is not None
    assert [peer.name for peer in bus.broker.roster] == ["server"]
    assert len(bus.broker.conveyor.lanes) == 0
    assert len(bus.broker.switchboard.tickets) == 0


def test_a_full_broker_is_asked_again() -> None:
    """It says why, and takes the peer in once there is room."""
    bus = Bus(Limits(peers=1, restart_settle_s=0.0))
    bus.join("engine")
    other = bus.join("engine-2")
    bus.run(2.0)
    assert type(other.session.refusal) is Overloaded
    bus.crash("engine")
    bus.run_until(lambda: other.is_open)
    assert Cause.FULL.value == 5
