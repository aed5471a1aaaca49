"""MACHINE broker: who is taken in, who is told what, who is thought alive; and sound tables."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from desks import (
    BACK,
    ENGINE,
    FRONT,
    LIMITS,
    OTHER,
    PIPE,
    SERVER,
    Desk,
    bye_of,
    changed,
    request,
)
from hypothesis import event, given
from hypothesis import strategies as st
from machines import sent

from zbus.errors import NoHandler, TargetLost
from zbus.protocol.codec import encode_manifest
from zbus.protocol.effect import BrokerEffect, Happened, Lane, Route, Send
from zbus.protocol.limits import TOPICS_MAX
from zbus.protocol.message import (
    Accept,
    Bye,
    Cancel,
    Cause,
    Chunk,
    Credit,
    Done,
    Fault,
    Heartbeat,
    Hello,
    Item,
    Key,
    Manifest,
    Offer,
    Parcel,
    Push,
    Reply,
    Role,
    Serve,
    Welcome,
)
from zbus.testing import strategies as zst
from zbus.testing.tables import broker_quarrels

# -- attaching -----------------------------------------------------------------------------------


def test_hello_is_welcomed_with_all_that_must_be_kept() -> None:
    """A session of its own each time, and the limits (spec 4.2, 5.4)."""
    desk = Desk(replace(LIMITS, heartbeat_s=0.5, body_max_bytes=9, open_requests=8, push_window=7))
    (welcome,) = sent(desk.hear(FRONT, ENGINE))
    assert welcome == Welcome(101, 100, 500, 9, 8, 7, ("ipc:///pipe",), 2**32)
    (again,) = sent(desk.hear(OTHER, ENGINE))
    assert isinstance(again, Welcome)
    assert again.session == 102


@pytest.mark.parametrize(
    "item", [Heartbeat(), request(), Reply("e", 5, 1, b"", 0), Bye(Cause.CLOSED, ""), Serve((), ())]
)
def test_a_stranger_says_hello_first(item: Item) -> None:
    """Told once for a message, and not known for it (spec 5.1)."""
    desk = Desk()
    assert bye_of(desk.hear(FRONT, item, item)) is Cause.HELLO_FIRST
    assert len(desk.broker.roster) == 0


@pytest.mark.parametrize(
    ("route", "hello"),
    [(BACK, ENGINE), (FRONT, SERVER)],
    ids=["engine at the backend", "server at the frontend"],
)
def test_role_and_socket_agree(route: Route, hello: Hello) -> None:
    """Spec 5.2."""
    desk = Desk()
    effects = desk.hear(route, hello)
    assert bye_of(effects) is Cause.DENIED
    assert any(isinstance(effect, Happened) for effect in effects)
    assert len(desk.broker.roster) == 0


EPOCHS = [
    (b"", b"", 4, Cause.SUPERSEDED),
    (b"", b"", 5, None),
    (b"", b"", 6, None),
    (b"", b"p", 6, None),
    (b"p", b"p", 4, Cause.SUPERSEDED),
    (b"p", b"p", 5, None),
    (b"p", b"p", 6, None),
    (b"p", b"", 6, Cause.NAME_TAKEN),
    (b"p", b"q", 4, Cause.NAME_TAKEN),
    (b"p", b"q", 5, Cause.NAME_TAKEN),
]


@pytest.mark.parametrize(("held", "shown", "epoch", "cause"), EPOCHS)
def test_who_may_take_a_name(held: bytes, shown: bytes, epoch: int, cause: Cause | None) -> None:
    """The proof first, then the epoch: older is refused, the same is back, newer takes over and
    the older one is told (P14, spec 5.3)."""
    desk = Desk()
    desk.hear(FRONT, changed(ENGINE, proof=held))
    effects = desk.hear(OTHER, changed(ENGINE, proof=shown, epoch=epoch))
    peer = desk.broker.roster.named("e")
    assert peer is not None
    if cause is not None:
        assert bye_of(effects) is cause
        assert (peer.epoch, peer.route) == (5, FRONT)
        return
    assert (peer.epoch, peer.route) == (epoch, OTHER)
    told = [effect for effect in effects if isinstance(effect, Send) and effect.to == FRONT]
    assert [effect.parcel.item.cause for effect in told if isinstance(effect.parcel.item, Bye)] == (
        [Cause.SUPERSEDED] if epoch > 5 else []
    )
    assert len(told) == (epoch > 5)
    assert bye_of(desk.hear(FRONT, Heartbeat())) is Cause.HELLO_FIRST


def test_one_life_has_one_role() -> None:
    """Spec 5.2."""
    desk = Desk()
    desk.hear(FRONT, ENGINE)
    assert bye_of(desk.hear(BACK, changed(ENGINE, role=Role.SERVER))) is Cause.DENIED
    desk.hear(BACK, changed(ENGINE, role=Role.SERVER, epoch=6))
    assert len(desk.broker.roster) == 1


def test_a_full_broker_still_takes_known_lives_back() -> None:
    """Strangers are told that it is full (spec 5.4)."""
    desk = Desk().attached()
    desk.hear(OTHER, changed(ENGINE, name="third"))
    stranger = Route(Lane.FRONTEND, b"4")
    assert bye_of(desk.hear(stranger, changed(ENGINE, name="fourth"))) is Cause.FULL
    assert isinstance(sent(desk.hear(stranger, ENGINE))[0], Welcome)
    assert isinstance(sent(desk.hear(FRONT, changed(ENGINE, epoch=6)))[-1], Welcome)


def test_a_connection_is_one_peer_at_a_time() -> None:
    """Who says Hello as another leaves the first name, and what it had is lost (spec 5.3)."""
    desk = Desk().attached()
    desk.hear(FRONT, request())
    effects = desk.hear(FRONT, changed(ENGINE, name="other"))
    assert Send(BACK, Parcel(Cancel("e", 5, 1))) in effects
    assert desk.broker.roster.named("e") is None
    assert desk.broker.roster.at(FRONT) is desk.broker.roster.named("other")
    assert len(desk.broker.switchboard.tickets) == 0


def test_a_window_is_what_both_sides_allow() -> None:
    """At least one, at most the broker's."""
    desk = Desk(replace(LIMITS, window=8))
    for window, allowed in ((0, 1), (4, 4), (99, 8)):
        desk.hear(BACK, changed(SERVER, window=window))
        peer = desk.broker.roster.named("s")
        assert peer is not None
        assert peer.window == allowed


