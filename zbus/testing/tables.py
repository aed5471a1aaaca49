"""Whether the tables of the machines agree with each other, and whether they are empty.

Rules of this room:

* It looks and changes nothing. A table may be looked at after any turn; empty it must be once all
  was healed and everything has ended.
* Tables are looked at from both of their ends: what one says of another, the other must say too.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from zbus.protocol.broker import Broker
from zbus.protocol.deadlines import Deadlines
from zbus.protocol.objects import WINDOW
from zbus.protocol.session import Session

__all__ = ["broker_leftovers", "broker_quarrels", "session_leftovers", "session_quarrels"]


def broker_quarrels(broker: Broker) -> Iterator[str]:
    """Where the broker's tables contradict each other."""
    yield from _roster_quarrels(broker)
    yield from _ticket_quarrels(broker)
    yield from _lane_quarrels(broker)
    yield from _budget_quarrels(broker)


def broker_leftovers(broker: Broker, names: set[str]) -> Iterator[str]:
    """What a broker still holds when nothing is open, and only ``names`` are attached."""
    yield from broker_quarrels(broker)
    attached = {peer.name for peer in broker.roster if peer.route is not None}
    if attached != names:
        yield f"attached are {sorted(attached)} and not {sorted(names)}"
    if len(broker.roster) != len(names):
        yield f"{len(broker.roster)} peers are known"
    tickets = broker.switchboard.tickets
    if len(tickets) or tickets._awaited:
        yield f"{len(tickets)} tickets are left, {len(tickets._awaited)} topics are awaited"
    yield from _heap_leftovers("tickets", tickets._deadlines)
    yield from _heap_leftovers("checks", broker._checks)


def session_quarrels(session: Session) -> Iterator[str]:
    """Where a session's tables contradict each other; the equation of P7 on both of its ends."""
    out, taken = session.out_lanes, session.in_lanes
    if out.accepted != out.delivered + out.dropped + out.queued:
        yield (
            f"P7: {out.accepted} accepted is not {out.delivered} delivered"
            f" + {out.dropped} dropped + {out.queued} queued"
        )
    lanes = out._lanes.values()
    if out.queued != sum(len(lane.flying) + len(lane.waiting) for lane in lanes):
        yield f"{out.queued} pushes are said to be queued, and are not"
    for lane in lanes:
        if len(lane.flying) > lane.window:
            yield f"{len(lane.flying)} pushes fly on {lane.topic}, whose window is {lane.window}"
    if taken.queued != sum(lane.next - 1 - lane.taken for lane in taken._lanes.values()):
        yield f"{taken.queued} taken pushes are said to be with handlers, and are not"
    yield from _object_quarrels(session)
    memory = session.answerer.memory
    remembered = [entry for source in memory._sources.values() for entry in source.started.values()]
    if memory.count != len(remembered) or memory.size != sum(one.size for one in remembered):
        yield f"memory says it holds {memory.count}, and holds {len(remembered)}"
    if memory.count > session.limits.remembered:
        yield f"{memory.count} ids are remembered, and {session.limits.remembered} may be"


def _object_quarrels(session: Session) -> Iterator[str]:
    """Large bodies: what may be under way, and that each of them belongs to a request."""
    objects = session.objects
    flying = sum(stream.flying for stream in objects._out.values())
    if flying != objects._flying or flying > WINDOW:
        yield f"{flying} chunks are under way, {objects._flying} are said to be"
    if objects._active_bytes != sum(objects._in[mark].size for mark in objects._active):
        yield "the large bodies that arrive are wrongly added up"
    if {*objects._waiting, *objects._active} != {*objects._in} or len(objects._active) > WINDOW:
        yield f"{len(objects._in)} large bodies neither arrive nor wait"
    if not {*objects._owed} <= {*objects._active} or not {*objects._ready} <= {*objects._out}:
        yield "something is to be said of a large body that is not there"
    for mark in [mark for mark in objects._out if not mark.reply] + [
        mark for mark in objects._in if mark.reply
    ]:
        if session.asker.requests.get(mark.number) is None:
            yield f"{mark} is under way, and its request has ended"
    for mark in [mark for mark in objects._out if mark.reply] + [
        mark for mark in objects._in if not mark.reply
    ]:
        held = session.answerer.memory.get(mark.key)
        if held is None or not held.large:
            yield f"{mark} is under way, and its request is not known"


