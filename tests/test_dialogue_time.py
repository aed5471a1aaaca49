"""Back to back: the dead are told in time, the stalled blame nobody (P10, P11, P17)."""

from __future__ import annotations

import pytest
from machines import Bus, attached, body_of, both, error_of

from zbus.errors import Executed, RequestTimeout, TargetLost

# -- P10, P11: told in time, and nobody falsely -------------------------------------------------


@pytest.mark.parametrize("how", ["crashed", "stopped", "cut off"])
def test_p10_a_lost_handler_is_told(how: str) -> None:
    """Within three intervals, as TargetLost, may have run."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    bus.run(1.0)
    number = bus.ask(engine, "t", timeout=60.0)
    bus.settle()
    began = bus.now
    if how == "crashed":
        bus.crash("server")
    elif how == "stopped":
        server.stopped = True
    else:
        del bus.ends["server"]
    bus.run_until(lambda: number in engine.outcomes)
    assert engine.ended_at[number] - began <= 3.0
    assert type(error_of(engine, number)) is TargetLost
    assert error_of(engine, number).executed is Executed.MAYBE


def test_p10_a_verdict_waits_for_an_origin_that_is_away() -> None:
    """The handler is lost while the one who asked is off the bus: told when it is back."""
    bus = Bus()
    engine, _ = both(bus, holds=True)
    number = bus.ask(engine, "t", timeout=60.0)
    bus.settle()
    assert bus.broker is not None
    assert engine.route is not None
    bus.carry_broker(bus.broker.gone(engine.route, bus.now))
    bus.crash("server")
    bus.cut(engine)
    bus.join("server-2", "t")
    bus.run_until(lambda: number in engine.outcomes)
    assert type(error_of(engine, number)) is TargetLost


@pytest.mark.parametrize("who", ["broker", "engine", "server", "all"])
@pytest.mark.parametrize("stall_s", [0.6, 1.0, 5.0, 100.0])
def test_p11_a_stall_blames_nobody(who: str, stall_s: float) -> None:
    """Whoever was stopped: nobody else is declared dead by it when it wakes. What others made of
    its silence meanwhile is theirs, and is mended; the open request still ends in a reply where
    nobody had to give it up."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    bus.run(3.0)
    number = bus.ask(engine, "t", timeout=1_000.0)
    bus.settle()
    bus.stopped = who in ("broker", "all")
    engine.stopped = who in ("engine", "all")
    server.stopped = who in ("server", "all")
    if who == "all":
        bus.now += stall_s
    else:
        bus.run(stall_s)
    losses = engine.session.losses, server.session.losses
    bus.stopped = engine.stopped = server.stopped = False
    bus.run(0.0)
    bus.run(3.0)
    assert attached(bus)
    blamed = [event.fields for event in bus.happened if event.event == "peer_lost"]
    if who in ("broker", "all"):
        assert blamed == []
    if stall_s <= 2.0 or who in ("all",):
        assert (engine.session.losses, server.session.losses) == losses == (0, 0)
        assert blamed == []
    if server.running:
        bus.answer(server)
    bus.settle()
    if who in ("broker", "all") or stall_s <= 2.0:
        assert body_of(engine, number) == b"done"
    assert len(engine.outcomes) == 1


def test_p11_a_stalled_server_does_not_start_what_is_too_late() -> None:
    """Requests that waited through its stop for longer than they had are not begun (P2)."""
    bus = Bus()
    engine, server = both(bus, holds=True)
    bus.run(1.0)
    server.stopped = True
    late = bus.ask(engine, "t", timeout=1.0)
    early = bus.ask(engine, "t", timeout=60.0)
    bus.run(1.5)
    server.stopped = False
    bus.run(0.5)
    assert type(error_of(engine, late)) is RequestTimeout
    assert [key.number for key in server.running] == [early]


# -- P17: clocks -----------------------------------------------------------------------------------


def test_p17_only_durations_matter() -> None:
    """A machine that has just started and one that is up for ten years do the same, to the
    message and to the moment (the wall clock is nowhere in it)."""
    seen = set()
    for now in (0.0, 12_345.678, 315_360_000.0):
        bus = Bus(now=now)
        engine, server = both(bus, holds=True)
        number = bus.ask(engine, "t", timeout=2.5)
        bus.run(2.0)
        bus.answer(server)
        second = bus.ask(engine, "t", timeout=2.5)
        bus.run(3.0)
        assert body_of(engine, number) == b"done"
        assert type(error_of(engine, second)) is RequestTimeout
        seen.add((round(engine.ended_at[second] - now, 6), bus.messages))
    assert len(seen) == 1
