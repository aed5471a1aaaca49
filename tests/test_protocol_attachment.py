"""A peer's standing with its broker: every state, every Bye, and who is thought alive."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from zbus.errors import (
    Malformed,
    NameTaken,
    NotAuthorized,
    Overloaded,
    Superseded,
    VersionMismatch,
    ZbusError,
)
from zbus.protocol.attachment import Attachment, Grant, Identity, State
from zbus.protocol.effect import Attached, Detached, Reconnect, Send, SessionEffect
from zbus.protocol.message import Bye, Cause, Heartbeat, Hello, Item, Role, Serve, Welcome

WELCOME = Welcome(77, 5, 1_000, 2_000, 30, 40, ("ipc:///pipe",), 0)
OTHER_BROKER = Welcome(78, 6, 500, 2_000, 30, 40, ("ipc:///pipe",), 0)
REFUSALS = {
    Cause.NAME_TAKEN: NameTaken,
    Cause.SUPERSEDED: Superseded,
    Cause.VERSION: VersionMismatch,
    Cause.DENIED: NotAuthorized,
    Cause.MALFORMED: Malformed,
}


class Peer:
    """An attachment, and what it wants done."""

    def __init__(self, now: float = 0.0) -> None:
        who = Identity(name="e", role=Role.SERVER, epoch=3, proof=b"p")
        self.attachment = Attachment(who, {"t": None, "u": None}, 16, now)
        self.effects: list[SessionEffect] = []

    def opening(self, now: float = 0.0) -> Peer:
        self.attachment.open(now, self.effects)
        return self

    def opened(self, now: float = 0.0, welcome: Welcome = WELCOME) -> Peer:
        self.opening(now).attachment.heard(now)
        assert self.attachment.welcomed(welcome, now, self.effects)
        return self

    def news(self) -> list[SessionEffect]:
        """What it wanted since the last look."""
        news, self.effects = self.effects, []
        return news

    def dismissed(self, cause: Cause, now: float = 1.0) -> ZbusError | None:
        return self.attachment.dismissed(Bye(cause, "why"), now, self.effects)


def items(effects: list[SessionEffect]) -> list[Item]:
    return [effect.parcel.item for effect in effects if isinstance(effect, Send)]


HELLO = Hello("e", Role.SERVER, 3, ("t", "u"), 16, b"p")


# -- attaching ---------------------------------------------------------------------------------


def test_hello_comes_first_on_new_sockets() -> None:
    """New sockets, then who we are and what we serve (spec 5.1)."""
    peer = Peer().opening()
    assert [type(effect) for effect in peer.effects] == [Reconnect, Send]
    assert items(peer.news()) == [HELLO]
    assert peer.attachment.state is State.OPENING


def test_a_welcome_takes_us_in_once() -> None:
    """With all it allows; one that was not awaited changes nothing."""
    peer = Peer()
    assert not peer.attachment.welcomed(WELCOME, 0.0, peer.effects)
    peer.opened()
    assert peer.news()[-1] == Attached(WELCOME)
    assert peer.attachment.grant == Grant(77, 5, 1.0, 30)
    assert not peer.attachment.welcomed(OTHER_BROKER, 0.0, peer.effects)
    assert peer.attachment.grant.session == 77
    assert peer.effects == []


def test_an_unanswered_hello_is_said_again_after_twice_as_long() -> None:
    """1, 2, 4, 8 s and no more; a loss begins with 1 s again (spec 5.1)."""
    peer, said = Peer().opening(), []
    peer.news()
    for tenth in range(300):
        peer.attachment.knock(tenth / 10, peer.effects)
        if peer.news():
            said.append(tenth / 10)
    assert said == [1.0, 3.0, 7.0, 15.0, 23.0]
    peer.attachment.heard(30.0)
    peer.attachment.welcomed(WELCOME, 30.0, peer.effects)
    peer.attachment.lose("why", 30.0, peer.effects)
    peer.news()
    peer.attachment.knock(30.9, peer.effects)
    assert peer.news() == []
    peer.attachment.knock(31.0, peer.effects)
    assert items(peer.news()) == [HELLO]


def test_a_loss_is_told_and_begins_anew() -> None:
    """Detached, then new sockets and Hello."""
    peer = Peer().opened()
    peer.news()
    peer.attachment.lose("silent", 1.0, peer.effects)
    assert peer.effects[0] == Detached("silent")
    assert items(peer.effects) == [HELLO]
    assert (peer.attachment.state, peer.attachment.losses) == (State.OPENING, 1)


def test_what_changed_while_we_attached_is_said() -> None:
    """Topics taken up or withdrawn between Hello and Welcome follow the Welcome, and only
    those (spec 5.5)."""
    peer = Peer().opening()
    peer.news()
    del peer.attachment.topics["t"]
    peer.attachment.topics["v"] = None
    peer.attachment.welcomed(WELCOME, 0.0, peer.effects)
    assert items(peer.news()) == [Serve(("v",), ("t",))]
    peer.attachment.lose("why", 1.0, peer.effects)
    peer.news()
    peer.attachment.welcomed(WELCOME, 1.0, peer.effects)
    assert items(peer.effects) == []


def test_another_broker_has_others_coming_back_to_it() -> None:
    """After a restart, and not at the first attachment nor after a mere loss (P3, P6)."""
    peer = Peer().opened(10.0)
    assert peer.attachment.settled_at < 10.0
    peer.attachment.lose("why", 20.0, peer.effects)
    peer.attachment.welcomed(WELCOME, 20.0, peer.effects)
    assert peer.attachment.settled_at < 20.0
    peer.attachment.lose("why", 30.0, peer.effects)
    peer.attachment.welcomed(OTHER_BROKER, 30.0, peer.effects)
    assert peer.attachment.settled_at == 30.0 + 2.5 * 0.5


# -- Bye ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("cause", list(Cause))
def test_every_bye_in_every_state(state: State, cause: Cause) -> None:
    """A refusal is an error that ends us; else an open attachment is lost, and one that is
    opening waits for its time, so that no broker can make us spin (spec 4.4)."""
    peer = Peer().opened() if state is State.OPEN else Peer()
    if state is State.OPENING:
        peer.opening()
    peer.attachment.state = state
    peer.news()
    error = peer.dismissed(cause)
    if cause in REFUSALS:
        assert type(error) is REFUSALS[cause]
        assert error.what == "why"
        assert peer.effects == []
    elif state is State.OPEN:
        assert error is None
        assert peer.effects[0] == Detached("why")
        assert peer.attachment.state is State.OPENING
    else:
        assert error is None
        assert peer.effects == []
        assert peer.attachment.state is state


def test_a_full_broker_says_why_until_it_takes_us_in() -> None:
    """Whoever waits for the attachment may be told."""
    peer = Peer().opening()
    assert peer.dismissed(Cause.FULL) is None
    assert type(peer.attachment.refusal) is Overloaded
    peer.attachment.welcomed(WELCOME, 1.0, peer.effects)
    assert peer.attachment.refusal is None


def test_a_bye_without_words_is_told_by_its_cause() -> None:
    """Somebody will read it in a log."""
    peer = Peer().opened()
    peer.news()
    peer.attachment.dismissed(Bye(Cause.SLOW, ""), 1.0, peer.effects)
    assert peer.effects[0] == Detached("slow")


# -- life --------------------------------------------------------------------------------------


def test_a_silent_broker_is_lost_after_its_patience() -> None:
    """2.5 of its own intervals without a word (spec 8.3)."""
    peer = Peer().opened(welcome=OTHER_BROKER)
    now = 0.0
    while not peer.attachment.is_silent(now):
        now += 0.05
        peer.attachment.vigil.turn(now)
    assert now == pytest.approx(2.5 * 0.5, abs=0.051)


@given(st.lists(st.floats(0.4, 100.0), min_size=1, max_size=8))
def test_p11_our_stalls_are_not_its_silence(stalls: list[float]) -> None:
    """Stopped up to eight times in a row, for however long: nobody is blamed (P11)."""
    peer, now = Peer().opened(), 0.0
    for stall in stalls:
        now += stall
        peer.attachment.vigil.turn(now)
        assert not peer.attachment.is_silent(now)


def test_time_before_the_beginning_is_no_stall() -> None:
    """A session that was made long before it is opened was not asleep."""
    peer = Peer().opened(1_000.0)
    assert peer.attachment.vigil.waited_s(1_000.0) == 0.0
    assert not peer.attachment.is_silent(1_000.0)


@pytest.mark.parametrize("beat_s", [1.0, 0.25])
@pytest.mark.parametrize("extra", [0.0, 0.01, 0.07, 0.24])
def test_p10_beats_come_in_time(beat_s: float, extra: float) -> None:
    """Turned when it asks, and at other moments too: silent never longer than a beat."""
    peer, now, spoke, longest = Peer().opened(), 0.0, 0.0, 0.0
    peer.attachment.said(now)
    while now < 20.0:
        wake_at = peer.attachment.wake_at(beat_s)
        assert now < wake_at <= now + 0.25
        now = min(wake_at, now + extra) if extra else wake_at
        peer.attachment.vigil.turn(now)
        peer.news()
        peer.attachment.beat(beat_s, now, peer.effects)
        if peer.effects:
            assert items(peer.effects) == [Heartbeat()]
            peer.attachment.said(now)
            longest, spoke = max(longest, now - spoke), now
    assert 0.9 * beat_s - 1e-9 <= longest <= beat_s + 1e-9


def test_p11_a_call_after_a_stall_does_not_silence_us() -> None:
    """A user's call is the first thing after a stop of ten seconds: what it says is said now,
    and the next beat follows in its time, not ten seconds later."""
    peer = Peer().opened()
    peer.attachment.said(10.0)
    beats, now = 0, 10.0
    while now < 13.0:
        peer.attachment.vigil.turn(now)
        peer.news()
        peer.attachment.beat(0.25, now, peer.effects)
        if peer.effects:
            peer.attachment.said(now)
            beats += 1
        now = peer.attachment.wake_at(0.25)
    assert beats >= 10


@given(st.lists(st.sampled_from(["knock", "welcome", "lose", "beat"]), max_size=30))
def test_turns_are_never_further_apart_than_a_period(verbs: list[str]) -> None:
    """In whatever state, with whatever interval: it asks to be turned soon, and not at once."""
    peer, now = Peer().opening(), 0.0
    for number, verb in enumerate(verbs):
        attachment = peer.attachment
        now = attachment.wake_at(0.25)
        attachment.vigil.turn(now)
        if verb == "welcome" and attachment.state is State.OPENING:
            attachment.heard(now)
            welcome = Welcome(1, number, 1 + number * 500, 1, 1, 1, (), 0)
            attachment.welcomed(welcome, now, peer.effects)
        elif verb == "lose" and attachment.state is State.OPEN:
            attachment.lose("why", now, peer.effects)
        if attachment.state is State.OPENING:
            attachment.knock(now, peer.effects)
        else:
            attachment.beat(attachment.grant.interval_s, now, peer.effects)
        if peer.news():
            attachment.said(now)
        wake_at = attachment.wake_at(attachment.grant.interval_s)
        assert now < wake_at <= now + attachment.vigil.period
        event(attachment.state.value)
