"""A simulated bus can be asked, disturbed, healed and judged, and repeats itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from zbus.errors import RequestError, RequestTimeout
from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.message import NO_FRAMES
from zbus.testing import ROUGH, Bus, Faults, Knobs, Violation
from zbus.testing import strategies as zst
from zbus.testing.history import Begun, Life
from zbus.testing.plug import Traced

dispatcher = Dispatcher()


@dispatcher.on("job.submit")
def submit(body: object) -> object:
    return {"accepted": body}


@given(body=zst.bodies(), faults=zst.faults(), seed=zst.seeds())
@settings(max_examples=25)
def test_submit_always_ends(body: object, faults: Faults, seed: int) -> None:
    """The example of the handbook: any body, any faults, any seed."""
    with Bus(seed=seed, faults=faults) as bus:
        bus.server(dispatcher)
        engine = bus.engine("e1")
        outcome = engine.outcome("job.submit", body, timeout=3600)
        assert isinstance(outcome, dict | RequestError)


def test_peers_are_attached_when_they_are_returned() -> None:
    """Unless somebody does not want to wait, or there is no broker."""
    with Bus() as bus:
        assert bus.server(dispatcher).is_attached
        assert not bus.engine("e1", attach=False).is_attached
        bus.broker.crash()
        before = bus.now
        assert not bus.engine("e2").is_attached
        assert bus.now - before == pytest.approx(5.0)


def test_time_passes_until_a_condition_holds_or_its_bound() -> None:
    """And it is said which."""
    with Bus() as bus:
        engine = bus.engine("e1", attach=False)
        assert bus.run_until(lambda: engine.is_attached, 60.0)
        assert bus.now < 1.0
        assert not bus.run_until(lambda: False, 10.0)
        assert bus.now == pytest.approx(10.0, abs=1.0)


def test_troubles_are_made_and_healed() -> None:
    """A cut keeps a request waiting; healing ends that, and the faults of the network."""
    with Bus(3, ROUGH, Knobs()) as bus:
        bus.server(dispatcher)
        engine = bus.engine("e1")
        bus.run_until(lambda: engine.is_attached, 30.0)
        bus.cut("e1", "broker")
        pending = engine.submit("job.submit", 1, timeout=60.0)
        bus.run(1.0)
        assert not pending.done
        bus.heal()
        bus.run(30.0)
        assert pending.value() == {"accepted": 1}
        assert bus.stage.fabric.faults != ROUGH
        assert bus.counters["cut"] == 2


def test_one_way_is_cut_alone() -> None:
    """The other goes on: pushes arrive, and their credits do not."""
    pushed = Dispatcher()
    pushed.add("m", lambda body: None)
    with Bus(knobs=Knobs()) as bus:
        server, engine = bus.server(pushed), bus.engine("e1")
        engine.push("m", 1)
        bus.run(0.5)
        bus.cut("broker", "e1", both_ways=False)
        engine.push("m", 2)
        bus.run(0.5)
        assert server.session.in_lanes.delivered == 2
        assert engine.counters.delivered == 1


def test_dropped_connections_come_back_by_themselves() -> None:
    """A peer attaches anew, in the same life."""
    with Bus(knobs=Knobs()) as bus:
        engine = bus.engine("e1")
        session = engine.session.attachment.grant.session
        bus.drop("e1")
        bus.run(5.0)
        assert engine.is_attached
        assert engine.session.attachment.grant.session != session
        assert engine.life == 1


def test_the_counters_say_what_happened_to_whom() -> None:
    """In the network, to processes, and at all lives of the broker."""
    with Bus(knobs=Knobs()) as bus:
        bus.server(dispatcher)
        engine = bus.engine("e1")
        engine.request("job.submit", 1, timeout=5.0)
        engine.stop()
        bus.run(1.0)
        engine.cont()
        bus.broker.restart()
        bus.run(5.0)
        counters = bus.counters
        assert counters["stop engine"] == counters["crash broker"] == 1
        assert counters["broker.answers"] == 1
        assert counters["broker.peer_attached"] == 4
        assert counters["send"] > 10


def test_a_broken_promise_fails_when_the_block_is_left() -> None:
    """With what was broken and how to see it again."""

    def begin_twice() -> None:
        with Bus(42) as bus:
            bus.server(dispatcher)
            bus.engine("e1").request("job.submit", 1, timeout=5.0)
            (asked,) = bus.history.requests.values()
            asked.begun.append(Begun(Life("server", 1), bus.now, asked.ask.body, NO_FRAMES, 1.0))

    with pytest.raises(Violation, match=r"(?s)P5: \[e1\.1 #1.*Bus\(seed=42, "):
        begin_twice()


def test_an_error_of_the_test_itself_carries_the_seed_as_well() -> None:
    """As a note; nothing is judged then."""
    with pytest.raises(ZeroDivisionError) as raised, Bus(43, replay="like this"):
        _ = 1 / 0
    assert raised.value.__notes__ == ["replay: like this"]


def test_settling_demands_that_everything_has_ended() -> None:
    """A lane that never settles, a peer that is never attached again: the first is named."""
    with Bus(5) as bus:
        bus.server(dispatcher)
        engine = bus.engine("e1")
        engine.submit("job.submit", 1, timeout=100.0)
        engine.stop()
        bus.broker.crash()
        bus.settle()
        assert all(asked.outcome for asked in bus.history.requests.values())
        engine.session.asker.requests._open[99] = next(iter(bus.history.requests.values())).ask
        with pytest.raises(Violation, match="e1: 1 requests are open"):
            bus.settle()


def test_one_seed_is_one_trace() -> None:
    """The same calls on the same seed, byte for byte; no trace unless it is wanted."""

    def trace(seed: int) -> list[Traced]:
        with Bus(seed, ROUGH, traced=True) as bus:
            bus.server(dispatcher)
            engine = bus.engine("e1")
            for number in range(5):
                engine.outcome("job.submit", number, timeout=5.0)
            return bus.trace

    assert trace(1) == trace(1) != trace(2)
    with Bus(1) as bus:
        bus.engine("e1")
        assert bus.trace == []


def test_who_does_not_reply_is_waited_for_exactly_as_long() -> None:
    """By the asker's own clock."""
    with Bus() as bus:
        server, engine = bus.server(dispatcher), bus.engine("e1")
        assert server.pool is not None
        server.pool.hang("job.submit")
        began = engine.now
        assert isinstance(engine.outcome("job.submit", 1, timeout=0.25), RequestTimeout)
        assert engine.now - began == pytest.approx(0.25, abs=0.001)
