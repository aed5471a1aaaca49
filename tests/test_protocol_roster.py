"""Who is on the bus: found by name, route, session and topic, and by none of them once gone."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from zbus.protocol.effect import Lane, Route
from zbus.protocol.message import Hello, Key, Role
from zbus.protocol.roster import Peer, Roster, Ticket


def hello(name: str = "e", role: Role = Role.SERVER, epoch: int = 1) -> Hello:
    return Hello(name, role, epoch, (), 4, b"")


def route(number: int) -> Route:
    return Route(Lane.BACKEND, b"%d" % number)


def test_a_peer_is_found_by_all_that_names_it() -> None:
    """Name, newest route, newest session; the older ones lead to nobody (spec 5.3)."""
    roster = Roster()
    peer = roster.add(hello(), 4, 1.0)
    assert roster.named("e") is peer
    roster.attach(peer, route(1), 11)
    roster.attach(peer, route(2), 12)
    assert (roster.at(route(1)), roster.of_session(11)) == (None, None)
    assert (roster.at(route(2)), roster.of_session(12)) == (peer, peer)
    assert len(roster) == 1
    assert list(roster) == [peer]
    assert peer.pulse.heard == 1.0


def test_a_detached_peer_keeps_its_name_and_topics() -> None:
    """It may come back; until then nothing leads to its old connection."""
    roster = Roster()
    peer = roster.add(hello(), 4, 1.0)
    roster.attach(peer, route(1), 11)
    roster.serve(peer, ("t",), ())
    roster.detach(peer, 7.0)
    assert (peer.route, peer.detached_at) == (None, 7.0)
    assert (roster.at(route(1)), roster.of_session(11)) == (None, None)
    assert roster.named("e") is peer
    assert list(roster.serving("t")) == [peer]


def test_only_servers_are_found_by_topic() -> None:
    """An engine's topics are for requests that name it (spec 6.3)."""
    roster = Roster()
    engine = roster.add(hello("engine", Role.ENGINE), 4, 0.0)
    server = roster.add(hello("server"), 4, 0.0)
    for peer in (engine, server):
        roster.serve(peer, ("t", "u"), ())
    assert list(roster.serving("t")) == [server]
    assert list(engine.topics) == ["t", "u"]
    assert roster.topics() == {"t": ["server"], "u": ["server"]}
    roster.serve(server, ("v",), ("t", "never"))
    assert roster.topics() == {"u": ["server"], "v": ["server"]}
    assert list(roster.serving("t")) == []


def test_a_topic_taken_up_while_it_is_withdrawn_is_served() -> None:
    """What one Serve both withdraws and adds is added."""
    roster = Roster()
    server = roster.add(hello(), 4, 0.0)
    roster.serve(server, ("t",), ())
    roster.serve(server, ("t",), ("t",))
    assert list(roster.serving("t")) == [server]


def test_a_removed_peer_takes_nothing_from_its_successor() -> None:
    """The older life is forgotten after the newer one took the name."""
    roster = Roster()
    older = roster.add(hello(epoch=1), 4, 0.0)
    roster.attach(older, route(1), 11)
    roster.serve(older, ("t",), ())
    newer = roster.add(hello(epoch=2), 4, 0.0)
    roster.attach(newer, route(2), 12)
    roster.serve(newer, ("t",), ())
    roster.remove(older)
    assert roster.named("e") is newer
    assert list(roster.serving("t")) == [newer]
    assert older.route is None
    assert roster.at(route(1)) is None


def test_a_peer_owes_while_work_is_open_in_either_direction() -> None:
    """What it asked and what it holds; not what was judged already, for its session has ended
    that and beats like an idle one (P11)."""
    roster = Roster()
    peer, other = roster.add(hello(), 4, 0.0), roster.add(hello("other"), 4, 0.0)
    said = [peer.owes]
    ticket = Ticket(Key("e", 1, 1), "t", peer, 5.0)
    peer.asked[1] = ticket
    other.holds[ticket] = None
    said += [peer.owes, other.owes]
    del peer.asked[1]
    peer.judged[1] = ticket
    said.append(peer.owes)
    assert said == [False, True, True, False]


STEPS = st.lists(
    st.tuples(
        st.sampled_from("add attach detach remove serve withdraw".split()), *[st.integers(0, 3)] * 2
    ),
    max_size=40,
)


@given(STEPS)
def test_every_index_says_what_the_peers_say(steps: list[tuple[str, int, int]]) -> None:
    """After any steps: routes and sessions are those of attached peers, and topics those of
    servers, in both directions."""
    roster = Roster()
    peers: dict[int, Peer] = {}
    for session, (verb, number, topic) in enumerate(steps, 1):
        peer = peers.get(number)
        if verb == "add" and peer is None:
            role = Role.ENGINE if number == 3 else Role.SERVER
            peers[number] = roster.add(hello(f"p{number}", role), 4, 0.0)
        elif peer is None:
            continue
        elif verb == "attach":
            roster.attach(peer, route(session), session)
        elif verb == "detach":
            roster.detach(peer, 0.0)
        elif verb == "remove":
            roster.remove(peers.pop(number))
        elif verb == "serve":
            roster.serve(peer, (f"t{topic}",), ())
        elif verb == "withdraw":
            roster.serve(peer, (), (f"t{topic}",))
        attached = [peer for peer in peers.values() if peer.route is not None]
        assert set(roster) == set(peers.values())
        assert roster._by_route == {peer.route: peer for peer in attached}
        assert roster._by_session == {peer.session: peer for peer in attached}
        assert {topic: set(of) for topic, of in roster._servers.items()} == {
            topic: {
                peer for peer in peers.values() if topic in peer.topics and peer.role is Role.SERVER
            }
            for topic in {
                topic
                for peer in peers.values()
                if peer.role is Role.SERVER
                for topic in peer.topics
            }
        }
        event(f"{len(attached)} attached")
