"""Simulated peers are the real ones: asked from outside, killed, drained, and told how it ended."""

from __future__ import annotations

import pytest

from zbus.errors import (
    Backpressure,
    Cancelled,
    ClosedError,
    NoHandler,
    Overloaded,
    TargetLost,
    ZbusError,
)
from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.effect import LaneKey
from zbus.protocol.message import Role
from zbus.testing.bus import Bus
from zbus.testing.knobs import Knobs
from zbus.testing.pool import Pace
from zbus.testing.stage import Actor

SLOW = Knobs(pace=Pace(least_s=1.0, most_s=1.0))


def echoing(*topics: str) -> Dispatcher:
    dispatcher = Dispatcher()
    for topic in topics or ("echo",):
        dispatcher.add(topic, lambda body: body)
    return dispatcher


def alive(actor: Actor) -> bool:
    return actor.is_alive


def test_a_request_is_asked_and_its_value_returned() -> None:
    """``request`` raises what ``outcome`` returns; both let time pass as far as they must."""
    with Bus(knobs=SLOW) as bus:
        bus.server(echoing())
        engine = bus.engine("e1")
        before = bus.now
        assert engine.request("echo", {"a": (1, b"x")}, timeout=5.0) == {"a": (1, b"x")}
        assert bus.now - before == pytest.approx(1.0, abs=0.1)
        assert isinstance(engine.outcome("nobody", 1, timeout=5.0), NoHandler)
        with pytest.raises(NoHandler, match="nobody"):
            engine.request("nobody", 1, timeout=5.0)


def test_a_submitted_request_ends_while_time_passes() -> None:
    """Until then it has no outcome; it can be given up."""
    with Bus(knobs=SLOW) as bus:
        bus.server(echoing())
        engine = bus.engine("e1")
        one, other = (engine.submit("echo", number, timeout=5.0) for number in range(2))
        bus.run(0.5)
        assert (one.done, one.outcome) == (False, None)
        other.cancel()
        assert isinstance(other.value(), Cancelled)
        bus.run(1.0)
        assert one.done
        assert one.value() == 0


def test_somebody_is_asked_by_name_and_an_unserved_topic_can_wait() -> None:
    """As with a real peer."""
    with Bus() as bus:
        engine = bus.engine("e1")
        bus.engine("e2", echoing())
        assert engine.request("echo", 1, timeout=1.0, to="e2") == 1
        waiting = engine.submit("late", 2, timeout=30.0, unserved="wait")
        bus.run(5.0)
        assert not waiting.done
        bus.server(echoing("late"))
        bus.run(2.0)
        assert waiting.value() == 2


def test_what_is_refused_at_once_is_raised_and_counted() -> None:
    """It is no request and no push of the history."""
    with Bus(knobs=Knobs(open_requests=1, pushes=1)) as bus:
        engine = bus.engine("e1")
        engine.submit("echo", 1, timeout=1.0, unserved="wait")
        with pytest.raises(Overloaded):
            engine.submit("echo", 2, timeout=1.0)
        engine.push("m", 1)
        with pytest.raises(Backpressure):
            engine.push("m", 2)
        assert bus.history.refused == {"Overloaded": 1, "Backpressure": 1}
        assert len(bus.history.requests) == 1
        assert len(bus.history.lanes[LaneKey("e1", 1, "m")].accepted) == 1


def test_a_killed_peer_is_another_life_when_it_is_back() -> None:
    """Its requests are nobody's, its epoch is greater, and it can be asked anew."""
    with Bus(knobs=SLOW) as bus:
        server, engine = bus.server(echoing()), bus.engine("e1")
        pending = engine.submit("echo", 1, timeout=20.0)
        bus.run(0.5)
        server.crash()
        with pytest.raises(ClosedError):
            server.push("m")
        bus.run(5.0)
        assert isinstance(pending.value(), TargetLost)
        engine.restart()
        server.restart()
        bus.run(1.0)
        assert (engine.life, engine.session.identity.epoch) == (2, 2)
        assert engine.request("echo", 2, timeout=5.0) == 2
        pending.cancel()  # of an earlier life: nothing to give up
        bus.settle()


