"""Pushes at the broker: to the lane's one server, or back to the sender's keeping (P7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import zbus.protocol.conveyor
from zbus.protocol.budget import ITEM_BYTES, Budget
from zbus.protocol.conveyor import Conveyor
from zbus.protocol.credit import InLanes, OutLanes
from zbus.protocol.effect import BrokerEffect, Lane, LaneKey, Route, Send
from zbus.protocol.limits import Limits
from zbus.protocol.message import Credit, Hello, Item, Parcel, Push, Request, Role
from zbus.protocol.policy import Grants, Rule
from zbus.protocol.roster import Peer, Roster

Said = list[tuple[str, Item]]


class Belt:
    """A conveyor over a roster, and what it said to whom."""

    def __init__(self, target_bytes: int = 10_000) -> None:
        self.roster = Roster(Budget(target_bytes, 1_000_000))
        self.conveyor = Conveyor(self.roster, Limits(push_window=8))
        self.sessions = 0
        self.now = 0.0

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
        self.effects = effects
        return [
            (effect.to.peer.decode().partition("/")[0], effect.parcel.item)
            for effect in effects
            if isinstance(effect, Send) and not isinstance(effect.parcel.item, Request)
        ]

    def push(self, sender: Peer, topic: str = "t", session: int | None = None) -> Said:
        session = sender.session if session is None else session
        item = Push(session, sender.name, sender.epoch, topic, 1, 1, (b"1", b"2"), (1, 0))
        return self.said(
            lambda effects: self.conveyor.pushed(Parcel(item, (b"f",)), self.now, effects)
        )

    def numbered(self, sender: Peer, first: int, size: int = 0) -> Said:
        """One push, with its number."""
        item = Push(sender.session, sender.name, 1, "t", first, 1, (b"x" * size,), ())
        return self.said(lambda e: self.conveyor.pushed(Parcel(item), self.now, e))

    def later(self, seconds: float) -> Said:
        """What is said once so much time has passed."""
        self.now += seconds
        return self.said(lambda effects: self.conveyor.tick(self.now, effects))

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
        assert belt.said(lambda e: belt.conveyor.pushed(Parcel(item), 0.0, e)) == []
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


# -- no room, or too fast ------------------------------------------------------------------------


def narrow(window: int, taken: int = 0, *, rewind: bool = False) -> tuple[str, Item]:
    return ("e", Credit("e", 1, "t", taken, window, rewind))


def test_p08_a_push_without_room_stays_with_its_sender() -> None:
    """It is told once; what is under way already comes back as well; once the server has settled
    what it has, the sender goes on there, with no more at once than had fitted (P7)."""
    belt = Belt(target_bytes=3 * ITEM_BYTES)
    sender, server = belt.peer("e"), belt.peer("s", "t")
    for number in (1, 2, 3):
        assert forwarded(belt.numbered(sender, number)) == "s"
    assert belt.numbered(sender, 4) == [("e", HOLD)]
    assert [type(each.parcel.item) for each in belt.effects if isinstance(each, Send)] == [
        Request,
        Credit,
    ], "the server is asked how far it has read"
    assert belt.numbered(sender, 5) == []
    assert (belt.conveyor.counts["pushes"], belt.conveyor.counts["pushes_sent_back"]) == (3, 2)
    assert belt.later(0.05) == []
    assert belt.credit(server, taken=2) == [narrow(0, 2)]
    assert belt.later(0.05) == [], "there is room, but it has something that it has not settled"
    assert belt.credit(server, taken=3) == [narrow(0, 3)]
    assert belt.later(0.05) == [narrow(5, rewind=True)]
    assert forwarded(belt.numbered(sender, 4)) == "s"
    assert belt.credit(server, taken=4) == [narrow(6, 4)]
    assert belt.conveyor.next_at() is None


def test_a_held_lane_does_not_wait_for_ever_for_what_its_server_has() -> None:
    """A handler may take long, and others need not wait for it, if there is room."""
    belt = Belt(target_bytes=3 * ITEM_BYTES)
    sender, _ = belt.peer("e"), belt.peer("s", "t")
    belt.numbered(sender, 1)
    assert belt.numbered(sender, 2, size=3 * ITEM_BYTES) == [("e", HOLD)]
    assert belt.later(0.9) == []
    assert belt.later(0.2) == [narrow(1, rewind=True)]
    server = belt.roster.named("s")
    assert server is not None
    belt.roster.budget.prove(server.backlog, server.backlog.given)
    assert forwarded(belt.numbered(sender, 2, size=3 * ITEM_BYTES)) == "s"


def test_p09_other_servers_have_room_for_their_lanes() -> None:
    """One that does not read holds up its own."""
    belt = Belt(target_bytes=ITEM_BYTES)
    sender, other = belt.peer("e"), belt.peer("f")
    belt.peer("s1", "t")
    belt.peer("s2", "t")
    assert forwarded(belt.numbered(sender, 1)) == "s1"
    assert belt.numbered(sender, 2) == [("e", HOLD)]
    assert forwarded(belt.numbered(other, 1)) == "s2"


@pytest.mark.parametrize("how", ["server back", "server lost", "server takes no more"])
def test_a_held_lane_goes_on_with_whoever_has_it_then(how: str) -> None:
    """A rewind ends the hold, whatever it is for; the hold's own end then says nothing."""
    belt = Belt(target_bytes=ITEM_BYTES)
    sender, one, _ = belt.peer("e"), belt.peer("s1", "t"), belt.peer("s2", "t")
    belt.numbered(sender, 1)
    assert belt.numbered(sender, 2) == [("e", HOLD)]
    if how == "server back":
        belt.attach(one)
        assert belt.back(one) == [narrow(1, rewind=True)]
    elif how == "server lost":
        assert belt.lose(one) == [narrow(1, rewind=True)]
    else:
        belt.serve(one, no_longer=("t",))
        assert belt.credit(one, window=0, taken=0) == [narrow(0), narrow(2, rewind=True)]
    assert forwarded(belt.numbered(sender, 1)) == ("s1" if how == "server back" else "s2")
    assert belt.later(5.0) == []


