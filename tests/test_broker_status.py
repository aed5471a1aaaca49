"""What a broker says of itself: zbus/broker/status.py, over the machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.status import answer_to
from zbus.errors import NoHandler
from zbus.peer.body import decode_body, encode_body
from zbus.protocol.broker import Broker
from zbus.protocol.effect import Lane, Route
from zbus.protocol.limits import Limits
from zbus.protocol.message import Hello, Parcel, Request, Role
from zbus.testing import strategies as zst

TOPICS = ("zbus.ping", "zbus.status", "zbus.peers", "zbus.topics", "zbus.poison")
SHELL = {"version": "1.0", "uptime_s": 2.5, "events": {"peer_attached": 1}}
LANES = {Role.ENGINE: Lane.FRONTEND, Role.SERVER: Lane.BACKEND}
INCARNATION = 7


def tokens() -> Iterator[int]:
    """Sessions that are told from everything else at a glance."""
    yield INCARNATION
    yield from range(0x3A7B_5C9D_1E2F_0001, 2**62)


def a_broker(*hellos: Hello) -> Broker:
    """A broker with these attached, each at a route that is told at a glance too."""
    broker = Broker(Limits(restart_settle_s=0.0), tokens(), pipe=("ipc:///run/pipe",))
    for number, hello in enumerate(hellos):
        route = Route(LANES[hello.role], f"\0route {number}".encode())
        broker.receive(route, [Parcel(hello)], 1.0)
    return broker


def ask(broker: Broker, name: str, number: int, topic: str) -> None:
    """A peer asks for this, for a minute."""
    peer = broker.roster.named(name)
    assert peer is not None
    assert peer.route is not None
    request = Request(name, peer.epoch, number, topic, "", 60_000, 0, 1, (), "", b"secret body", 0)
    broker.receive(peer.route, [Parcel(request)], 1.0)


def secrets_of(broker: Broker) -> set[bytes]:
    """Sessions, routing ids and proofs, in each form in which one could slip out."""
    found = {b"secret body", b"secret body".hex().encode()}
    for peer in broker.roster:
        assert peer.route is not None
        session = peer.session
        found |= {session.to_bytes(8, "big"), str(session).encode(), f"{session:x}".encode()}
        for secret in (peer.route.peer, peer.proof):
            found |= {secret, secret.hex().encode(), repr(secret)[2:-1].encode()}
    return found


@st.composite
def rosters(draw: st.DrawFn) -> list[Hello]:
    """Peers of either role with names of their own and a proof."""
    names = draw(st.lists(zst.names(), unique=True, min_size=1, max_size=5))
    served = st.lists(zst.topics(), max_size=3).map(tuple)
    proofs = st.binary(min_size=8, max_size=32).map(lambda raw: b"\0proof " + raw)
    roles = st.sampled_from(Role)
    return [Hello(name, draw(roles), 1, draw(served), 16, draw(proofs)) for name in names]


@given(rosters())
def test_no_answer_holds_what_is_secret(hellos: list[Hello]) -> None:
    """No session, routing id, proof or body is in any answer, whoever is attached and asks."""
    broker = a_broker(*hellos)
    assert len(broker.roster) == len(hellos)
    for number, hello in enumerate(hellos, 1):
        ask(broker, hello.name, number, "nobody.serves.this")
        for other in hellos:
            for topic in other.topics[:1]:
                ask(broker, hello.name, number + 100, topic)
    secrets = secrets_of(broker)
    for topic in TOPICS:
        body, frames = encode_body(answer_to(topic, broker, SHELL))
        whole = b"".join([body, *map(bytes, frames)])
        assert [secret for secret in secrets if secret in whole] == []


@given(rosters())
def test_the_answers_are_the_roster(hellos: list[Hello]) -> None:
    """Every peer by name in order, every topic with its servers, and plain values throughout."""
    broker = a_broker(*hellos)
    peers = round_trip("zbus.peers", broker)
    assert [peer["name"] for peer in peers] == sorted(hello.name for hello in hellos)
    by_name = {peer["name"]: peer for peer in peers}
    served: dict[str, set[str]] = {}
    for hello in hellos:
        peer = by_name[hello.name]
        assert (peer["role"], peer["attached"]) == (hello.role.name.lower(), True)
        assert peer["topics"] == sorted(set(hello.topics))
        for topic in hello.topics if hello.role is Role.SERVER else ():
            served.setdefault(topic, set()).add(hello.name)
    topics = round_trip("zbus.topics", broker)
    assert {topic: set(names) for topic, names in topics.items()} == served
    assert list(topics) == sorted(topics)
    status = round_trip("zbus.status", broker)
    assert (status["peers"], status["topics"]) == (len(hellos), len(served))


def round_trip(topic: str, broker: Broker) -> Any:
    """The answer as its receiver has it."""
    return decode_body(*encode_body(answer_to(topic, broker, SHELL)))


def test_open_work_is_counted_on_both_sides() -> None:
    """Who asked and who holds; the status counts the request once."""
    server = Hello("server", Role.SERVER, 1, ("echo",), 16, b"")
    broker = a_broker(server, Hello("engine", Role.ENGINE, 1, (), 8, b""))
    ask(broker, "engine", 1, "echo")
    ask(broker, "engine", 2, "echo")
    engine, holder = round_trip("zbus.peers", broker)
    assert (engine["asked"], engine["holds"], engine["window"]) == (2, 0, 8)
    assert (holder["asked"], holder["holds"], holder["window"]) == (0, 2, 16)
    assert round_trip("zbus.status", broker)["requests"] == 2


def test_p12_what_is_in_quarantine_is_shown_and_released() -> None:
    """Who died with it and who had asked, without its body; by its number it is let go, once."""
    broker = a_broker(
        Hello("engine", Role.ENGINE, 1, (), 8, b""), Hello("server", Role.SERVER, 1, ("t",), 8, b"")
    )
    ask(broker, "engine", 1, "t")
    broker.gone(Route(Lane.BACKEND, b"\0route 1"), 1.0)
    broker.receive(
        Route(Lane.BACKEND, b"\0route 2"),
        [Parcel(Hello("server", Role.SERVER, 2, ("t",), 8, b""))],
        1.1,
    )
    ask(broker, "engine", 2, "t")
    row = {
        "number": 1,
        "topic": "t",
        "quarantined": False,
        "deaths": [{"peer": "server", "epoch": 1, "asked_by": "engine"}],
        "refused": 0,
        "digest": blake2b(b"secret body", digest_size=16).hexdigest(),
        "bytes": 11,
    }
    assert round_trip("zbus.poison", broker) == [row]
    assert round_trip("zbus.status", broker)["quarantined"] == 0
    for suspect in broker.switchboard.quarantine.suspects.values():
        suspect.quarantined = True
    assert round_trip("zbus.status", broker)["quarantined"] == 1
    assert round_trip("zbus.poison.release.2", broker) is None
    assert round_trip("zbus.poison.release.1", broker) == row | {"quarantined": True}
    for number in ("1", "", "x", "-1"):
        assert round_trip(f"zbus.poison.release.{number}", broker) is None
    assert round_trip("zbus.poison", broker) == []


def test_a_detached_peer_is_shown_as_such() -> None:
    """It holds its name still, and is not attached."""
    broker = a_broker(Hello("server", Role.SERVER, 1, ("echo",), 16, b""))
    broker.gone(Route(Lane.BACKEND, b"\0route 0"), 1.0)
    (peer,) = round_trip("zbus.peers", broker)
    assert (peer["name"], peer["attached"]) == ("server", False)


def test_status_says_that_it_drains_and_what_the_daemon_knows() -> None:
    """The shell's own words stand beside the machine's; ping has the version alone."""
    broker = a_broker()
    assert round_trip("zbus.status", broker)["draining"] is False
    broker.drain()
    status = round_trip("zbus.status", broker)
    assert status["draining"] is True
    assert status == status | SHELL
    assert status["broker"] == f"{INCARNATION:016x}"
    assert round_trip("zbus.ping", broker) == {"broker": f"{INCARNATION:016x}", "version": "1.0"}


@pytest.mark.parametrize("topic", ["zbus.", "zbus.pin", "zbus.status.all", "zbus.PING"])
def test_another_topic_has_no_handler(topic: str) -> None:
    """The error names the topic."""
    with pytest.raises(NoHandler, match=f'"{topic}"'):
        answer_to(topic, a_broker(), SHELL)
