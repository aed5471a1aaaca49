"""Pushes at the broker: to the lane's one server, or back to the sender's keeping (P7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import zbus.protocol.conveyor
from zbus.protocol.conveyor import Conveyor
from zbus.protocol.effect import BrokerEffect, Lane, Route, Send
from zbus.protocol.limits import Limits
from zbus.protocol.message import Credit, Hello, Item, Parcel, Push, Role
from zbus.protocol.roster import Peer, Roster

Said = list[tuple[str, Item]]


class Belt:
    """A conveyor over a roster, and what it said to whom."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.conveyor = Conveyor(self.roster, Limits(push_window=8))
        self.sessions = 0

    def peer(self, name: str, *topics: str, epoch: int = 1) -> Peer:
        role = Role.SERVER if name.startswith("s") else Role.ENGINE
        peer = self.roster.add(Hello(name, role, epoch, topics, 4, b""), 4, 0.0)
        self.attach(peer)
        self.roster.serve(peer, topics, ())
        return peer

    def attach(self, peer: Peer) -> None:
        self.sessions += 1
        route = Route(Lane.BACKEND, f"{peer.name}/{self.sessions}".encode())
        self.roster.attach(peer, route, self.sessions)

    def said(self, act: Callable[[list[BrokerEffect]], None]) -> Said:
        effects: list[BrokerEffect] = []
        act(effects)
        return [
            (effect.to.peer.decode().partition("/")[0], effect.parcel.item)
            for effect in effects
            if isinstance(effect, Send)
        ]

    def push(self, sender: Peer, topic: str = "t", session: int | None = None) -> Said:
        session = sender.session if session is None else session
        item = Push(session, sender.name, sender.epoch, topic, 1, 1, (b"1", b"2"), (1, 0))
        return self.said(lambda effects: self.conveyor.pushed(Parcel(item, (b"f",)), effects))

    def credit(self, server: Peer, window: int = 8, taken: int = 1, epoch: int = 1) -> Said:
        item = Credit("e", epoch, "t", taken, window, False)
        return self.said(lambda effects: self.conveyor.credited(server, item, effects))

    def serve(self, server: Peer, *topics: str, no_longer: tuple[str, ...] = ()) -> Said:
        def act(effects: list[BrokerEffect]) -> None:
            self.roster.serve(server, topics, no_longer)
            for topic in topics:
                self.conveyor.served(topic, effects)

        return self.said(act)

    def back(self, server: Peer) -> Said:
        return self.said(lambda effects: self.conveyor.server_back(server, effects))

    def lose(self, server: Peer) -> Said:
        self.roster.remove(server)
        return self.said(lambda effects: self.conveyor.server_lost(server, effects))


HOLD = Credit("e", 1, "t", 0, 0, False)
REWIND = Credit("e", 1, "t", 0, 8, True)
TAKEN = Credit("e", 1, "t", 1, 8, False)
NO_MORE = Credit("e", 1, "t", 1, 0, False)


def forwarded(said: Said) -> str:
    ((to, item),) = said
    assert isinstance(item, Push)
    return to


# -- forwarding --------------------------------------------------------------------------------


def test_a_push_goes_to_the_server_of_its_lane() -> None:
    """As it came, but for the session, which is between its sender and us (spec 7.2)."""
    belt = Belt()
    sender, _ = belt.peer("e"), belt.peer("s", "t")
    assert belt.push(sender) == [("s", Push(0, "e", 1, "t", 1, 1, (b"1", b"2"), (1, 0)))]
    assert belt.conveyor.counts["pushes"] == 2


def test_a_lane_keeps_its_server_whoever_comes() -> None:
    """Order and repeats are judged in one place; other lanes go to who has the fewest."""
    belt = Belt()
    sender, other, third = belt.peer("e"), belt.peer("f"), belt.peer("g")
    belt.peer("s1", "t")
    assert forwarded(belt.push(sender)) == "s1"
    belt.peer("s2", "t")
    assert [forwarded(belt.push(who)) for who in (sender, other, third, sender)] == [
        "s1",
        "s2",
        "s1",
        "s1",
    ]


