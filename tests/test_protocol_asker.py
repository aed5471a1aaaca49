"""The asking half: each request ends once, in time, and says rightly whether it may have run."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from zbus.errors import (
    BrokerUnreachable,
    Cancelled,
    ClosedError,
    Draining,
    Executed,
    HandlerError,
    InternalError,
    NoHandler,
    NoTarget,
    Overloaded,
    RequestTimeout,
    Superseded,
    TargetLost,
    ZbusError,
    error_for,
    every_error,
)
from zbus.protocol.asker import EXECUTED, TO_BROKER, Asker
from zbus.protocol.effect import Outcome, Resolve, Send, SessionEffect
from zbus.protocol.message import AGAIN, Cancel, Fault, Flag, Parcel, Reply, Request
from zbus.protocol.objects import Objects
from zbus.protocol.requests import Ask

NO, MAYBE, YES = 0, 1, 2


class Asking:
    """An asker with one open request, and what became of it."""

    def __init__(self, timeout: float = 5.0, sent: bool = True) -> None:
        self.asker = Asker("e", 1, Objects())
        self.request = Ask("t", b"b", timeout)
        self.effects: list[SessionEffect] = []
        self.asker.ask(self.request, 100)
        if sent:
            self.asker.send(self.request, 0.0, self.effects)

    def fault(
        self,
        code: int,
        executed: int = NO,
        now: float = 0.0,
        *,
        retry_ms: int = 0,
        about: tuple[str, int, int] = ("e", 1, 1),
    ) -> None:
        item = Fault(*about, code, executed, retry_ms, "why")
        self.asker.faulted(item, now, self.effects)

    def reply(self, about: tuple[str, int, int] = ("e", 1, 1)) -> None:
        self.asker.replied(Parcel(Reply(*about, b"r", 0)), self.effects)

    @property
    def outcomes(self) -> list[Outcome]:
        return [effect.outcome for effect in self.effects if isinstance(effect, Resolve)]

    @property
    def error(self) -> ZbusError:
        (outcome,) = self.outcomes
        assert isinstance(outcome, ZbusError)
        return outcome

    def said(self) -> list[Request]:
        return [
            effect.parcel.item
            for effect in self.effects
            if isinstance(effect, Send) and isinstance(effect.parcel.item, Request)
        ]


# -- one outcome -------------------------------------------------------------------------------


def test_a_reply_ends_it() -> None:
    """With the parcel of the reply, frames and all."""
    asking = Asking()
    reply = Parcel(Reply("e", 1, 1, b"r", 1), (b"frame",))
    asking.asker.replied(reply, asking.effects)
    assert asking.effects[-1] == Resolve(1, reply)
    assert len(asking.asker) == 0


ANSWERS = st.lists(
    st.sampled_from(["reply", "fault", "again", "draining", "cancel", "overdue", "end", "attach"]),
    min_size=1,
    max_size=8,
)


@given(ANSWERS)
def test_p01_one_outcome_whatever_comes(answers: list[str]) -> None:
    """Late, second and contradicting answers in any order: one Resolve at most, and none is
    missing once the deadline is past (P1)."""
    asking = Asking()
    asker, effects = asking.asker, asking.effects
    for number, answer in enumerate(answers):
        now = number / 10
        if answer == "reply":
            asking.reply()
        elif answer == "fault":
            asking.fault(TargetLost.number, MAYBE, now)
        elif answer == "again":
            asking.fault(AGAIN, NO, now)
        elif answer == "draining":
            asking.fault(Draining.number, NO, now)
        elif answer == "cancel":
            asker.cancel(1, True, effects)
        elif answer == "overdue":
            asker.end_overdue(now, effects)
        elif answer == "end":
            asker.end_all(Superseded(), effects)
        else:
            asker.attached(now, float("-inf"), effects)
        asker.send_again(now, effects)
        assert len(asking.outcomes) <= 1
        assert len(asker) == 1 - len(asking.outcomes)
    asker.end_overdue(5.0, effects)
    assert len(asking.outcomes) == 1
    event(type(asking.outcomes[0]).__name__)


@pytest.mark.parametrize("about", [("f", 1, 1), ("e", 2, 1), ("e", 1, 2)])
def test_answers_to_others_are_dropped_and_counted(about: tuple[str, int, int]) -> None:
    """Another's, another life's, or of no open request (spec 6.7)."""
    asking = Asking()
    asking.fault(TargetLost.number, MAYBE, about=about)
    asking.reply(about)
    assert asking.outcomes == []
    assert asking.asker.late_answers == 2


def test_the_bound_of_the_broker_refuses() -> None:
    """Nothing is opened, and it was not run."""
    asker = Asker("e", 1, Objects())
    asker.ask(Ask("t", b"", 5.0), 1)
    with pytest.raises(Overloaded) as caught:
        asker.ask(Ask("t", b"", 5.0), 1)
    assert caught.value.executed is Executed.NO
    assert len(asker) == 1


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [kind for kind in every_error() if kind not in (Draining, RequestTimeout)]
)
@pytest.mark.parametrize("executed", [NO, MAYBE, YES])
def test_a_fault_becomes_the_error_of_its_code(kind: type[ZbusError], executed: int) -> None:
    """One to one, with what it says of the handler and when to ask again."""
    asking = Asking()
    asking.fault(kind.number, executed, retry_ms=1_500)
    error = asking.error
    assert type(error) is kind
    assert (error.what, error.retry_after_s) == ("why", 1.5)
    assert error.executed is EXECUTED[executed]


def test_an_unknown_code_is_an_internal_error() -> None:
    """A code of a later version still ends the request (spec 3.2)."""
    asking = Asking()
    asking.fault(65_000, MAYBE)
    assert type(asking.error) is InternalError


@pytest.mark.parametrize("executed", [NO, MAYBE])
def test_p02_a_handler_that_is_too_late_does_not_end_it(executed: int) -> None:
    """Its time is up by another's clock; by ours it ends, and not a moment before (P2)."""
    asking = Asking()
    asking.fault(RequestTimeout.number, executed, 4.9)
    asking.asker.end_overdue(4.99, asking.effects)
    assert asking.outcomes == []
    asking.asker.end_overdue(5.0, asking.effects)
    assert type(asking.error) is RequestTimeout
    assert asking.error.executed is EXECUTED[executed]