def test_a_peer_that_leaves_says_so() -> None:
    """Its open requests end as Cancelled; the broker knows at once."""
    with Bus() as bus:
        engine = bus.engine("e1")
        pending = engine.submit("echo", 1, timeout=20.0, unserved="wait")
        bus.run(0.1)
        engine.close()
        assert isinstance(pending.value(), Cancelled)
        bus.run(0.1)
        assert len(bus.broker.daemon.broker.roster) == 0
        engine.close()
        assert bus.counters["leave engine"] == 1


def test_a_session_that_was_refused_is_over_though_its_process_lives() -> None:
    """And it is known why."""
    with Bus() as bus:
        first = bus.engine("e1", manner=bus.manner(Role.ENGINE, b"mine"))
        thief = bus.engine("e1", manner=bus.manner(Role.ENGINE, b"not mine"))
        assert first.is_attached
        assert thief.is_ended
        assert thief.is_alive
        assert thief.ends == {"NameTaken": 1}
        with pytest.raises(ZbusError):
            thief.submit("echo", timeout=1.0)


def test_topics_are_withdrawn_and_served_again() -> None:
    """Also by the next life."""
    with Bus() as bus:
        server, engine = bus.server(echoing("a", "b")), bus.engine("e1")
        server.serve((), ("a",))
        bus.run(0.1)
        assert isinstance(engine.outcome("a", timeout=1.0), NoHandler)
        server.restart()
        bus.run(1.0)
        assert isinstance(engine.outcome("a", timeout=1.0), NoHandler)
        server.serve_again("a")
        server.serve_again("a")
        bus.run(0.1)
        assert engine.request("a", 1, timeout=1.0) == 1


def test_a_drained_broker_finishes_and_leaves() -> None:
    """What is open ends in its reply, and then the broker is gone; what it counted is kept."""
    with Bus(knobs=SLOW) as bus:
        bus.server(echoing())
        engine = bus.engine("e1")
        pending = engine.submit("echo", 1, timeout=20.0)
        bus.run(0.5)
        bus.broker.drain()
        draining = bus.broker.is_draining
        assert draining
        bus.run(0.3)
        assert bus.broker.is_alive
        bus.run(1.0)
        assert pending.value() == 1
        assert not alive(bus.broker)
        assert bus.broker.counts()["answers"] == 1
        bus.broker.begin()
        assert not bus.broker.is_draining
        assert engine.request("echo", 2, timeout=20.0) == 2
        assert bus.broker.counts()["answers"] == 2


def test_a_drain_ends_in_time_whatever_is_open() -> None:
    """A handler that never returns does not hold the broker."""
    with Bus(knobs=Knobs(pace=Pace(hang_probability=1.0))) as bus:
        bus.server(echoing())
        bus.engine("e1").submit("echo", 1, timeout=60.0)
        bus.run(0.5)
        bus.broker.drain(2.0)
        bus.run(1.9)
        assert bus.broker.is_alive
        bus.run(0.2)
        assert not bus.broker.is_alive


def test_brokers_have_incarnations_and_sessions_that_nobody_guesses() -> None:
    """But the same ones for the same seed."""

    def tokens(seed: int) -> list[int]:
        with Bus(seed) as bus:
            first = bus.broker.daemon.broker.incarnation
            bus.engine("e1")
            session = bus.peers["e1"].session.attachment.grant.session
            bus.broker.restart()
            return [first, session, bus.broker.daemon.broker.incarnation]

    assert tokens(1) == tokens(1)
    assert len({*tokens(1), *tokens(2)}) == 6
    assert all(token > 1_000_000 for token in tokens(1))
