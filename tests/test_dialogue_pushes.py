"""Sessions and a broker back to back: pushes are conserved, whoever is replaced (P7)."""

from __future__ import annotations

import pytest
from machines import Bus, End, attached, both

from zbus.errors import Backpressure
from zbus.protocol.limits import Limits
from zbus.protocol.session import SessionLimits

SMALL = Limits(push_window=4, restart_settle_s=0.0)


def pushed(bus: Bus, end: End, count: int, topic: str = "t") -> list[bytes]:
    """So many more pushes, each with its number."""
    first = end.session.out_lanes.accepted
    bodies = [b"%d" % number for number in range(first, first + count)]
    for body in bodies:
        end.session.push(topic, body)
    return bodies


def settled(end: End) -> bool:
    return end.session.out_lanes.queued == 0


def equation(sender: End, *servers: End) -> None:
    """accepted = delivered + dropped + queued at the sender; taken = delivered + queued at every
    server; and nothing is settled that no handler has returned from."""
    out = sender.session.out_lanes
    assert out.accepted == out.delivered + out.dropped + out.queued
    for server in servers:
        lanes = server.session.in_lanes
        assert lanes.delivered + lanes.queued == len(server.pushes)
    assert out.delivered <= sum(server.session.in_lanes.delivered for server in servers)


def test_p07_pushes_arrive_in_order_and_are_settled() -> None:
    """More than fit the window, on two topics, from both sides."""
    bus = Bus(SMALL)
    engine, server = both(bus, "t", "u")
    bodies = pushed(bus, engine, 30)
    others = pushed(bus, engine, 5, "u")
    own = pushed(bus, server, 5, "u")
    bus.run(1.0)
    assert server.bodies("t") == bodies
    assert [body for body in server.bodies("u") if body in others] == others
    assert len(server.bodies("u")) == len(others) + len(own)
    assert settled(engine)
    assert settled(server)
    equation(engine, server)


def test_p07_a_slow_server_holds_its_sender_back_and_nobody_loses_anything() -> None:
    """The window bounds what is under way, the sender's bound what waits; beyond it a push is
    refused."""
    bus = Bus(SMALL)
    engine = bus.join("engine", limits=SessionLimits(pushes=10))
    server = bus.join("server", "t", holds=True)
    bodies = pushed(bus, engine, 10)
    with pytest.raises(Backpressure):
        engine.session.push("t", b"too many")
    bus.run(5.0)
    assert server.bodies("t") == bodies[:4]
    bus.take(server, 2)
    bus.run(0.5)
    assert server.bodies("t") == bodies[:6]
    equation(engine, server)
    server.holds = False
    bus.take(server, 4)
    bus.run(1.0)
    assert server.bodies("t") == bodies
    assert settled(engine)


@pytest.mark.parametrize("planned", [False, True])
def test_p07_the_broker_is_replaced(planned: bool) -> None:
    """What was under way is lost with it; the rest is said again, each taken once, in order."""
    bus = Bus(SMALL)
    engine, server = both(bus, holds=True)
    bodies = pushed(bus, engine, 12)
    bus.run(0.3)
    bus.take(server, 3)
    bus.tick()
    equation(engine, server)
    if planned:
        bus.leave()
    bus.replace()
    equation(engine, server)
    bodies += pushed(bus, engine, 3)
    server.holds = False
    bus.run_until(lambda: attached(bus))
    bus.take(server, 10)
    bus.run_until(lambda: settled(engine))
    assert server.bodies("t") == bodies
    equation(engine, server)


def test_p07_a_server_is_replaced() -> None:
    """By another that was there, and by a new life of its own: what was settled is not taken
    again, what was not is."""
    bus = Bus(SMALL)
    engine = bus.join("engine")
    one = bus.join("server-1", "t", holds=True)
    bodies = pushed(bus, engine, 12)
    bus.run(0.3)
    two = bus.join("server-2", "t")
    bus.take(one, 3)
    bus.run(0.3)
    bus.crash("server-1")
    bus.run_until(lambda: settled(engine))
    assert one.bodies("t") == bodies[:7]
    assert two.bodies("t") == bodies[3:]
    equation(engine, one, two)
    three = bus.join("server-2", "t", epoch=2)
    more = pushed(bus, engine, 3)
    bus.run_until(lambda: settled(engine))
    assert three.bodies("t") == more


