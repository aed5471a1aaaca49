"""One suite that every port must pass: the network in memory is held to ZeroMQ."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from port_worlds import (
    MARK,
    Inbox,
    IpcWorld,
    MemoryWorld,
    TcpWorld,
    World,
    closing,
    either,
    fill,
    is_sent,
    numbers,
    sizes_and_numbers,
)

from zbus.errors import AlreadyRunning, ClosedError, ConfigError, Malformed
from zbus.protocol.codec import decode
from zbus.protocol.limits import FRAMES_MAX
from zbus.testing.faults import PERFECT, Faults
from zbus.transport.port import Port, Received, Sent


class PortSuite:
    """What the suite asks of every port; a subclass says in which world."""

    def dealer_and_router(self, world: World, mark: int = 64) -> tuple[Port, Port]:
        """A DEALER of one process, connected to a ROUTER of another."""
        router = world.network("server", mark).bind_router(world.address())
        return world.network("client", mark).connect_dealer(router.endpoint), router

    def free_endpoint(self, world: World) -> str:
        """Where somebody was and nobody is."""
        endpoint = world.network("early").bind_router(world.address()).endpoint
        world.end(0)
        return endpoint

    def route_of(self, world: World, dealer: Port, inbox: Inbox) -> bytes:
        """The routing id under which this DEALER reaches the ROUTER of the inbox."""
        inbox.received.clear()
        world.settle(is_sent(dealer, b"0"))
        ((route, _),) = world.settle(inbox.holds(1))
        inbox.received.clear()
        return route

    # -- messages --------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "frames",
        [[b"one"], [b""], [b"one", b"two", b"three"], [b"", b"", b"x", b""]],
        ids=["one", "empty", "several", "some empty"],
    )
    def test_messages_are_whole(self, world: World, frames: list[bytes]) -> None:
        """A message arrives with the frames it was sent with, empty ones too."""
        dealer, router = self.dealer_and_router(world)
        world.settle(is_sent(dealer, *frames))
        ((route, received),) = world.settle(Inbox(router).holds(1))
        assert received == frames
        assert route

    def test_a_reply_goes_back_by_its_route(self, world: World) -> None:
        """What a ROUTER sends to a routing id arrives at the DEALER, which sees no routing id."""
        dealer, router = self.dealer_and_router(world)
        route = self.route_of(world, dealer, Inbox(router))
        assert router.send(route, [b"a", b"b"]) is Sent.SENT
        assert world.settle(Inbox(dealer).holds(1)) == [(b"", [b"a", b"b"])]

    def test_order_is_kept(self, world: World) -> None:
        """Messages of one connection arrive in order, each once, however often it was FULL."""
        dealer, router = self.dealer_and_router(world)
        inbox = Inbox(router)
        for number in range(300):
            sent = is_sent(dealer, b"%d" % number)
            world.settle(partial(either, sent, inbox.holds(300)))
        assert numbers(world.settle(inbox.holds(300))) == list(range(300))

    def test_pushes_arrive_in_order(self, world: World) -> None:
        """What a PUSH sends arrives at the PULL, in order and without a routing id."""
        pull = world.network("server").bind_pull(world.address())
        push = world.network("client").connect_push(pull.endpoint)
        for number in range(100):
            world.settle(is_sent(push, b"%d" % number))
        received = world.settle(Inbox(pull).holds(100))
        assert numbers(received) == list(range(100))
        assert {route for route, _ in received} == {b""}
        assert push.drain(10) == push.drain(10) == []

    def test_two_clients_are_not_mixed(self, world: World) -> None:
        """Two peers have two routing ids; each one's order is kept and its replies reach it."""
        router = world.network("server").bind_router(world.address())
        clients = [world.network(name).connect_dealer(router.endpoint) for name in ("a", "b")]
        for number in range(20):
            for index, client in enumerate(clients):
                frame = b"%d" % (100 * index + number)
                world.settle(is_sent(client, frame, b"rest"))
        received = world.settle(Inbox(router).holds(40))
        routes = {int(bytes(frames[0])) // 100: route for route, frames in received}
        for index, client in enumerate(clients):
            mine = [frames for route, frames in received if route == routes[index]]
            assert mine == [[b"%d" % (100 * index + number), b"rest"] for number in range(20)]
            assert router.send(routes[index], [b"%d" % index]) is Sent.SENT
            assert world.settle(Inbox(client).holds(1)) == [(b"", [b"%d" % index])]

    def test_large_frames_go_there_and_back(self, world: World) -> None:
        """A frame of a mebibyte arrives unchanged, and so does it when it is sent on."""
        dealer, router = self.dealer_and_router(world)
        large = random.Random(1).randbytes(1_048_576)
        world.settle(is_sent(dealer, b"head", large, b"", memoryview(large)[:70_000]))
        ((route, frames),) = world.settle(Inbox(router).holds(1))
        assert frames == [b"head", large, b"", large[:70_000]]
        assert router.send(route, [*frames, frames[1][5:100_000]]) is Sent.SENT
        ((_, back),) = world.settle(Inbox(dealer).holds(1))
        assert back == [*frames, large[5:100_000]]

    @pytest.mark.parametrize("size", [10, 200_000])
    def test_sent_is_copied(self, world: World, size: int) -> None:
        """What the sender does to its buffer after ``send`` does not show at the receiver."""
        dealer, router = self.dealer_and_router(world)
        buffer = bytearray(size)
        world.settle(is_sent(dealer, memoryview(buffer), b""))
        buffer[:] = b"x" * size
        ((_, frames),) = world.settle(Inbox(router).holds(1))
        assert frames[0] == bytes(size)

    def test_no_frames_are_no_message(self, world: World) -> None:
        """A message without frames is a mistake of the caller's."""
        dealer, _ = self.dealer_and_router(world)
        with pytest.raises(ValueError, match="at least one frame"):
            dealer.send(b"", [])

    def test_too_many_frames_are_refused_by_decoding(self, world: World) -> None:
        """A message of the most frames arrives; one more and it comes as what no decoder takes,
        and the next is as it should be."""
        dealer, router = self.dealer_and_router(world)
        most = [b"%d" % number for number in range(1 + FRAMES_MAX)]
        for message in (most, [*most, b"more"], [b"next"]):
            world.settle(is_sent(dealer, *message))
        received = [frames for _, frames in world.settle(Inbox(router).holds(3))]
        assert received == [most, [], [b"next"]]
        with pytest.raises(Malformed):
            decode(received[1])

    def test_an_oversize_frame_ends_the_connection(self, world: World) -> None:
        """A frame above the bound never arrives, and its sender comes back by another route."""
        dealer, router = self.dealer_and_router(world)
        inbox = Inbox(router)
        before = self.route_of(world, dealer, inbox)
        world.settle(is_sent(dealer, bytes(2_000_000)))
        world.settle(lambda: router.send(before, [b"there?"]) is Sent.GONE)
        world.settle(lambda: is_sent(dealer, b"1")() and inbox.holds(1)())
        assert {bytes(frames[0]) for _, frames in inbox.received} == {b"1"}
        assert before not in {route for route, _ in inbox.received}

    def test_a_drain_takes_no_more_than_its_limit(self, world: World) -> None:
        """``drain`` hands over at most so many messages and leaves the rest in order."""
        dealer, router = self.dealer_and_router(world)
        for number in range(10):
            world.settle(is_sent(dealer, b"%d" % number))
        drained: list[list[Received]] = []
        while sum(map(len, drained)) < 10:
            if some := world.settle(lambda: router.drain(3)):
                drained.append(some)
        assert max(map(len, drained)) <= 3
        assert numbers([message for some in drained for message in some]) == list(range(10))
        assert router.drain(0) == []

    def test_a_drain_takes_together_what_is_there(self, world: World) -> None:
        """What has arrived by then comes with one ``drain``, so that it can be worked on, and
        answered, together."""
        dealer, router = self.dealer_and_router(world)
        together = 0
        for _ in range(100):
            for number in range(10):
                world.settle(is_sent(dealer, b"%d" % number))
            received = world.settle(lambda: router.drain(100))
            together = max(together, len(received))
            if together > 5:
                break
            world.settle(Inbox(router).holds(10 - len(received)))
        assert together > 5

    def test_readable_tells_what_is_there(self, world: World) -> None:
        """``readable`` is false while nothing is there, true until all is drained, then false."""
        dealer, router = self.dealer_and_router(world)
        network = world.networks[0]
        assert not network.readable()
        for number in range(2):
            world.settle(is_sent(dealer, b"%d" % number))
        inbox: list[Received] = []
        while len(inbox) < 2:
            world.settle(network.readable)
            inbox += router.drain(1)
        assert numbers(inbox) == [0, 1]
        assert not network.readable()

    # -- full and gone ---------------------------------------------------------------------

    def test_nobody_there_is_full(self, world: World) -> None:
        """A DEALER or PUSH that is not connected keeps nothing for later: it is FULL."""
        endpoint = self.free_endpoint(world)
        network = world.network("client")
        dealer = network.connect_dealer(endpoint)
        push = network.connect_push(endpoint)
        for _ in range(3):
            assert dealer.send(b"", [b"x"]) is Sent.FULL
            assert push.send(b"", [b"x", b"y"]) is Sent.FULL

    def test_binding_may_come_after_connecting(self, world: World) -> None:
        """A DEALER finds a ROUTER that is bound later, and ``readable`` tells that it has room."""
        endpoint = self.free_endpoint(world)
        network = world.network("client")
        dealer = network.connect_dealer(endpoint)
        assert dealer.send(b"", [b"early"]) is Sent.FULL
        inbox = Inbox(world.network("server").bind_router(endpoint))
        world.settle(lambda: world.tells(network))
        assert dealer.send(b"", [b"late"]) is Sent.SENT
        ((_, frames),) = world.settle(inbox.holds(1))
        assert frames == [b"late"]

    def test_full_at_the_mark_loses_nothing(self, world: World) -> None:
        """A receiver that does not drain makes its sender FULL; every accepted message arrives,
        in order, and then ``readable`` tells that there is room."""
        dealer, router = self.dealer_and_router(world, MARK)
        accepted = fill(world, dealer, b"")
        assert accepted >= MARK
        world.told.clear()
        inbox = Inbox(router)
        assert sizes_and_numbers(world.settle(inbox.holds(accepted))) == list(range(accepted))
        world.settle(lambda: world.tells(world.networks[1]))
        assert dealer.send(b"", [b"x"]) is Sent.SENT
        world.settle(inbox.holds(accepted + 1))

    def test_a_full_peer_does_not_fill_the_others(self, world: World) -> None:
        """A ROUTER is FULL for the peer that does not drain, and for nobody else; what it has
        accepted arrives."""
        router = world.network("server", MARK).bind_router(world.address())
        slow, quick = (
            world.network(name, MARK).connect_dealer(router.endpoint) for name in ("slow", "quick")
        )
        inbox = Inbox(router)
        to_slow = self.route_of(world, slow, inbox)
        to_quick = self.route_of(world, quick, inbox)
        accepted = fill(world, router, to_slow)
        assert router.send(to_quick, [b"0"]) is Sent.SENT
        assert numbers(world.settle(Inbox(quick).holds(1))) == [0]
        received = world.settle(Inbox(slow).holds(accepted))
        assert sizes_and_numbers(received) == list(range(accepted))
        world.settle(is_sent(router, b"more", to=to_slow))

    @pytest.mark.parametrize("route", [b"", b"nobody", b"\0\1\2\3\4"])
    def test_an_unknown_route_is_gone(self, world: World, route: bytes) -> None:
        """A ROUTER says GONE for a routing id that nobody has, and stays in step."""
        dealer, router = self.dealer_and_router(world)
        known = self.route_of(world, dealer, Inbox(router))
        assert router.send(route, [known, b"x"]) is Sent.GONE
        assert router.send(known, [b"y"]) is Sent.SENT
        assert world.settle(Inbox(dealer).holds(1)) == [(b"", [b"y"])]

    def test_the_route_of_a_dead_peer_is_gone(self, world: World) -> None:
        """Within a bound after a peer has closed, its routing id is GONE and stays so."""
        dealer, router = self.dealer_and_router(world)
        route = self.route_of(world, dealer, Inbox(router))
        world.end(1)
        world.settle(lambda: router.send(route, [b"x"]) is Sent.GONE)
        assert router.send(route, [b"x"]) is Sent.GONE

    # -- connecting again ------------------------------------------------------------------

    def test_a_new_connection_has_a_new_route(self, world: World) -> None:
        """The same process that connects again has another routing id, and the old is GONE."""
        dealer, router = self.dealer_and_router(world)
        inbox = Inbox(router)
        before = self.route_of(world, dealer, inbox)
        dealer.close()
        again = world.networks[1].connect_dealer(router.endpoint)
        after = self.route_of(world, again, inbox)
        assert after != before
        world.settle(lambda: router.send(before, [b"x"]) is Sent.GONE)
        assert router.send(after, [b"x"]) is Sent.SENT

    def test_a_dealer_comes_back_by_itself(self, world: World) -> None:
        """When the other end is bound again, by another process, a DEALER connects to it."""
        dealer, router = self.dealer_and_router(world)
        endpoint = router.endpoint
        self.route_of(world, dealer, Inbox(router))
        world.end(0)
        world.settle(lambda: dealer.send(b"", [b"1"]) is Sent.FULL)
        inbox = Inbox(world.network("heir").bind_router(endpoint))
        route = self.route_of(world, dealer, inbox)
        assert inbox.port.send(route, [b"welcome"]) is Sent.SENT
        assert world.settle(Inbox(dealer).holds(1)) == [(b"", [b"welcome"])]

    def test_what_arrives_of_a_closed_sender_is_a_prefix(self, world: World) -> None:
        """Of what was accepted before its sender closed, only a suffix can be missing."""
        dealer, router = self.dealer_and_router(world)
        inbox = Inbox(router)
        route = self.route_of(world, dealer, inbox)
        accepted = 0
        while accepted < 50 and dealer.send(b"", [b"%d" % accepted]) is Sent.SENT:
            accepted += 1
        dealer.close()
        world.settle(lambda: router.send(route, [b"x"]) is Sent.GONE)
        inbox.holds(accepted)()
        assert numbers(inbox.received) == list(range(len(inbox.received)))

    # -- addresses and closing -------------------------------------------------------------

    def test_a_taken_address_is_refused(self, world: World) -> None:
        """A second bind of an address is refused, and the first does not notice."""
        dealer, router = self.dealer_and_router(world)
        intruder = world.network("intruder")
        for bind in (intruder.bind_router, intruder.bind_pull):
            with pytest.raises(AlreadyRunning, match="somebody listens there"):
                bind(router.endpoint)
        self.route_of(world, dealer, Inbox(router))
        late = world.network("late").connect_dealer(router.endpoint)
        self.route_of(world, late, Inbox(router))

    def test_a_port_may_be_bound_in_several_places(self, world: World) -> None:
        """A ROUTER hears whoever connects to any of its endpoints; if one is taken, it is not
        opened and the others stay free."""
        first, second = world.address(), world.address()
        router = world.network("server").bind_router(first, second)
        with pytest.raises(AlreadyRunning):
            world.network("intruder").bind_router(spare := world.address(), router.endpoint)
        world.network("other").bind_pull(spare)
        places = {router.endpoint} if second.endswith(":0") else {first, second}
        for place in sorted(places):
            self.route_of(world, world.network(place).connect_dealer(place), Inbox(router))
        with pytest.raises(ConfigError, match="none was given"):
            world.network("nowhere").bind_router()

    def test_a_closed_network_frees_its_address(self, world: World) -> None:
        """After a network is closed, its address can be bound at once."""
        _, router = self.dealer_and_router(world)
        world.end(0)
        again = world.network("heir").bind_router(router.endpoint)
        assert again.endpoint == router.endpoint

    def test_closing_twice_is_closing_once(self, world: World) -> None:
        """A closed port says GONE and has nothing, a closed network opens nothing, and closing
        either again does nothing."""
        dealer, router = self.dealer_and_router(world)
        route = self.route_of(world, dealer, Inbox(router))
        for port in (dealer, router):
            port.close()
            port.close()
            assert port.send(route, [b"x"]) is Sent.GONE
            assert port.send(route, [b"x", b"y"]) is Sent.GONE
            assert port.drain(10) == []
        for network in world.networks:
            assert not network.readable()
            network.close()
            network.close()
            network.wake()
            with pytest.raises(ClosedError):
                network.connect_dealer(dealer.endpoint)


class TestIpc(PortSuite):
    @pytest.fixture
    def world(self, runtime_dir: Path) -> Iterator[World]:
        yield from closing(IpcWorld(runtime_dir))


class TestTcp(PortSuite):
    @pytest.fixture
    def world(self) -> Iterator[World]:
        yield from closing(TcpWorld())


class TestMemory(PortSuite):
    @pytest.fixture(params=["perfect", "slow"])
    def world(self, request: pytest.FixtureRequest) -> Iterator[World]:
        """``slow`` delays and loses, and ends no connection that nobody asks it to end."""
        slow = Faults(
            delay_min_s=0.001,
            delay_max_s=0.1,
            slow_probability=0.1,
            slow_max_s=1.0,
            connect_max_s=0.5,
            vanish_probability=1.0,
            notice_max_s=1.0,
        )
        faults = slow if request.param == "slow" else PERFECT
        yield from closing(MemoryWorld(replace(faults, receive_mark=64)))