def test_again_is_no_outcome() -> None:
    """The same id again, as a repeat, after the time it says, with what is left (spec 6.5)."""
    asking = Asking()
    asking.fault(AGAIN, NO, 1.0, retry_ms=500)
    asking.asker.send_again(1.4, asking.effects)
    assert len(asking.said()) == 1
    asking.asker.send_again(1.5, asking.effects)
    asking.asker.send_again(1.6, asking.effects)
    first, second = asking.said()
    assert (second.number, second.flags, second.ttl_ms) == (1, Flag.REPEAT, 3_500)
    assert first.flags == 0
    assert asking.outcomes == []


def test_draining_is_a_pause_and_ends_as_draining() -> None:
    """Asked again every quarter of a second at most; its own deadline ends it (spec 6.5)."""
    asking = Asking(timeout=1.0)
    for tick in range(100):
        asking.asker.send_again(tick / 100, asking.effects)
        if asking.request.pending:
            asking.fault(Draining.number, NO, tick / 100)
    assert len(asking.said()) == 4
    asking.asker.end_overdue(1.0, asking.effects)
    assert type(asking.error) is Draining
    assert asking.error.executed is Executed.NO


@pytest.mark.parametrize("kind", [NoHandler, NoTarget])
def test_p06_nobody_is_there_yet_is_no_outcome_while_they_come_back(
    kind: type[ZbusError],
) -> None:
    """A broker has just taken over: a moment later the server is there as well (P6)."""
    asking = Asking(sent=False)
    asking.asker.attached(0.0, 2.5, asking.effects)
    asking.fault(kind.number, NO, 0.0)
    asking.asker.send_again(0.1, asking.effects)
    assert len(asking.said()) == 2
    assert asking.outcomes == []
    asking.fault(kind.number, NO, 2.5)
    assert type(asking.error) is kind


def test_p06_overdue_while_they_come_back_says_why() -> None:
    """Its time is up before: it ends as what was last said of it, and was not run."""
    asking = Asking(timeout=0.5, sent=False)
    asking.asker.attached(0.0, 2.5, asking.effects)
    asking.fault(NoHandler.number, NO, 0.0)
    asking.asker.end_overdue(0.5, asking.effects)
    assert type(asking.error) is NoHandler
    assert asking.error.executed is Executed.NO


# -- did it run? (P4) ----------------------------------------------------------------------------


def test_p04_what_never_left_was_not_run() -> None:
    """Overdue, cancelled or closed before it was sent: a provable no."""
    asking = Asking(sent=False)
    asking.asker.end_overdue(5.0, asking.effects)
    assert type(asking.error) is BrokerUnreachable
    assert asking.error.executed is Executed.NO
    asking = Asking(sent=False)
    asking.asker.cancel(1, True, asking.effects)
    assert asking.error.executed is Executed.NO
    assert asking.effects == [Resolve(1, asking.error)]
    asking = Asking(sent=False)
    asking.asker.end_all(ClosedError(), asking.effects)
    assert type(asking.error) is Cancelled
    assert asking.error.executed is Executed.NO


def test_p04_what_was_sent_may_have_run() -> None:
    """Overdue, cancelled, closed or superseded after it was sent: maybe."""
    asking = Asking()
    asking.asker.end_overdue(5.0, asking.effects)
    assert type(asking.error) is RequestTimeout
    assert asking.error.executed is Executed.MAYBE
    asking = Asking()
    asking.asker.cancel(1, True, asking.effects)
    assert asking.error.executed is Executed.MAYBE
    assert Send(TO_BROKER, Parcel(Cancel("e", 1, 1))) in asking.effects
    for error in (ClosedError(), Superseded("newer")):
        asking = Asking()
        asking.asker.end_all(error, asking.effects)
        assert asking.error.executed is Executed.MAYBE
    assert type(asking.error) is Superseded


