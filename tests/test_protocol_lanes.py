"""Which server takes which lane: every table of lanes says the same."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from zbus.protocol.lanes import LaneTable
from zbus.protocol.liveness import Pulse
from zbus.protocol.message import Credit, Role
from zbus.protocol.roster import Peer


def peer(name: str) -> Peer:
    return Peer(name, Role.SERVER, 3, b"", 4, Pulse(0.0))


def test_a_lane_is_opened_served_and_moved() -> None:
    """Found by its sender and topic, and among the lanes of its server or of nobody."""
    table, sender, one, two = LaneTable(16), peer("e"), peer("a"), peer("b")
    assert table.get(sender, "t") is None
    lane = table.open(sender, "t", one)
    assert table.get(sender, "t") is lane
    assert (table.of_server(one), table.unserved("t")) == ([lane], [])
    table.assign(lane, two)
    assert (table.load(one), table.load(two)) == (0, 1)
    table.assign(lane, None)
    assert (table.of_server(two), table.unserved("t")) == ([], [lane])
    table.assign(lane, one)
    assert (table.unserved("t"), table.of_origin(sender)) == ([], [lane])
    assert (len(table), table.count_of(sender)) == (1, 1)


def test_a_lane_may_be_opened_before_anybody_serves_it() -> None:
    """It waits for its topic."""
    table, sender = LaneTable(16), peer("e")
    lane = table.open(sender, "t", None)
    assert table.unserved("t") == [lane]
    assert table.unserved("u") == []


def test_a_sender_takes_its_lanes_with_it() -> None:
    """Served and unserved, and nobody else's."""
    table, sender, other, server = LaneTable(16), peer("e"), peer("f"), peer("a")
    table.open(sender, "t", server)
    table.open(sender, "u", None)
    kept = table.open(other, "t", server)
    table.forget_origin(sender)
    assert (table.of_server(server), table.unserved("u"), len(table)) == ([kept], [], 1)
    assert table._unserved == {}
    table.forget_origin(sender)


def test_what_the_broker_itself_says_of_a_lane_settles_nothing() -> None:
    """Hold: no window. Rewind: the broker's window, and everything again (spec 7.3)."""
    table = LaneTable(16)
    lane = table.open(peer("e"), "t", None)
    assert table.hold(lane) == Credit("e", 3, "t", 0, 0, False)
    assert table.rewind(lane) == Credit("e", 3, "t", 0, 16, True)


STEPS = st.lists(
    st.tuples(st.sampled_from("open assign free forget lost".split()), *[st.integers(0, 2)] * 3),
    max_size=40,
)


@given(STEPS)
def test_every_table_says_the_same(steps: list[tuple[str, int, int, int]]) -> None:
    """By sender, by server and unserved: after any steps each lane stands where it should, and
    nothing else does."""
    table = LaneTable(16)
    senders, servers = [peer(f"e{n}") for n in range(3)], [peer(f"s{n}") for n in range(3)]
    for verb, which, topic, to in steps:
        sender, server = senders[which], servers[to]
        lane = table.get(sender, f"t{topic}")
        if verb == "open" and lane is None:
            table.open(sender, f"t{topic}", server if to else None)
        elif verb == "assign" and lane is not None:
            table.assign(lane, server)
        elif verb == "free" and lane is not None:
            table.assign(lane, None)
        elif verb == "forget":
            table.forget_origin(sender)
        elif verb == "lost":
            for each in table.of_server(server):
                table.assign(each, servers[0] if server is not servers[0] else None)
            table.forget_server(server)
        lanes = set(table._lanes.values())
        assert all(table.get(lane.origin, lane.topic) is lane for lane in lanes)
        for who in servers:
            assert set(table.of_server(who)) == {lane for lane in lanes if lane.server is who}
        for who in senders:
            assert set(table.of_origin(who)) == {lane for lane in lanes if lane.origin is who}
        unserved = {lane for group in table._unserved.values() for lane in group}
        assert unserved == {lane for lane in lanes if lane.server is None}
        assert all(table._unserved.values())
        event(f"{len(lanes)} lanes, {len(unserved)} unserved")


def test_a_held_lane_is_narrow_and_widens_with_every_credit() -> None:
    """Its sender has no window while it is held; never more than the broker's."""
    table = LaneTable(4)
    lane = table.open(peer("e"), "t", peer("a"))
    credit = Credit("e", 3, "t", 1, 9, False)
    assert table.passed(lane, credit) is credit
    lane.narrow(0.0)
    assert (lane.held, lane.width) == (True, 1)
    assert table.passed(lane, credit).window == 0
    assert (table.rewind(lane).window, lane.held) == (2, False)
    assert [table.passed(lane, credit).window for _ in range(3)] == [3, 4, 9]


def test_a_lane_is_not_narrower_than_what_its_server_has() -> None:
    """But half as wide at most; and a settled push proves the newest mark up to it."""
    lane = LaneTable(100).open(peer("e"), "t", peer("a"))
    for number in range(1, 31):
        lane.forwarded(number, 10 * number)
    assert lane.settle(10) == 100
    assert lane.settle(5) == 0
    lane.narrow(1.0)
    assert lane.width == 20
    lane.narrow(1.0)
    assert lane.width == 10
    lane.restart()
    assert lane.settle(30) == 0
