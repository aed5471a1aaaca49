"""The simulated network breaks no promise that ZeroMQ keeps, and repeats itself by seed."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from stories import CLIENTS, PLACE, Pair, Story, any_faults, seeds, told

from zbus.testing.clock import VirtualClock
from zbus.testing.fabric import MemoryFabric
from zbus.testing.faults import PERFECT, ROUGH, Faults
from zbus.testing.network import MemoryNetwork
from zbus.testing.plug import Traced
from zbus.transport.port import Received, Sent


def test_everything_happens() -> None:
    """A bad day has every kind of event, or the other tests show nothing."""
    happened: set[str] = set()
    for seed in range(20):
        happened |= set(told(seed, replace(ROUGH, send_mark=3)).fabric.happened)
    assert happened == set(
        "open close connect send arrive full break vanish learn cut heal stall resume crash".split()
    )


@given(seeds, any_faults())
def test_what_arrives_is_a_prefix_of_what_was_sent(seed: int, faults: Faults) -> None:
    """Per connection and direction messages arrive whole, in order, each once, and whatever is
    missing is missing at the end; nobody else's message is among them."""
    story = told(seed, faults)
    story.calm()
    speaker: dict[bytes, str] = {}
    for route, heard in story.heard.items():
        speaker[route] = heard[0][0]
        assert heard == [(speaker[route], number) for number in range(len(heard))]
        assert len(heard) <= story.asked[route]
    replies: defaultdict[bytes, list[int]] = defaultdict(list)
    for who, replied in story.replied.items():
        for route, number in replied:
            assert speaker[route] == who
            replies[route].append(number)
    for route, numbers in replies.items():
        assert numbers == list(range(len(numbers)))
        assert len(numbers) <= story.answered[route]


@given(seeds, any_faults())
def test_after_the_faults_everybody_is_connected(seed: int, faults: Faults) -> None:
    """When all is healed the network comes to rest, and then every message and every reply to it
    arrives at once."""
    story = told(seed, faults)
    story.calm()
    before = {who: len(story.replied[who]) for who in CLIENTS}
    for who in CLIENTS:
        for _ in range(5):
            story.ask(who)
    story.settle()
    assert {who: len(story.replied[who]) - before[who] for who in CLIENTS} == dict.fromkeys(
        CLIENTS, 5
    )


@given(seeds, any_faults())
def test_a_seed_tells_one_story(seed: int, faults: Faults) -> None:
    """The same seed gives the same trace to the last event."""
    one, other = told(seed, faults), told(seed, faults)
    assert one.fabric.trace == other.fabric.trace
    assert one.heard == other.heard


def test_another_seed_tells_another_story() -> None:
    """Chance does have a say."""
    traces = {tuple(told(seed, ROUGH).fabric.trace) for seed in range(10)}
    assert len(traces) == 10


def test_a_perfect_network_loses_nothing() -> None:
    """Without faults every message arrives, in the moment in which it is sent."""
    story = Story(1, PERFECT)
    story.settle()
    for _ in range(50):
        for who in CLIENTS:
            story.ask(who)
        story.settle()
    assert story.fabric.clock.now == 0.0
    assert {len(heard) for heard in story.heard.values()} == {50}
    assert {len(replied) for replied in story.replied.values()} == {50}


# -- one thing at a time -------------------------------------------------------------------


def test_delays_keep_the_order() -> None:
    """A message that takes long holds up those behind it, and each takes at least its time."""
    pair = Pair(Faults(delay_min_s=0.1, delay_max_s=0.2, slow_probability=0.5, slow_max_s=5.0))
    for number in range(20):
        pair.ask(b"%d" % number)
    pair.after(0.099)
    assert pair.hear() == []
    heard: list[Received] = []
    while (at := pair.fabric.next_at()) is not None:
        pair.fabric.advance(at)
        heard += pair.hear()
    assert [int(bytes(frames[0])) for _, frames in heard] == list(range(20))


def test_each_side_learns_in_its_own_time() -> None:
    """Until a side learns that the connection has ended it sends, and that vanishes; the two
    learn at different times, and one may connect again while the other knows nothing."""
    differed = 0
    for seed in range(20):
        pair = Pair(Faults(notice_max_s=1.0))
        pair.fabric._chance.seed(seed)
        assert pair.fabric.drop_connections("a", "server") == 1
        assert pair.fabric.drop_connections("a", "server") == 0
        assert (pair.ask(b"lost"), pair.answer()) == (Sent.SENT, Sent.SENT)
        for _ in range(100):
            pair.after(0.01)
            differed += pair.answer() is Sent.SENT and pair.ask(b"again") is Sent.SENT
        pair.after(0.1)
        assert pair.answer() is Sent.GONE
        heard = pair.hear()
        assert pair.route not in {route for route, _ in heard}
        assert b"lost" not in [frames[0] for _, frames in heard]
    assert differed