def test_a_peer_that_is_back_serves_what_it_says_now() -> None:
    """Topics that its Hello no longer names are withdrawn (spec 5.3)."""
    desk = Desk()
    desk.hear(BACK, changed(SERVER, topics=("t", "u")))
    desk.hear(BACK, changed(SERVER, topics=("u", "v")))
    assert set(desk.broker.roster.topics()) == {"u", "v"}
    desk.hear(BACK, Serve(("w",), ("u",)))
    assert set(desk.broker.roster.topics()) == {"v", "w"}


# -- who breaks the protocol ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        Welcome(1, 1, 1, 1, 1, 1, (), 0),
        Push(1, "e", 5, "t", 1, 1, (b"",), ()),
        request(source="s"),
        request(epoch=4),
        Serve(tuple(f"t{number}" for number in range(TOPICS_MAX + 1)), ()),
    ],
    ids=["Welcome", "Push", "another's name", "another life", "topics"],
)
def test_what_a_peer_may_not_say_ends_its_attachment(item: Item) -> None:
    """Bye MALFORMED, and it is forgotten; nobody else notices (P13, spec 3.3)."""
    desk = Desk().attached()
    assert bye_of(desk.hear(FRONT, item)) is Cause.MALFORMED
    assert [peer.name for peer in desk.broker.roster] == ["s"]


def test_only_pushes_count_on_the_pipe() -> None:
    """Everything else there is dropped; nobody can be told (spec 3.3)."""
    desk = Desk().attached()
    assert desk.hear(PIPE, ENGINE, request(), Bye(Cause.CLOSED, "")) == []
    peer = desk.broker.roster.named("e")
    assert peer is not None
    (push,) = sent(desk.hear(PIPE, Push(peer.session, "e", 5, "t", 1, 1, (b"",), ())))
    assert push == Push(0, "e", 5, "t", 1, 1, (b"",), ())


def test_whoever_is_cut_is_told_and_forgotten() -> None:
    """Garbage or too much that waits: also a stranger is told why (P13)."""
    desk = Desk().attached()
    desk.hear(FRONT, request())
    effects = desk.broker.cut(BACK, Cause.SLOW, "x" * 2_000, 0.0)
    assert bye_of(effects) is Cause.SLOW
    (fault,) = [item for item in sent(effects) if isinstance(item, Fault)]
    assert fault.code == TargetLost.number
    assert bye_of(desk.broker.cut(OTHER, Cause.MALFORMED, "why", 0.0)) is Cause.MALFORMED
    assert len(desk.broker.roster) == 1