def session_leftovers(
    session: Session, served: Container[str], strangers: Container[str] = ()
) -> Iterator[str]:
    """What a session still holds when nothing is open and long after. It keeps the pushes that
    nobody serves, and rightly so, and what strangers asked, as long as they wanted it to."""
    yield from session_quarrels(session)
    memory, asker = session.answerer.memory, session.asker
    if len(asker):
        yield f"{len(asker)} requests are open"
    for topic, lane in session.out_lanes._lanes.items():
        if topic in served and (lane.flying or lane.waiting):
            yield f"{len(lane.flying)} pushes fly and {len(lane.waiting)} wait on {topic}"
    if session.in_lanes.queued:
        yield f"{session.in_lanes.queued} pushes are with handlers"
    if session.objects.count:
        yield f"{session.objects.count} large bodies are under way"
    remembered = [name for name in memory._sources if name not in strangers]
    if memory.running or remembered:
        yield f"{memory.running} handlers run, ids of {remembered} are remembered"
    yield from _heap_leftovers("deadlines", asker.requests._deadlines)
    yield from _heap_leftovers("retries", asker.requests._retries)
    yield from _heap_leftovers("memory", memory._expiry)


def _heap_leftovers(name: str, deadlines: Deadlines[Any]) -> Iterator[str]:
    if len(deadlines._heap) > 2 * len(deadlines) + 65:
        yield f"the heap of {name} holds {len(deadlines._heap)} for {len(deadlines)}"


def _roster_quarrels(broker: Broker) -> Iterator[str]:
    roster = broker.roster
    for peer in roster:
        if peer.route is not None and roster.at(peer.route) is not peer:
            yield f"{peer.name} is not found at its route"
        if peer.route is not None and roster.of_session(peer.session) is not peer:
            yield f"{peer.name} is not found by its session"
        if peer not in broker._checks:
            yield f"nobody looks whether {peer.name} lives"
    known = set(roster)
    for what, table in (("route", roster._by_route), ("session", roster._by_session)):
        for peer in table.values():
            if peer not in known or peer.route is None:
                yield f"a {what} leads to {peer.name}, which is not attached"
    for topic, servers in roster._servers.items():
        for peer in servers:
            if peer not in known or topic not in peer.topics:
                yield f"{peer.name} is said to serve {topic}"
    if len(broker._checks) != len(known):
        yield f"{len(broker._checks)} peers are looked at, and {len(known)} known"


def _ticket_quarrels(broker: Broker) -> Iterator[str]:
    roster, tickets = broker.roster, broker.switchboard.tickets
    known = set(roster)
    asked = {ticket for peer in known for ticket in peer.asked.values()}
    held = {ticket for peer in known for ticket in peer.holds}
    for ticket in asked:
        if ticket not in tickets._deadlines:
            yield f"{ticket.key} has no deadline"
        if ticket.handler is not None and ticket not in ticket.handler.holds:
            yield f"{ticket.key} is not with its handler {ticket.handler.name}"
    for ticket in held - asked:
        yield f"{ticket.key} is held for a source that did not ask it"
    for peer in known:
        if any(ticket.handler is not peer for ticket in peer.holds):
            yield f"{peer.name} holds what is another's"
        given = sum(not ticket.asking for ticket in peer.holds)
        if given > peer.window:
            yield f"{peer.name} holds {given} with a window of {peer.window}"
    if len(tickets) != len(asked):
        yield f"{len(tickets)} tickets have a deadline, and {len(asked)} are known"
    if len(asked) > len(known) * broker.limits.open_requests:
        yield f"{len(asked)} tickets are open"


def _budget_quarrels(broker: Broker) -> Iterator[str]:
    budget = broker.roster.budget
    waiting = sum(peer.backlog.waiting for peer in broker.roster)
    if budget.used != waiting:
        yield f"{waiting} bytes wait for peers, and {budget.used} are counted"
    for peer in broker.roster:
        backlog = peer.backlog
        if not 0 <= backlog.read <= backlog.given or backlog.outbox < 0:
            yield f"{peer.name} has read what it was not given"
        if peer.route is None and backlog.waiting:
            yield f"{backlog.waiting} bytes wait for {peer.name}, which is away"


def _lane_quarrels(broker: Broker) -> Iterator[str]:
    known, lanes = set(broker.roster), broker.conveyor.lanes
    for lane in lanes._lanes.values():
        if lane.origin not in known:
            yield f"a lane of {lane.origin.name} is left, which is gone"
        if lane.server is not None and lane.server not in known:
            yield f"{lane.topic} is given to {lane.server.name}, which is gone"
        if lane.server is not None and lane not in lanes._by_server.get(lane.server, {}):
            yield f"{lane.topic} is not with its server"
        if lane.server is None and lane not in lanes._unserved.get(lane.topic, {}):
            yield f"{lane.topic} has no server, and waits for none"
    count = sum(map(len, lanes._by_server.values())) + sum(map(len, lanes._unserved.values()))
    if count != len(lanes) or sum(map(len, lanes._by_origin.values())) != len(lanes):
        yield f"{len(lanes)} lanes are known, and {count} given or waiting"