def test_a_sender_that_is_back_learns_that_its_lane_is_held() -> None:
    """It believes that a new attachment releases it; and one that is lost is told nothing."""
    belt = Belt(target_bytes=ITEM_BYTES)
    sender, _ = belt.peer("e"), belt.peer("s", "t")
    belt.numbered(sender, 1)
    belt.numbered(sender, 2)
    belt.attach(sender)
    assert belt.said(lambda e: belt.conveyor.origin_back(sender, e)) == [("e", HOLD)]
    belt.roster.remove(sender)
    belt.conveyor.origin_lost(sender)
    assert belt.later(5.0) == []
    assert belt.conveyor.next_at() is None


def test_p15_pushes_have_a_rate_and_none_is_lost() -> None:
    """Beyond it they stay with their sender until there is something in its bucket again."""
    belt = Belt()
    sender, server = belt.peer("e"), belt.peer("s", "t")
    sender.grants = Grants(Rule(push=("t",), push_rate=2))
    for number in (1, 2):
        assert forwarded(belt.numbered(sender, number)) == "s"
    assert belt.numbered(sender, 3) == [("e", HOLD)]
    belt.credit(server, taken=2)
    assert belt.later(0.4) == []
    assert belt.later(0.2) == [narrow(3, rewind=True)]
    assert forwarded(belt.numbered(sender, 3)) == "s"


class Flow:
    """A sender and a server that keep the protocol, with a belt of little room between them."""

    def __init__(self) -> None:
        self.belt = Belt(target_bytes=3 * ITEM_BYTES)
        self.sender, self.server = self.belt.peer("e"), self.belt.peer("s", "t")
        self.lanes = OutLanes("e", 1, 10_000, 10_000_000)
        self.lanes.window = 8
        self.receiver = InLanes(8, 0.0)
        self.taken: list[int] = []
        self.held = False

    def carry(self, said: Said) -> None:
        for to, item in said:
            if to == "s" and isinstance(item, Push):
                take = self.receiver.receive(Parcel(item), self.belt.now)
                if take is not None:
                    self.taken += range(take.sequence, take.sequence + len(take.bodies))
            elif isinstance(item, Credit):
                self.held = self.held or item.window == 0
                self.lanes.credit(item, self.belt.now)

    def settle(self) -> None:
        if self.taken:
            self.receiver.taken(LaneKey("e", 1, "t"), self.taken[-1])
        for parcel in self.receiver.emit():
            assert isinstance(parcel.item, Credit)
            credit = partial(self.belt.conveyor.credited, self.server, parcel.item)
            self.carry(self.belt.said(credit))

    def send(self) -> None:
        for parcel in self.lanes.emit(self.sender.session, self.belt.now):
            push = partial(self.belt.conveyor.pushed, parcel, self.belt.now)
            self.carry(self.belt.said(push))

    def server_back(self) -> None:
        self.belt.attach(self.server)
        self.carry(self.belt.back(self.server))

    def sender_back(self) -> None:
        self.belt.attach(self.sender)
        self.lanes.rewind()
        self.carry(self.belt.said(partial(self.belt.conveyor.origin_back, self.sender)))


ACTS = ["push", "push", "push", "settle", "later", "server back", "sender back"]


@given(st.lists(st.sampled_from(ACTS), max_size=80))
def test_p07_what_is_held_arrives_once_and_in_order(acts: list[str]) -> None:
    """Whatever is held, and whoever comes back, the server takes every push, in order."""
    flow = Flow()
    for act in acts:
        if act == "push":
            flow.lanes.accept("t", b"", ())
        elif act == "later":
            flow.carry(flow.belt.later(0.3))
        elif act == "settle":
            flow.settle()
        elif act == "server back":
            flow.server_back()
        else:
            flow.sender_back()
        flow.send()
    event(f"held: {flow.held}")
    for _ in range(4 * len(acts) + 4):
        flow.settle()
        flow.carry(flow.belt.later(1.1))
        flow.send()
    accepted = acts.count("push")
    assert flow.taken == list(range(1, accepted + 1))
    assert (flow.lanes.queued, flow.lanes.delivered) == (0, accepted)
    assert flow.belt.roster.budget.used == 0