KNOWN: dict[str, Item] = {
    "hello": ENGINE,
    "newer hello": changed(ENGINE, epoch=6),
    "other hello": changed(ENGINE, name="other"),
    "welcome": Welcome(1, 1, 1, 1, 1, 1, (), 0),
    "heartbeat": Heartbeat(),
    "bye": Bye(Cause.CLOSED, ""),
    "request": request(),
    "request 2": request(2),
    "wait": request(3, topic="u", flags=4),
    "own topic": request(4, topic="zbus.status"),
    "reply": Reply("e", 5, 1, b"", 0),
    "fault": Fault("e", 5, 1, 401, 2, 0, ""),
    "again": Fault("e", 5, 1, 1, 0, 0, ""),
    "unknown": Fault("e", 5, 1, 2, 0, 0, ""),
    "large": request(5, flags=16),
    "offer": Offer("e", 5, 1, encode_manifest(Manifest(2, (0, 3), 0))),
    "offer nonsense": Offer("e", 5, 1, b"x"),
    "accept": Accept("e", 5, 1, False, 0, 4, True),
    "accept reply": Accept("e", 5, 1, True, 0, 4, True),
    "chunk": Chunk("e", 5, 1, False, 0, 0, 0),
    "chunk reply": Chunk("e", 5, 1, True, 0, 0, 0),
    "done": Done("e", 5, 1),
    "cancel": Cancel("e", 5, 1),
    "push": Push(101, "e", 5, "t", 1, 1, (b"",), ()),
    "credit": Credit("e", 5, "t", 1, 0, True),
    "serve": Serve(("u",), ("t",)),
    "server": SERVER,
}


@given(
    st.lists(
        st.tuples(st.sampled_from([FRONT, BACK, OTHER, PIPE]), st.sampled_from(sorted(KNOWN))),
        max_size=25,
    )
)
def test_anybody_may_say_anything(said: list[tuple[Route, str]]) -> None:
    """In any order, on any route: never an exception, tables that agree, no busy loop, and one
    message does what its items do one by one (spec 2.3)."""
    desk, batched = Desk(), Desk()
    for route, group in itertools.groupby(said, key=lambda one: one[0]):
        items = [KNOWN[name] for _, name in group]
        apart: list[BrokerEffect] = []
        for item in items:
            unknown = desk.broker.roster.at(route) is None and not isinstance(item, Hello)
            apart += desk.hear(route, item)
            if unknown and route is not PIPE:
                break  # a stranger is told once
        assert repr(batched.hear(route, *items)) == repr(apart)
        desk.now = batched.now = desk.now + 0.3
        assert repr(desk.tick()) == repr(batched.tick())
    event(f"{len(desk.broker.roster)} peers")


@given(st.lists(st.tuples(st.sampled_from([FRONT, BACK, OTHER, PIPE]), zst.messages()), max_size=8))
def test_random_messages_leave_it_sound(said: list[tuple[Route, list[Parcel]]]) -> None:
    """Whatever well-typed items come (P13)."""
    desk = Desk().attached()
    for route, parcels in said:
        desk.broker.receive(route, parcels, desk.now)
        assert list(broker_quarrels(desk.broker)) == []
        desk.now += 0.2
        desk.tick()


# -- the rest ------------------------------------------------------------------------------------


def test_it_answers_what_is_its_own() -> None:
    """By way of its shell (spec 6.3)."""
    desk = Desk().attached()
    desk.hear(FRONT, request(1, topic="zbus.ping"), request(2, topic="zbus.nope"))
    assert sent(desk.broker.answer(Key("e", 5, 1), b"r")) == [Reply("e", 5, 1, b"r", 0)]
    (fault,) = sent(desk.broker.refuse(Key("e", 5, 2), NoHandler("why")))
    assert isinstance(fault, Fault)
    assert fault.code == NoHandler.number


def test_it_says_goodbye_to_everybody() -> None:
    """Draining, so that they come back (P18)."""
    desk = Desk().attached()
    desk.broker.gone(BACK, 0.0)
    desk.broker.drain()
    (fault,) = sent(desk.hear(FRONT, request()))
    assert isinstance(fault, Fault)
    assert sent(desk.broker.close()) == [Bye(Cause.DRAINING, "the broker is going down")]