def test_a_half_open_connection_is_noticed_late() -> None:
    """A side that is told nothing sends into the void until keepalive gives up, up to its mark."""
    pair = Pair(Faults(half_open_probability=1.0, half_open_s=15.0, send_mark=5))
    pair.fabric.drop_connections("a", "server")
    assert [pair.ask() for _ in range(6)] == [Sent.SENT] * 5 + [Sent.FULL]
    pair.after(14.9)
    assert pair.ask() is Sent.FULL
    assert pair.hear() == []
    pair.after(0.2)
    assert pair.ask() is Sent.SENT
    pair.after(0.0)
    assert len(pair.hear()) == 1


def test_a_cut_holds_one_direction() -> None:
    """A cut in one direction holds what goes there and nothing else; healed, it arrives."""
    pair = Pair()
    pair.fabric.cut("a", "server", both_ways=False)
    assert (pair.ask(b"held"), pair.answer()) == (Sent.SENT, Sent.SENT)
    pair.after(10.0)
    assert pair.hear() == []
    assert pair.dealer.drain(9) == [(b"", [b"y"])]
    pair.fabric.heal()
    pair.after(0.0)
    assert pair.hear() == [(pair.route, [b"held"])]


def test_a_cut_that_lasts_ends_connections() -> None:
    """After its time both sides learn, what was held is lost, and nobody connects before the
    cut is healed. A cut that was healed in between starts anew."""
    pair = Pair(Faults(cut_breaks_s=15.0))
    pair.fabric.cut("a", "server")
    pair.after(10.0)
    pair.fabric.heal()
    pair.after(0.0)
    pair.fabric.cut("a", "server")
    assert pair.ask(b"lost") is Sent.SENT
    pair.after(14.0)
    assert pair.answer() is Sent.SENT
    pair.after(2.0)
    assert (pair.ask(), pair.answer()) == (Sent.FULL, Sent.GONE)
    pair.after(100.0)
    assert pair.ask() is Sent.FULL
    pair.fabric.heal()
    pair.after(0.0)
    assert pair.ask(b"again") is Sent.SENT
    pair.after(0.0)
    assert [frames for _, frames in pair.hear()] == [[b"again"]]


@pytest.mark.parametrize("direction", [("a", "server"), ("server", "a")])
def test_nobody_connects_across_a_cut(direction: tuple[str, str]) -> None:
    """A connection needs both directions."""
    fabric = MemoryFabric(random.Random(1), VirtualClock())
    MemoryNetwork(fabric, "server").bind_router(PLACE)
    fabric.cut(*direction, both_ways=False)
    dealer = MemoryNetwork(fabric, "a").connect_dealer(PLACE)
    fabric.advance(100.0)
    assert dealer.send(b"", [b"x"]) is Sent.FULL
    fabric.heal()
    fabric.advance(100.0)
    assert dealer.send(b"", [b"x"]) is Sent.SENT


def test_what_vanishes_is_any_suffix() -> None:
    """Of ten messages under way at the end of a connection, none may arrive, or all, or some
    first ones."""
    arrived: set[int] = set()
    for seed in range(60):
        pair = Pair(Faults(vanish_probability=0.9, delay_min_s=0.5))
        pair.fabric._chance.seed(seed)
        for number in range(10):
            pair.ask(b"%d" % number)
        pair.fabric.drop_connections("a", "server")
        pair.after(1.0)
        numbers = [int(bytes(frames[0])) for _, frames in pair.hear()]
        assert numbers == list(range(len(numbers)))
        arrived.add(len(numbers))
    assert {0, 10} < arrived
    assert len(arrived) > 5


def test_what_had_no_room_to_arrive_is_lost_with_the_connection() -> None:
    """What still waits for the receiver to drain when it learns of the end never arrives."""
    pair = Pair(Faults(receive_mark=1))
    for number in range(3):
        pair.ask(b"%d" % number)
    pair.after(1.0)
    pair.fabric.drop_connections("a", "server")
    pair.after(1.0)
    assert pair.answer() is Sent.GONE
    assert [frames for _, frames in pair.hear()] == [[b"0"]]
    pair.after(1.0)
    assert pair.hear() == []