def test_p04_a_refused_repeat_says_nothing_of_the_first() -> None:
    """It was sent, the broker died, and the next one says that nobody serves it: the old server
    may have run it all the same."""
    asking = Asking()
    asking.asker.attached(1.0, float("-inf"), asking.effects)
    asking.fault(NoHandler.number, NO, 1.0)
    assert type(asking.error) is NoHandler
    assert asking.error.executed is Executed.MAYBE


def test_p04_again_that_may_have_run_leaves_doubt() -> None:
    """AGAIN says by its ``executed`` whether the request came to nothing."""
    asking = Asking()
    asking.fault(AGAIN, MAYBE, 0.0)
    asking.asker.send_again(0.0, asking.effects)
    asking.fault(Overloaded.number, NO, 0.1)
    assert asking.error.executed is Executed.MAYBE
    asking = Asking()
    asking.fault(AGAIN, NO, 0.0)
    asking.asker.send_again(0.0, asking.effects)
    asking.fault(Overloaded.number, NO, 0.1)
    assert asking.error.executed is Executed.NO


def test_p04_draining_does_not_hide_what_came_after() -> None:
    """Put off by a draining broker, then taken by the next, and never answered: it may have run,
    and it did not end for being put off."""
    asking = Asking()
    asking.fault(Draining.number, NO, 0.0)
    asking.asker.attached(1.0, float("-inf"), asking.effects)
    asking.asker.end_overdue(5.0, asking.effects)
    assert type(asking.error) is RequestTimeout
    assert asking.error.executed is Executed.MAYBE


@given(st.lists(st.sampled_from(["lost", "taken", "again", "maybe", "draining"]), max_size=6))
def test_p04_no_is_only_said_when_it_is_true(fates: list[str]) -> None:
    """Each time it was sent it met a fate; ``no`` is right if none of them can have run it."""
    asking, ran = Asking(timeout=1_000.0), False
    for number, fate in enumerate(fates, 1):
        now = float(number)
        if fate in ("lost", "taken"):
            ran = ran or fate == "taken"
            asking.asker.attached(now, float("-inf"), asking.effects)
        else:
            ran = ran or fate == "maybe"
            code = Draining.number if fate == "draining" else AGAIN
            asking.fault(code, MAYBE if fate == "maybe" else NO, now)
            asking.asker.send_again(now + 0.5, asking.effects)
    asking.fault(NoHandler.number, NO, 99.0)
    event(asking.error.executed.value)
    if ran:
        assert asking.error.executed is Executed.MAYBE
    if not set(fates) & {"lost", "taken", "maybe"}:
        assert asking.error.executed is Executed.NO


def test_the_handler_has_the_last_word() -> None:
    """It raised: it ran, however often it was asked."""
    asking = Asking()
    asking.asker.attached(1.0, float("-inf"), asking.effects)
    asking.fault(HandlerError.number, YES, 2.0)
    assert asking.error.executed is Executed.YES


# -- attaching and giving up -----------------------------------------------------------------------


def test_all_that_is_open_is_said_after_a_welcome() -> None:
    """Once each: a retry that was due is not sent beside it (spec 6.5)."""
    asking = Asking()
    asking.asker.ask(Ask("u", b"", 5.0), 100)
    asking.fault(AGAIN, NO, 0.5, retry_ms=100)
    asking.effects.clear()
    asking.asker.attached(1.0, float("-inf"), asking.effects)
    asking.asker.send_again(1.0, asking.effects)
    assert [(item.number, item.flags) for item in asking.said()] == [(1, Flag.REPEAT), (2, 0)]


def test_giving_up_says_so_only_where_it_can_be_heard() -> None:
    """Detached there is nobody to tell; after its end there is nothing to give up."""
    asking = Asking()
    asking.asker.cancel(1, False, asking.effects)
    assert not any(
        isinstance(effect, Send) and isinstance(effect.parcel.item, Cancel)
        for effect in asking.effects
    )
    before = len(asking.effects)
    asking.asker.cancel(1, True, asking.effects)
    asking.asker.cancel(7, True, asking.effects)
    assert len(asking.effects) == before
    asking.reply()
    assert asking.asker.late_answers == 1


def test_the_timeout_names_who_was_asked() -> None:
    """What happened, to which request, in words."""
    asker, effects = Asker("e", 1, Objects()), list[SessionEffect]()
    for target in ("", "server"):
        ask = Ask("model.train", b"", 1.0, target=target)
        asker.ask(ask, 9)
        asker.send(ask, 0.0, effects)
    asker.end_overdue(1.0, effects)
    texts = [str(effect.outcome) for effect in effects if isinstance(effect, Resolve)]
    assert texts[0].startswith('no reply to "model.train" in time (ZB-301). It may have run.')
    assert texts[1].startswith('no reply from "server" to "model.train" in time')
    assert error_for(301) is RequestTimeout
