"""MACHINE session: every state with every item, its bounds, its beats, and no busy loop."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from machines import sent

from zbus.errors import (
    Backpressure,
    Cancelled,
    ClosedError,
    InternalError,
    NoHandler,
    Overloaded,
    TooLarge,
)
from zbus.protocol.attachment import Identity, State
from zbus.protocol.codec import encode_manifest
from zbus.protocol.effect import (
    Attached,
    Detached,
    Ended,
    Happened,
    Lane,
    LaneKey,
    Reconnect,
    Resolve,
    Route,
    Send,
    SessionEffect,
    Start,
    Take,
)
from zbus.protocol.limits import FRAMES_MAX, TOPICS_MAX
from zbus.protocol.message import (
    AGAIN,
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
    Request,
    Role,
    Serve,
    Welcome,
)
from zbus.protocol.requests import Ask
from zbus.protocol.session import Session, SessionLimits
from zbus.testing import strategies as zst
from zbus.testing.tables import session_quarrels

FROM_BROKER = Route(Lane.BROKER)
WELCOME = Welcome(77, 5, 1_000, 1_000, 3, 4, ("ipc:///pipe",), 0)


def session(*topics: str, limits: SessionLimits | None = None) -> Session:
    return Session(Identity(name="e"), topics, limits)


def hear(one: Session, *items: Item, now: float = 0.0) -> list[SessionEffect]:
    return one.receive(FROM_BROKER, [Parcel(item) for item in items], now)


def opened(*topics: str, limits: SessionLimits | None = None, now: float = 0.0) -> Session:
    one = session(*topics, limits=limits)
    one.open(now)
    hear(one, WELCOME, now=now)
    return one


def in_state(state: State) -> Session:
    """A session with a request, a push and a running handler, in this state."""
    one = session("t")
    if state is not State.NEW:
        one.open(0.0)
        hear(one, WELCOME)
        one.request(Ask("x", b"", 5.0), 0.0)
        one.push("x", b"1")
        hear(one, Request("f", 1, 1, "t", "", 5_000, 0, 1, (), "", b"", 0))
        one.tick(0.0)
    if state is State.OPENING:
        hear(one, Bye(Cause.SLOW, ""))
    elif state is State.ENDED:
        one.close(0.0)
    assert one.state is state
    return one


ITEMS: dict[str, Item] = {
    "hello": Hello("f", Role.ENGINE, 1, (), 1, b""),
    "welcome": Welcome(78, 6, 500, 10, 1, 1, (), 0),
    "heartbeat": Heartbeat(),
    **{f"bye {cause.name}": Bye(cause, "why") for cause in Cause},
    "request": Request("f", 1, 2, "t", "", 5_000, 0, 1, (), "", b"", 0),
    "repeat": Request("f", 1, 1, "t", "", 5_000, 1, 1, (), "", b"", 0),
    "reply": Reply("e", 1, 1, b"", 0),
    "fault": Fault("e", 1, 1, 104, 0, 0, ""),
    "again": Fault("e", 1, 1, AGAIN, 0, 0, ""),
    "large": Request(
        "f", 1, 3, "t", "", 5_000, 16, 1, (), "", encode_manifest(Manifest(2, (0, 3), 0)), 0
    ),
    "offer": Offer("e", 1, 1, encode_manifest(Manifest(2, (0, 3), 0))),
    "offer nonsense": Offer("e", 1, 1, b"x"),
    "accept": Accept("f", 1, 1, False, 0, 4, True),
    "accept reply": Accept("f", 1, 1, True, 0, 4, True),
    "chunk": Chunk("f", 1, 1, False, 0, 0, 0),
    "chunk reply": Chunk("e", 1, 1, True, 0, 0, 0),
    "done": Done("f", 1, 1),
    "cancel": Cancel("f", 1, 1),
    "push": Push(0, "f", 1, "t", 1, 1, (b"",), ()),
    "push elsewhere": Push(0, "f", 1, "u", 1, 1, (b"",), ()),
    "credit": Credit("e", 1, "x", 1, 1, True),
    "serve": Serve(("a",), ()),
}
AFTER: dict[State, set[State]] = {
    State.NEW: {State.NEW, State.ENDED},
    State.OPENING: {State.OPENING, State.OPEN, State.ENDED},
    State.OPEN: {State.OPEN, State.OPENING, State.ENDED},
    State.ENDED: {State.ENDED},
}


def sound(one: Session, now: float) -> None:
    """Tables agree, and after a tick there is no reason to turn at once."""
    assert list(session_quarrels(one)) == []
    one.tick(now)
    wake_at = one.wake_at()
    assert (wake_at is None) == (one.state in (State.NEW, State.ENDED))
    assert wake_at is None or now < wake_at <= now + one.attachment.vigil.period


# -- every state, every item ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize("state", list(State))
def test_every_state_and_every_item(state: State, name: str) -> None:
    """A legal state follows, never an exception; only the Welcome and a Bye count before it is
    open, and after the end nothing does (spec 5.1, 5.6)."""
    one = in_state(state)
    effects = hear(one, ITEMS[name], now=0.1)
    assert one.state in AFTER[state]
    sound(one, 0.2)
    counts = state is State.OPEN or name.startswith("bye") or name == "welcome"
    if not counts or state is State.ENDED:
        assert not any(isinstance(effect, Send | Start | Take | Resolve) for effect in effects)
    if state is State.ENDED:
        assert effects == []
    if (one.state is State.ENDED) != (state is State.ENDED):
        assert type(effects[-1]) is Ended
    if name in ("hello", "serve") and state is not State.ENDED:
        assert any(isinstance(effect, Happened) for effect in effects)


@given(st.lists(zst.parcels(), max_size=20), st.data())
def test_any_items_leave_it_sound(parcels: list[Parcel], data: st.DataObject) -> None:
    """Whatever a broker says, in whatever order: legal states and tables that agree."""
    one = in_state(data.draw(st.sampled_from(State)))
    for number, parcel in enumerate(parcels, 1):
        before = one.state
        one.receive(FROM_BROKER, [parcel], number / 10)
        assert one.state in AFTER[before]
        sound(one, number / 10 + 0.05)
    event(one.state.value)


@given(st.lists(st.sampled_from(sorted(set(ITEMS) - {"bye MALFORMED"})), max_size=12), st.data())
def test_batching_does_not_change_the_effects(names: list[str], data: st.DataObject) -> None:
    """Items in one message do what they do one by one (spec 2.3)."""
    state = data.draw(st.sampled_from(State))
    together, apart = in_state(state), in_state(state)
    effects = hear(together, *(ITEMS[name] for name in names), now=0.1)
    one_by_one = [effect for name in names for effect in hear(apart, ITEMS[name], now=0.1)]
    assert repr(effects) == repr(one_by_one)
    assert together.state is apart.state


# -- attaching -----------------------------------------------------------------------------------


def test_a_welcome_says_everything_open_again() -> None:
    """Requests and unsettled pushes, with what the new broker allows."""
    one = in_state(State.OPENING)
    effects = hear(one, Welcome(78, 6, 500, 10, 1, 1, (), 0))
    (item,) = sent(effects)
    assert isinstance(item, Request)
    assert (item.number, item.flags) == (1, 1)
    (push,) = sent(one.tick(0.1))
    assert isinstance(push, Push)
    assert (push.session, push.sequence) == (78, 1)
    with pytest.raises(TooLarge):
        one.push("x", bytes(11))
    with pytest.raises(Overloaded):
        one.request(Ask("x", b"", 5.0), 0.0)


def test_what_is_asked_before_the_welcome_waits_for_it() -> None:
    """Accepted in any state but the last, and said once we are in."""
    one = session()
    assert sent(one.request(Ask("t", b"", 5.0), 0.0)) == []
    one.push("t", b"1")
    one.open(0.0)
    hear(one, WELCOME)
    assert [type(item) for item in sent(one.tick(0.1))] == [Push]


def test_our_shell_may_lose_the_broker() -> None:
    """Garbage from it, or more than can be kept for it: attach anew (spec 3.3)."""
    one = opened()
    effects = one.lose("garbage", 1.0)
    assert effects[:2] == [Detached("garbage"), Reconnect()]
    assert one.state is State.OPENING
    assert one.lose("again", 1.0) == []
    assert one.losses == 1


def test_a_session_that_ended_refuses_and_says_nothing() -> None:
    """Requests end, pushes are dropped and counted, calls raise (P1, P7)."""
    one = in_state(State.OPEN)
    effects = one.close(1.0)
    assert sent(effects) == [Bye(Cause.CLOSED, "")]
    (resolved,) = [effect for effect in effects if isinstance(effect, Resolve)]
    assert type(resolved.outcome) is Cancelled
    assert type(effects[-1]) is Ended
    assert one.out_lanes.dropped == 1
    assert one.close(1.0) == one.fail(InternalError()) == one.tick(9.0) == []
    with pytest.raises(ClosedError):
        one.request(Ask("t", b"", 5.0), 1.0)
    with pytest.raises(ClosedError):
        one.push("t", b"")
    assert sent(one.reply(Key("f", 1, 1), b"", (), 1.0)) == []
    assert one.cancel(1, 1.0) == []


def test_an_error_of_our_shell_ends_it() -> None:
    """With what it is; nothing is said."""
    one = in_state(State.OPEN)
    effects = one.fail(InternalError("the thread failed"))
    assert sent(effects) == []
    assert [type(effect.outcome) for effect in effects if isinstance(effect, Resolve)] == [
        InternalError
    ]


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "frames"),
    [(bytes(1_001), ()), (b"", (bytes(501), bytes(500))), (b"", (b"",) * (FRAMES_MAX + 1))],
    ids=["body", "frames", "count"],
)
def test_what_is_too_large_is_refused_before_it_is_sent(
    body: bytes, frames: tuple[bytes, ...]
) -> None:
    """Requests, pushes and replies, against what the Welcome allows and a message can hold."""
    one = opened()
    with pytest.raises(TooLarge):
        one.request(Ask("t", body, 5.0, frames), 0.0)
    with pytest.raises(TooLarge):
        one.push("t", body, frames)
    with pytest.raises(TooLarge):
        one.reply(Key("f", 1, 1), body, frames, 0.0)
    assert one.idle


def test_a_peer_serves_only_so_many_topics() -> None:
    """At the start and later; what is refused changes nothing, for a Hello must hold them all."""
    many = [f"t{number}" for number in range(TOPICS_MAX)]
    with pytest.raises(TooLarge):
        session(*many, "u")
    one = opened(*many)
    with pytest.raises(TooLarge):
        one.serve(["u"], [], 0.0)
    assert one.topics == tuple(many)
    assert sent(one.serve(["u"], ["t7"], 0.0)) == [Serve(("u",), ("t7",))]
    assert "u" in one.topics
    assert "t7" not in one.topics


def test_pushes_are_refused_at_their_bound() -> None:
    """Backpressure, and not a silent drop (P7)."""
    one = session(limits=SessionLimits(pushes=2))
    one.push("t", b"1")
    one.push("t", b"2")
    with pytest.raises(Backpressure):
        one.push("t", b"3")


def test_what_crosses_a_withdrawal_goes_to_another() -> None:
    """A request comes again, so that the broker can give it to another server or say that there
    is none; a push goes back to its sender (spec 5.5, 7.3; P18)."""
    one = opened("t")
    one.serve([], ["t"], 0.0)
    (fault,) = sent(hear(one, ITEMS["request"]))
    assert isinstance(fault, Fault)
    assert (fault.code, fault.executed) == (AGAIN, 0)
    assert hear(one, ITEMS["push"]) == []
    assert sent(one.tick(0.1)) == [Credit("f", 1, "t", 0, 0, False)]


# -- handlers and pushes ---------------------------------------------------------------------------


def test_a_session_is_idle_when_nothing_is_open() -> None:
    """Asked, running, taken or queued: each alone keeps it from being idle."""
    one = opened("t")
    seen = [one.idle]
    one.request(Ask("x", b"", 5.0), 0.0)
    seen.append(one.idle)
    hear(one, ITEMS["reply"])
    seen.append(one.idle)
    hear(one, ITEMS["request"])
    seen.append(one.idle)
    one.fault(Key("f", 1, 2), NoHandler(), 0.0)
    seen.append(one.idle)
    hear(one, ITEMS["push"])
    seen.append(one.idle)
    one.taken(LaneKey("f", 1, "t"), 1)
    seen.append(one.idle)
    one.push("x", b"")
    seen.append(one.idle)
    assert seen == [True, False] * 4


def test_credits_and_pushes_leave_at_the_tick() -> None:
    """Together, to the broker and to the pipe; and a credit is life enough, so no beat."""
    one = opened("t")
    one.push("x", b"1")
    hear(one, ITEMS["push"], now=0.5)
    one.taken(LaneKey("f", 1, "t"), 1)
    effects = one.tick(1.0)
    assert [
        (effect.to.lane, type(effect.parcel.item)) for effect in effects if isinstance(effect, Send)
    ] == [(Lane.BROKER, Credit), (Lane.PUSH, Push)]


# -- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("busy", "longest"), [("no", 1.0), ("asks", 0.25), ("runs", 0.25), ("pushes", 0.25)]
)
def test_p10_how_long_a_peer_is_silent(busy: str, longest: float) -> None:
    """An idle peer is silent for an interval at most, a busy one for a quarter (spec 8.2)."""
    one = opened("t")
    if busy == "asks":
        one.request(Ask("x", b"", 500.0), 0.0)
    elif busy == "runs":
        hear(one, ITEMS["request"])
    elif busy == "pushes":
        one.push("x", b"")
    now, spoke, gaps = 0.0, 0.0, []
    while now < 10.0:
        wake_at = one.wake_at()
        assert wake_at is not None
        now = wake_at
        one.receive(FROM_BROKER, [Parcel(Heartbeat())], now)
        if any(
            isinstance(effect, Send) and effect.to.lane is Lane.BROKER for effect in one.tick(now)
        ):
            gaps.append(now - spoke)
            spoke = now
    assert max(gaps) == pytest.approx(longest)


def test_p10_a_silent_broker_is_lost() -> None:
    """Told, and attached anew, within three intervals."""
    one, now = opened(), 0.0
    while one.state is State.OPEN:
        wake_at = one.wake_at()
        assert wake_at is not None
        now = wake_at
        one.tick(now)
    assert 2.5 <= now <= 2.75


def test_a_retry_that_cannot_be_sent_is_no_reason_to_turn() -> None:
    """Put off by a broker that then dies: until the next Welcome there is nothing to do, and no
    busy loop while it is away; after it, it is said once."""
    one = opened()
    one.request(Ask("t", b"", 60.0), 0.0)
    hear(one, Fault("e", 1, 1, AGAIN, 0, 100, ""))
    one.lose("gone", 0.05)
    now = 0.05
    for _ in range(50):
        now = one.wake_at() or 0.0
        sound(one, now)
    effects = hear(one, WELCOME, now=now + 0.01) + one.tick(now + 0.01)
    assert [type(item) for item in sent(effects)] == [Request]
    assert any(isinstance(effect, Attached) for effect in effects)


def test_numbers_of_requests_are_where_the_caller_finds_them() -> None:
    """In the ask, before anything can come back."""
    one = opened()
    asks = [Ask("t", b"", 5.0) for _ in range(3)]
    for ask, number in zip(asks, itertools.count(1), strict=False):
        one.request(ask, 0.0)
        assert ask.number == number
