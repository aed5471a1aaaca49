"""The judge: which promises a history breaks.

A model of the bus in the reader's mind: a request has one caller, who is owed one end; a handler
may begin for it once a life; a lane is a list of bodies of which each server takes a stretch. The
judge compares that with what happened, and knows nothing of how the bus did it.

Rules of this room:

* One function a promise, named after it; each yields what it found broken.
* What the world did to a process excuses what follows from it: a stopped process is late by its
  stop, one that was killed tells nobody. Nothing else is excused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zbus.errors import (
    Draining,
    Executed,
    NoHandler,
    NoTarget,
    NotAuthorized,
    RequestTimeout,
    TargetLost,
    ZbusError,
)
from zbus.peer.call import Returned
from zbus.protocol.effect import LaneKey
from zbus.protocol.liveness import BEATS_WHEN_BUSY, PATIENCE
from zbus.protocol.message import Flag, Parcel, Reply
from zbus.protocol.topics import is_reserved
from zbus.testing.history import Asked, Begun, History, LanePushes
from zbus.testing.stage import Disturbance

__all__ = ["Broken", "Case", "judge"]

_PROBE, _WAIT = int(Flag.PROBE), int(Flag.WAIT)
_HARMS = {"crash", "leave", "stop", "cut", "drop", "withdraw"}
_AFTERMATH_S = 10.0
"""For so long after a trouble some may still be on their way back: 8 s between two Hellos."""
_STALL_SLACK_S = 0.05


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise, and how it was broken."""

    promise: str
    how: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A history, and what else the judge must know."""

    history: History
    now: float
    """The true time at which it is judged."""
    disturbances: Sequence[Disturbance]
    lives: Mapping[str, int]
    """The number of the life of each process that lives."""
    delivered: Mapping[LaneKey, int]
    """How many pushes of a lane its source holds for settled."""
    strangers: Collection[str] = ()
    """The names of those that break the rules, of whose requests and pushes we know nothing."""
    lures: Collection[str] = ()
    """The topics that they serve; what a handler of theirs does, nobody notes."""
    steady: bool = False
    """Whether the network never ended a connection, held or refused a message."""
    transit_s: float = 0.05
    """How long a message may be under way from the source to the handler."""
    heartbeat_s: float = 1.0
    late_s: float = 0.05
    """How late an end may be: epsilon of P2."""
    settles: bool = True
    """Whether a broker that starts again waits until the others are back (spec 6.6)."""
    peers_lost: int = 0
    """How often the broker forgot a peer."""
    broker_starts: int = 1
    settled: bool = False
    """Whether all was healed and enough time has passed for everything to have ended."""


def judge(case: Case) -> Iterator[Broken]:
    """Everything in this case that breaks a promise."""
    for asked in case.history.requests.values():
        for rule in _RULES:
            for how in rule(asked, case):
                yield Broken(_PROMISES[rule], f"{_named(asked)} {how}")
    for how in _p11_broker_blames_nobody(case):
        yield Broken("P11", how)
    for key, begun in case.history.strays.items():
        if key.source not in case.strangers:
            yield Broken("P14", f"{key} was begun by {begun[0].life}, and nobody asked it")
    for lane, pushes in case.history.lanes.items():
        if lane.source in case.strangers:
            continue
        settled = case.delivered.get(lane, 0)
        for how in (*_p7_order(pushes), *_p7_kept(pushes, settled)):
            yield Broken("P7", f"the lane {'/'.join(map(str, lane))} {how}")


def _named(asked: Asked) -> str:
    key, ask = asked.key, asked.ask
    what = f"{ask.target or 'anybody'}:{ask.topic}"
    return f"[{key.source}.{key.epoch} #{key.number} to {what} at {asked.at:.4f}]"


def _p1_one_end(asked: Asked, case: Case) -> Iterator[str]:
    if asked.ends > 1:
        yield f"ended {asked.ends} times"
    if case.settled and not asked.ends and case.lives.get(asked.life.name) == asked.life.number:
        yield f"has not ended {case.now - asked.deadline_at:.3f} s after its deadline"


def _p2_on_time(asked: Asked, case: Case) -> Iterator[str]:
    """Early is judged by the caller's own clock, to the microsecond."""
    ended_at = asked.ended_at
    if ended_at is None:
        if case.lives.get(asked.life.name) != asked.life.number:
            return
        ended_at = case.now
    elif isinstance(asked.outcome, RequestTimeout | Draining) and asked.early_s > 1e-6:
        yield f"ended as {_outcome(asked)} {asked.early_s:.6f} s before its deadline"
    late_s = ended_at - asked.deadline_at
    late_s -= sum(
        harm.overlap_s(asked.deadline_at, ended_at)
        for harm in case.disturbances
        if harm.kind == "stop" and asked.life.name in harm.who
    )
    if late_s > case.late_s:
        yield f"ended {late_s:.4f} s late as {_outcome(asked)}"


