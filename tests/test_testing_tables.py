"""Tables that contradict each other are found out, and so is what is left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.broker import Broker
from zbus.protocol.budget import Backlog
from zbus.protocol.session import Session
from zbus.testing.bus import Bus
from zbus.testing.knobs import Knobs
from zbus.testing.pool import Pace
from zbus.testing.tables import (
    broker_leftovers,
    broker_quarrels,
    session_leftovers,
    session_quarrels,
)

SPOILS_OF_THE_BROKER: dict[str, Callable[[Broker], object]] = {
    "a route that leads nowhere": lambda broker: broker.roster._by_route.clear(),
    "a session that leads nowhere": lambda broker: broker.roster._by_session.clear(),
    "a peer that nobody looks after": lambda broker: broker._checks.remove(peer(broker, "e1")),
    "a name that is forgotten alone": lambda broker: broker.roster._by_name.pop("server"),
    "a server that does not serve": lambda broker: peer(broker, "server").topics.clear(),
    "a ticket without a deadline": lambda broker: broker.switchboard.tickets._deadlines.due(1e12),
    "a ticket its handler has not": lambda broker: peer(broker, "server").holds.clear(),
    "a ticket its source has not": lambda broker: peer(broker, "e1").asked.clear(),
    "more than the window": lambda broker: setattr(peer(broker, "server"), "window", 1),
    "a lane without its server": lambda broker: broker.conveyor.lanes._by_server.clear(),
    "bytes that wait for nobody": lambda broker: broker.roster.budget.give(Backlog(), 1),
    "more read than given": lambda broker: setattr(peer(broker, "e1").backlog, "given", -1),
    "a lane of nobody": lambda broker: broker.conveyor.lanes._by_origin.clear(),
}
SPOILS_OF_A_SESSION: dict[str, Callable[[Session], object]] = {
    "an accepted push that is nowhere": lambda session: add(session.out_lanes, "accepted"),
    "a delivered push that was not": lambda session: add(session.out_lanes, "delivered"),
    "a queued push that is not": lambda session: add(session.out_lanes, "queued"),
    "a taken push that is not": lambda session: add(session.in_lanes, "queued"),
    "a remembered id that is not": lambda session: add(session.answerer.memory, "count"),
}


def peer(broker: Broker, name: str):  # type: ignore[no-untyped-def]
    return broker.roster.named(name)


def add(counted: object, name: str) -> None:
    setattr(counted, name, getattr(counted, name) + 1)


@pytest.fixture
def busy() -> Iterator[Bus]:
    """A bus on which two requests run, and pushes are with a handler, waiting, and unserved."""
    dispatcher = Dispatcher()
    dispatcher.add("work", lambda body: body)
    dispatcher.add("note", lambda body: body)
    bus = Bus(1, knobs=Knobs(push_window=2, pace=Pace(hang_probability=1.0)))
    bus.server(dispatcher)
    engine = bus.engine("e1")
    for number in range(2):
        engine.submit("work", number, timeout=60.0)
    for topic in ("note", "note", "note", "nobody"):
        engine.push(topic)
    bus.run(1.0)
    return bus  # type: ignore[return-value]


def test_a_busy_bus_has_no_quarrels_but_leftovers(busy: Bus) -> None:
    """And an idle one has neither."""
    broker, engine = busy.broker.daemon.broker, busy.peers["e1"].session
    server = busy.peers["server"].session
    assert not [*broker_quarrels(broker), *session_quarrels(engine), *session_quarrels(server)]
    assert len([*broker_leftovers(broker, {"e1", "server"})]) == 1
    assert len([*session_leftovers(engine, {"note"})]) == 2
    assert len([*session_leftovers(server, {"note"})]) == 2
    busy.settle()
    assert not [*broker_leftovers(broker, {"e1", "server"})]
    assert not [*session_leftovers(engine, {"note"}), *session_leftovers(server, {"note"})]
    assert len([*session_leftovers(engine, {"note", "nobody"})]) == 1


def test_who_should_be_attached_and_is_not_is_a_leftover(busy: Bus) -> None:
    """And who should not be."""
    busy.settle()
    broker = busy.broker.daemon.broker
    assert len([*broker_leftovers(broker, {"e1", "server", "e2"})]) == 2
    assert len([*broker_leftovers(broker, {"e1"})]) == 2


@pytest.mark.parametrize("spoil", SPOILS_OF_THE_BROKER.values(), ids=SPOILS_OF_THE_BROKER)
def test_a_contradiction_at_the_broker_is_found(
    busy: Bus, spoil: Callable[[Broker], object]
) -> None:
    """Whichever table is wrong."""
    broker = busy.broker.daemon.broker
    spoil(broker)
    assert [*broker_quarrels(broker)]


@pytest.mark.parametrize("spoil", SPOILS_OF_A_SESSION.values(), ids=SPOILS_OF_A_SESSION)
def test_a_contradiction_in_a_session_is_found(
    busy: Bus, spoil: Callable[[Session], object]
) -> None:
    """Whichever count is wrong."""
    for name in ("e1", "server"):
        session = busy.peers[name].session
        spoil(session)
        assert [*session_quarrels(session)]


def test_what_strangers_asked_may_be_remembered(busy: Bus) -> None:
    """For as long as they wanted."""
    server = busy.peers["server"]
    assert server.pool is not None
    server.pool.let_go()
    busy.run(1.0)
    assert len([*session_leftovers(server.session, ())]) == 1
    assert not [*session_leftovers(server.session, (), {"e1"})]