@pytest.mark.parametrize(
    "how", ["no session", "another's session", "an old session", "another life"]
)
def test_a_push_of_no_session_is_dropped(how: str) -> None:
    """Its sender, if there is one, sends it again by itself; nobody pushes in another's name."""
    belt = Belt()
    sender, other, _ = belt.peer("e"), belt.peer("f"), belt.peer("s", "t")
    old = sender.session
    if how == "no session":
        assert belt.push(sender, session=99) == []
    elif how == "another's session":
        assert belt.push(sender, session=other.session) == []
    elif how == "an old session":
        belt.attach(sender)
        assert belt.push(sender, session=old) == []
    else:
        sender.epoch = 2
        item = Push(old, "e", 1, "t", 1, 1, (b"1", b"2"), ())
        assert belt.said(lambda e: belt.conveyor.pushed(Parcel(item), e)) == []
    assert belt.conveyor.counts["pushes_of_no_session"] == 2


# -- nobody there ------------------------------------------------------------------------------


def test_what_nobody_serves_stays_with_its_sender() -> None:
    """It is told once to keep it, and told again when somebody serves it (spec 7.3, 7.5)."""
    belt = Belt()
    sender = belt.peer("e")
    assert belt.push(sender) == [("e", HOLD)]
    assert belt.push(sender) == []
    assert belt.conveyor.counts["pushes_sent_back"] == 4
    server = belt.peer("s")
    assert belt.serve(server, "u") == []
    assert belt.serve(server, "t") == [("e", REWIND)]
    assert forwarded(belt.push(sender)) == "s"


def test_a_sender_that_is_back_learns_what_is_still_not_served() -> None:
    """It believes that a new attachment releases its lanes (spec 7.3)."""
    belt = Belt()
    sender, server = belt.peer("e"), belt.peer("s", "u")
    belt.push(sender, "t")
    belt.push(sender, "u")
    belt.attach(sender)
    back = belt.conveyor.origin_back
    assert belt.said(lambda effects: back(sender, effects)) == [("e", HOLD)]
    belt.roster.detach(sender, 0.0)
    assert belt.said(lambda effects: back(sender, effects)) == []
    belt.serve(server, "t")
    belt.attach(sender)
    assert belt.said(lambda effects: back(sender, effects)) == []
    assert forwarded(belt.push(sender, "t")) == "s"


def test_a_topic_too_many_is_held_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes are bounded; the sender keeps what has none."""
    monkeypatch.setattr(zbus.protocol.conveyor, "TOPICS_MAX", 1)
    belt = Belt()
    sender = belt.peer("e")
    belt.push(sender, "u")
    for _ in range(2):
        assert belt.push(sender, "t") == [("e", HOLD)]
    assert len(belt.conveyor.lanes) == 1


# -- servers come and go -------------------------------------------------------------------------


def test_a_lost_server_hands_its_lanes_to_another() -> None:
    """Or to their senders' keeping (spec 7.5)."""
    belt = Belt()
    sender, one, two = belt.peer("e"), belt.peer("s1", "t"), belt.peer("s2", "t")
    belt.push(sender)
    assert belt.lose(one) == [("e", REWIND)]
    assert forwarded(belt.push(sender)) == "s2"
    assert belt.lose(two) == [("e", HOLD)]
    assert belt.push(sender) == []


def test_a_server_that_is_away_keeps_its_lanes() -> None:
    """What comes meanwhile is dropped; when it is back the sender begins where it is settled."""
    belt = Belt()
    sender, one, _ = belt.peer("e"), belt.peer("s1", "t"), belt.peer("s2", "t")
    belt.push(sender)
    belt.roster.detach(one, 0.0)
    assert belt.push(sender) == []
    belt.attach(one)
    assert belt.said(lambda e: belt.conveyor.server_back(one, e)) == [("e", REWIND)]
    assert forwarded(belt.push(sender)) == "s1"


def test_a_server_that_takes_no_more_hands_the_lane_on() -> None:
    """Its last credit is passed on first, so that nothing it took is taken again (spec 7.5)."""
    belt = Belt()
    sender, one, _ = belt.peer("e"), belt.peer("s1", "t"), belt.peer("s2", "t")
    belt.push(sender)
    belt.serve(one, no_longer=("t",))
    assert belt.credit(one, window=0) == [("e", NO_MORE), ("e", REWIND)]
    assert forwarded(belt.push(sender)) == "s2"