@pytest.mark.parametrize("lost", ["push", "credit", "relayed push", "relayed credit"])
def test_p07_lost_suffixes_are_made_good(lost: str) -> None:
    """Whatever vanishes with a connection, on whichever of the four ways."""
    bus = Bus(SMALL)
    engine, server = both(bus)
    bodies = pushed(bus, engine, 10)
    bus.tick()
    if lost == "push":
        engine.up.clear()
    bus.hop()
    if lost == "relayed push":
        bus.cut(server, down=9)
    bus.hop()
    bus.settle()
    bodies += pushed(bus, engine, 2)
    bus.tick()
    bus.hop()
    bus._deliver_down()
    bus.tick()
    if lost == "credit":
        bus.cut(server, up=9)
    bus.hop()
    if lost == "relayed credit":
        bus.cut(engine, down=9)
    bus.run_until(lambda: settled(engine))
    assert server.bodies("t") == bodies
    equation(engine, server)


def test_p07_a_lost_tail_is_found_by_its_sender() -> None:
    """Nothing comes behind it, and no connection was lost: after two silent intervals."""
    bus = Bus(SMALL)
    engine, server = both(bus)
    bodies = pushed(bus, engine, 3)
    bus.tick()
    engine.up.clear()
    took = bus.run_until(lambda: settled(engine))
    assert 2.0 <= took <= 2.8
    assert server.bodies("t") == bodies


def test_p07_nobody_serves_it_for_a_while() -> None:
    """Kept by the sender, across its own loss as well, and taken when somebody does."""
    bus = Bus(SMALL)
    engine = bus.join("engine")
    bodies = pushed(bus, engine, 6)
    bus.run(3.0)
    assert engine.session.out_lanes.queued == 6
    messages = bus.messages
    bus.run(3.0)
    assert bus.messages - messages < 40, "it is held, and not sent for nothing"
    bus.cut(engine)
    bus.run(2.0)
    assert engine.session.losses == 1
    bodies += pushed(bus, engine, 2)
    server = bus.join("server", "t")
    bus.run_until(lambda: settled(engine))
    assert server.bodies("t") == bodies
    equation(engine, server)


def test_p07_a_topic_is_withdrawn_while_its_pushes_are_under_way() -> None:
    """They go to the other server, or wait until it is served again; none is taken twice."""
    bus = Bus(SMALL)
    engine = bus.join("engine")
    one = bus.join("server-1", "t", holds=True)
    bodies = pushed(bus, engine, 8)
    bus.run(0.3)
    bus.serve(one, withdrawn=["t"])
    bus.run(1.0)
    bus.take(one, 4)
    bus.run(3.0)
    assert one.bodies("t") == bodies[:4]
    two = bus.join("server-2", "t")
    bus.run_until(lambda: settled(engine))
    assert two.bodies("t") == bodies[4:]
    bus.serve(two, withdrawn=["t"])
    bodies = pushed(bus, engine, 3)
    bus.run(0.5)
    bus.serve(one, ["t"])
    one.holds = False
    bus.run_until(lambda: settled(engine))
    assert one.bodies("t")[4:] == bodies


def test_p07_withdrawn_and_taken_up_again_at_once() -> None:
    """The refusal is overtaken by the new Serve, and the lane is not stranded."""
    bus = Bus(SMALL)
    engine, server = both(bus)
    pushed(bus, engine, 1)
    bus.run(0.3)
    bodies = pushed(bus, engine, 3)
    bus.tick()
    bus.hop()
    bus.serve(server, withdrawn=["t"])
    bus._deliver_down()
    bus.serve(server, ["t"])
    bus.run_until(lambda: settled(engine))
    assert server.bodies("t")[1:] == bodies


def test_p07_what_is_queued_when_a_session_ends_is_dropped_and_counted() -> None:
    """Given up with its reason, and not silently."""
    bus = Bus(SMALL)
    engine, server = both(bus, holds=True)
    pushed(bus, engine, 9)
    bus.run(0.5)
    bus.take(server, 2)
    bus.run(0.5)
    bus.carry(engine, engine.session.close(bus.now))
    out = engine.session.out_lanes
    assert (out.delivered, out.dropped, out.queued) == (2, 7, 0)
    equation(engine, server)