def _p2_no_late_start(asked: Asked, case: Case) -> Iterator[str]:
    """By the handler's clock never; by ours no later than what nobody can know of."""
    for begun in asked.begun:
        if begun.left_s <= 0.0:
            yield f"was begun {-begun.left_s:.4f} s after the handler's own deadline"
        late_s = begun.at - asked.deadline_at - case.transit_s
        if late_s > 0.0 and late_s > _held_s(asked, begun, case):
            yield f"was begun {late_s:.4f} s too late"


def _held_s(asked: Asked, begun: Begun, case: Case) -> float:
    """How long this request may have been held on its way without anybody knowing: in the
    sockets of a source or a broker that was stopped, in the network while that was cut, and at a
    handler that was stopped for so short a time that it is none (spec 8.5)."""
    names = {asked.life.name, begun.life.name, "broker"}
    stopped_s = others_s = 0.0
    for harm in case.disturbances:
        if harm.kind in ("cut", "stop") and not names.isdisjoint(harm.who):
            overlap_s = harm.overlap_s(asked.at, begun.at)
            if harm.kind == "stop" and harm.who == (begun.life.name,):
                stopped_s += overlap_s
            else:
                others_s += overlap_s
    if not others_s:
        # A handler knows of its stop, unless a cut, or the stop of another, kept from it what had
        # waited for it, until it thought nothing of it.
        unseen_s = case.heartbeat_s / BEATS_WHEN_BUSY + 2 * _STALL_SLACK_S
        stopped_s = min(stopped_s, unseen_s)
    return stopped_s + others_s


def _p3_told_at_once(asked: Asked, case: Case) -> Iterator[str]:
    if not isinstance(asked.outcome, NoHandler | NoTarget | NotAuthorized) or not case.steady:
        return
    assert asked.ended_at is not None
    took_s = asked.ended_at - asked.at
    waits = asked.ask.flags & _WAIT or not asked.attached or asked.begun
    calm = _undisturbed(None, asked.at - _AFTERMATH_S, asked.ended_at, case)
    if took_s > 2 * case.transit_s and calm and not waits:
        yield f"was told only after {took_s:.4f} s that it ends as {_outcome(asked)}"


def _p4_honest(asked: Asked, case: Case) -> Iterator[str]:
    outcome = asked.outcome
    if not isinstance(outcome, ZbusError):
        return
    if outcome.executed is Executed.NO and asked.begun:
        yield f"ended as {_outcome(asked)}, but was begun by {asked.begun[0].life}"
    if outcome.executed is Executed.YES and not asked.begun and asked.ask.topic not in case.lures:
        yield f"ended as {_outcome(asked)}, but was never begun"


def _p5_once(asked: Asked, case: Case) -> Iterator[str]:
    for life, count in Counter(begun.life for begun in asked.begun).items():
        if count > 1:
            yield f"was begun {count} times by {life}"
    if len(asked.begun) > 1 and (_nobody_was_lost(case) or _only_the_broker_was_hurt(asked, case)):
        yield f"was begun by {[begun.life for begun in asked.begun]}, though all of them live"


def _nobody_was_lost(case: Case) -> bool:
    return not case.peers_lost and case.broker_starts == 1


def _only_the_broker_was_hurt(asked: Asked, case: Case) -> bool:
    """Then whoever knows the id is asked before it begins elsewhere (spec 6.6)."""
    until = asked.begun[-1].at
    return (
        case.steady
        and case.settles
        and not any(
            harm.who != ("broker",) and harm.overlap_s(asked.at - _AFTERMATH_S, until) > 0.0
            for harm in case.disturbances
        )
    )


