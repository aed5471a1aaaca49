"""A stranger says what it likes, over the sockets that everybody has."""

from __future__ import annotations

from zbus.protocol.codec import encode
from zbus.protocol.message import Bye, Cause, Heartbeat, Hello, Parcel, Push, Role, Welcome
from zbus.testing.bus import Bus
from zbus.testing.knobs import Knobs
from zbus.testing.stranger import Stranger


def let_in(bus: Bus, role: Role = Role.ENGINE) -> Stranger:
    bus.strangers.add("stranger")
    stranger = Stranger(bus.stage, bus.broker)
    stranger.role = role
    stranger.begin()
    bus.run(0.1)
    return stranger


def hello(role: Role) -> Hello:
    return Hello("stranger", role, 1, (), 1, b"")


def test_it_may_say_hello_at_either_door() -> None:
    """And is welcomed there as what it says that it is, or sent away."""
    with Bus() as bus:
        stranger = let_in(bus)
        stranger.say(hello(Role.SERVER))
        bus.run(0.1)
        (refused,) = stranger.heard
        assert isinstance(refused.item, Bye)
        assert refused.item.cause is Cause.DENIED
        assert stranger.session == 0
        stranger.come_as(Role.SERVER)
        bus.run(0.1)
        stranger.say(hello(Role.SERVER))
        bus.run(0.1)
        assert isinstance(stranger.heard[-1].item, Welcome)
        assert stranger.session == stranger.heard[-1].item.session != 0


def test_it_may_shout_what_is_no_message_and_push_in_any_name() -> None:
    """The broker counts it, and nothing comes of it."""
    with Bus() as bus:
        bus.engine("e1")
        stranger = let_in(bus)
        stranger.shout([b"garbage"])
        stranger.shout([])
        stranger.push([b"garbage"])
        stranger.push(encode([Parcel(Push(7, "e1", 1, "m", 1, 1, (b"x",), ()))]))
        bus.run(0.1)
        assert bus.counters["broker.malformed"] == 2
        assert bus.counters["broker.pushes_of_no_session"] == 1


def test_it_may_not_read_and_that_costs_nobody_a_turn() -> None:
    """What is sent to it stays in its socket until it reads again."""
    with Bus(knobs=Knobs()) as bus:
        stranger = let_in(bus)
        stranger.reads = False
        stranger.say(hello(Role.ENGINE))
        bus.run(1.0)
        turns = bus.stage.turns
        bus.run(1.0)
        assert bus.stage.turns - turns < 50
        assert stranger.heard == []
        stranger.reads = True
        stranger.say(Heartbeat())
        bus.run(0.1)
        assert stranger.session


def test_what_it_says_without_a_connection_is_lost() -> None:
    """It keeps nothing, and once it is dead it says nothing."""
    with Bus() as bus:
        stranger = let_in(bus)
        bus.broker.crash()
        bus.run(1.0)
        stranger.say(hello(Role.ENGINE))
        bus.broker.begin()
        bus.run(1.0)
        stranger.crash()
        stranger.say(hello(Role.ENGINE))
        bus.run(1.0)
        assert len(bus.broker.daemon.broker.roster) == 0