def test_the_only_server_that_takes_no_more_leaves_the_lane_unserved() -> None:
    """Held, until it takes the topic up again."""
    belt = Belt()
    sender, server = belt.peer("e"), belt.peer("s", "t")
    belt.push(sender)
    belt.serve(server, no_longer=("t",))
    assert belt.credit(server, window=0) == [("e", NO_MORE), ("e", HOLD)]
    assert belt.serve(server, "t") == [("e", REWIND)]


def test_a_refusal_that_was_overtaken_does_not_strand_the_lane() -> None:
    """The server withdrew the topic and took it up again while its refusal was under way: it is
    the one that serves it, and the lane goes on with it."""
    belt = Belt()
    sender, server = belt.peer("e"), belt.peer("s", "t")
    belt.push(sender)
    belt.serve(server, no_longer=("t",))
    belt.serve(server, "t")
    assert belt.credit(server, window=0) == [("e", NO_MORE), ("e", REWIND)]
    assert forwarded(belt.push(sender)) == "s"


# -- credit ------------------------------------------------------------------------------------


def test_credit_counts_only_from_the_server_of_the_lane() -> None:
    """Another server's, another life's, of an unknown sender: dropped and counted (spec 7.3)."""
    belt = Belt()
    sender, one, two = belt.peer("e"), belt.peer("s1", "t"), belt.peer("s2", "t")
    belt.push(sender)
    assert belt.credit(one) == [("e", TAKEN)]
    assert belt.credit(two) == []
    assert belt.credit(one, epoch=2) == []
    assert belt.credit(sender) == []
    belt.conveyor.origin_lost(sender)
    assert belt.credit(one) == []
    belt.roster.remove(sender)
    assert belt.credit(one) == []
    assert belt.conveyor.counts["credits_of_no_lane"] == 5


def test_credit_for_a_sender_that_is_away_is_dropped() -> None:
    """It is cumulative: the next one says it all."""
    belt = Belt()
    sender, server = belt.peer("e"), belt.peer("s", "t")
    belt.push(sender)
    belt.roster.detach(sender, 0.0)
    assert belt.credit(server) == []
    assert belt.credit(server, window=0) == []


def test_a_sender_that_is_gone_takes_its_lanes_with_it() -> None:
    """Nothing is left of them with the server."""
    belt = Belt()
    sender, server = belt.peer("e"), belt.peer("s", "t")
    belt.push(sender)
    belt.push(sender, "u")
    belt.conveyor.origin_lost(sender)
    assert len(belt.conveyor.lanes) == 0
    assert belt.lose(server) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from("push back serve withdraw refuse lose away return".split()),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(STEPS)
def test_p07_a_sender_always_knows_where_its_lane_stands(steps: list[tuple[str, int]]) -> None:
    """Whatever servers do: the last word to an attached sender is hold while nobody takes its
    lane, and something else while somebody does; so no push is stuck and none sent for nothing."""
    belt = Belt()
    sender = belt.peer("e")
    servers: dict[int, Peer] = {}
    word: Item | None = None
    for verb, which in steps:
        server = servers.get(which)
        said: Said = []
        if verb == "push":
            said = belt.push(sender)
        elif verb == "back":
            belt.attach(sender)
            word = None
            said = belt.said(lambda effects: belt.conveyor.origin_back(sender, effects))
        elif server is None:
            if verb == "serve":
                server = servers[which] = belt.peer(f"s{which}")
                said = belt.serve(server, "t")
        elif verb == "serve":
            said = belt.serve(server, "t")
        elif verb == "withdraw":
            said = belt.serve(server, no_longer=("t",))
        elif verb == "refuse" and "t" not in server.topics:
            said = belt.credit(server, window=0)
        elif verb == "lose":
            said = belt.lose(servers.pop(which))
        elif verb == "away":
            belt.roster.detach(server, 0.0)
        elif verb == "return" and server.route is None:
            belt.attach(server)
            said = belt.back(server) + belt.serve(server, *server.topics)
        word = next((item for to, item in reversed(said) if to == "e"), word)
        lane = belt.conveyor.lanes.get(sender, "t")
        if lane is not None:
            assert (word == HOLD) == (lane.server is None)
            attached = [one for one in belt.roster.serving("t") if one.route is not None]
            assert lane.server is not None or not attached, "somebody serves it, nobody has it"
            event("served" if lane.server else "held")