def _p5_no_mix_up(asked: Asked, case: Case) -> Iterator[str]:
    ask = asked.ask
    for begun in asked.begun:
        if begun.body != ask.body or begun.frames != ask.frames:
            yield f"was begun by {begun.life} with another's body"
    outcome = asked.outcome
    if not isinstance(outcome, Parcel) or ask.topic in case.lures:
        return
    if is_reserved(ask.topic) or ask.flags & _PROBE:
        return
    item = outcome.item
    assert isinstance(item, Reply)
    reply = Returned(item.body, outcome.frames)
    if not any(begun.result == reply for begun in asked.begun):
        yield "has a reply that no handler of it returned"


def _p10_loss_is_told(asked: Asked, case: Case) -> Iterator[str]:
    """A handler's process died or stopped, and nothing else was wrong: told in three beats."""
    if not case.steady or not asked.begun:
        return
    begun, bound_s = asked.begun[-1], 3.0 * case.heartbeat_s
    for harm in case.disturbances:
        if harm.kind not in {"crash", "stop"} or begun.life.name not in harm.who:
            continue
        told_at = harm.since + bound_s
        if (
            begun.at <= harm.since < (begun.ended_at or math.inf)
            and (asked.ended_at is None or asked.ended_at > told_at)
            and min(harm.until, asked.deadline_at, case.now) > told_at
            and _undisturbed({asked.life.name, "broker"}, harm.since - _AFTERMATH_S, told_at, case)
        ):
            yield f"was not told within {bound_s:g} s that {begun.life.name} is lost"


def _p11_no_false_death(asked: Asked, case: Case) -> Iterator[str]:
    """TargetLost needs a cause: some other peer was killed, stopped, cut off, or left."""
    if not isinstance(asked.outcome, TargetLost) or not case.steady:
        return
    assert asked.ended_at is not None
    since = asked.at - PATIENCE * case.heartbeat_s
    if not any(
        harm.kind in _HARMS
        and not {asked.life.name, "broker"}.issuperset(harm.who)
        and harm.since <= asked.ended_at
        and harm.until >= since
        for harm in case.disturbances
    ):
        yield f"ended as {_outcome(asked)}, and nothing was done to any handler"


def _p11_broker_blames_nobody(case: Case) -> Iterator[str]:
    harmed = bool(case.strangers) or any(
        harm.kind in _HARMS and harm.who != ("broker",) for harm in case.disturbances
    )
    if case.steady and not harmed and case.peers_lost:
        yield f"the broker lost {case.peers_lost} peers, and nothing was done to any"


def _undisturbed(names: set[str] | None, since: float, until: float, case: Case) -> bool:
    return not any(
        harm.kind in _HARMS
        and (names is None or not names.isdisjoint(harm.who))
        and harm.since <= until
        and harm.until >= since
        for harm in case.disturbances
    )


def _p7_order(pushes: LanePushes) -> Iterator[str]:
    newest: dict[object, int] = {}
    for taken in pushes.taken:
        life, number = taken.begun.life, taken.sequence
        if not 1 <= number <= len(pushes.accepted):
            yield f"has no push {number}, which {life} took"
            continue
        if taken.begun.body != pushes.accepted[number - 1]:
            yield f"mixed up push {number}, which {life} took"
        if number <= newest.get(life, 0):
            yield f"was taken out of order by {life}: {number} after {newest[life]}"
        newest[life] = max(number, newest.get(life, 0))


def _p7_kept(pushes: LanePushes, settled: int) -> Iterator[str]:
    """What the source holds for settled, a handler has ended with."""
    ended = {taken.sequence for taken in pushes.taken if taken.begun.ended_at is not None}
    lost = [number for number in range(1, settled + 1) if number not in ended]
    if lost:
        yield f"says that {lost[:5]} are settled, which no handler ended with"


def _outcome(asked: Asked) -> str:
    outcome = asked.outcome
    if isinstance(outcome, ZbusError):
        return f"{type(outcome).__name__}({outcome.executed}): {outcome.what}"
    return "nothing" if outcome is None else "a reply"


_Rule = Callable[[Asked, Case], Iterator[str]]
_PROMISES: dict[_Rule, str] = {
    _p1_one_end: "P1",
    _p2_on_time: "P2",
    _p2_no_late_start: "P2",
    _p3_told_at_once: "P3",
    _p4_honest: "P4",
    _p5_once: "P5",
    _p5_no_mix_up: "P5",
    _p10_loss_is_told: "P10",
    _p11_no_false_death: "P11",
}
_RULES = tuple(_PROMISES)