def test_nothing_arrives_at_a_closed_socket() -> None:
    """What is under way from a connection that had ended before is not for a closed socket."""
    pair = Pair(Faults(delay_min_s=0.5))
    pair.ask()
    pair.fabric.drop_connections("a", "server")
    pair.router.close()
    pair.after(1.0)
    assert pair.hear() == []
    assert pair.fabric.happened["arrive"] == 1  # the greeting


def test_a_stalled_process_hears_and_says_nothing() -> None:
    """What goes to and from a stopped process waits for it, even the end of its connection, and
    arrives in order when it goes on."""
    pair = Pair()
    until = pair.fabric.clock.now + 5.0
    pair.fabric.stall("server", until - 2.0)
    pair.fabric.stall("server", until)
    pair.fabric.stall("server", until - 4.0)
    for number in range(3):
        assert pair.ask(b"%d" % number) is Sent.SENT
    pair.dealer.close()
    pair.after(4.9)
    assert pair.fabric.is_stalled("server")
    assert pair.hear() == []
    assert pair.answer() is Sent.SENT
    assert "server" in pair.fabric.advance(until)
    assert not pair.fabric.is_stalled("server")
    assert [bytes(frames[0]) for _, frames in pair.hear()] == [b"0", b"1", b"2"]
    assert pair.answer() is Sent.GONE


def test_a_crash_takes_what_the_process_held() -> None:
    """What a killed process had not drained is gone, its peers find out, and what starts again
    under its name is somebody new."""
    pair = Pair(Faults(notice_max_s=1.0))
    pair.ask(b"lost")
    pair.after(0.0)
    pair.fabric.crash("server")
    assert pair.hear() == []
    assert pair.answer() is Sent.GONE
    pair.after(1.0)
    assert pair.ask() is Sent.FULL
    pair.router = MemoryNetwork(pair.fabric, "server").bind_router(PLACE)
    assert pair.meet() != pair.route


def test_a_crash_ends_a_stall() -> None:
    """A process that is killed while it is stopped does not stop the one that replaces it."""
    pair = Pair()
    pair.fabric.stall("server", pair.fabric.clock.now + 100.0)
    pair.ask(b"lost")
    pair.fabric.crash("server")
    pair.router = MemoryNetwork(pair.fabric, "server").bind_router(PLACE)
    assert pair.meet() != pair.route


def test_a_receiver_that_does_not_drain_stops_its_sender() -> None:
    """At the receiver's mark messages wait under way, at the sender's it is FULL, and draining
    one lets one more arrive."""
    pair = Pair(Faults(send_mark=2, receive_mark=3))
    accepted = 0
    for _ in range(10):
        accepted += pair.ask(b"%d" % accepted) is Sent.SENT
        pair.after(0.1)
    assert accepted == 5
    assert len(pair.router.drain(1)) == 1
    assert "a" in pair.fabric.advance(pair.fabric.clock.now)
    assert pair.ask() is Sent.SENT


def test_a_refusal_for_no_reason_is_told_to_be_over() -> None:
    """A port that was FULL by chance is readable, so that whoever waits for room tries again."""
    pair = Pair()
    pair.fabric.faults = Faults(full_probability=1.0)
    assert pair.ask() is Sent.FULL
    pair.fabric.faults = PERFECT
    assert pair.dealer.look()
    assert pair.ask() is Sent.SENT


def test_kinds_that_do_not_fit_do_not_connect() -> None:
    """A PUSH finds no ROUTER, whatever the address says."""
    fabric = MemoryFabric(random.Random(1), VirtualClock())
    MemoryNetwork(fabric, "server").bind_router(PLACE)
    push = MemoryNetwork(fabric, "a").connect_push(PLACE)
    fabric.advance(10.0)
    assert push.send(b"", [b"x"]) is Sent.FULL


def test_a_trace_tells_when_what_and_who() -> None:
    """A trace can be read, and a long run can go without while it still counts."""
    pair = Pair()
    assert Traced(1.0, "send", "a/dealer to server/router", 5) in pair.fabric.trace
    assert Traced(1.0, "arrive", "a/dealer to server/router", 5) in pair.fabric.trace
    silent = MemoryFabric(random.Random(3), VirtualClock(), traced=False)
    MemoryNetwork(silent, "server").bind_router(PLACE)
    assert silent.trace == []
    assert silent.happened == {"open": 1}
