"""The self-checks: what the ledgers of a run say about the promises of the bus.

Rules of this room:

* A check reads what the parts noted, and asks the bus nothing.
* A check that could not have failed has not held: no request open at the kill, no push taken,
  no handler that raised is a failure, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from zbus.demo.events import Aborted, Check, Latency
from zbus.demo.ledger import REPLIED, Kind, Record, read
from zbus.demo.plan import SERVER, SPIN, STORY, STRAY, Place, Plan

__all__ = ["ACCURACY_MIN", "Asked", "History", "Kill", "checks", "latency", "nothing_left"]

ACCURACY_MIN = 0.9
"""On digits that no engine has seen."""
_REPORT = "train.report"
_PLANTED = "HANDLER_EXCEPTION"
_NO_ANSWER = "COMMUNICATION_ERROR ZB-301, executed=maybe"
"""A handler that took longer than it had."""
_STEPS = ("asked", "terminated", "killed")
_SCORE = "model.score"


class Asked(NamedTuple):
    """A request, from the ledger of whoever asked."""

    topic: str
    begun_s: float
    ended_s: float
    end: str


class Kill(NamedTuple):
    """When the broker was killed: the signal was sent, and the process was gone."""

    sent_s: float
    gone_s: float


class History:
    """The ledgers of a run, when the broker was killed, and what came of the abort."""

    def __init__(
        self,
        plan: Plan,
        ledgers: Mapping[str, Sequence[Record]],
        kill: Kill,
        aborted: Aborted | None,
    ) -> None:
        self.plan = plan
        self.aborted = aborted
        self.ledgers = ledgers
        self.kill = kill

    @classmethod
    def of(cls, place: Place, plan: Plan, kill: Kill, aborted: Aborted | None) -> History:
        """What was noted at this place."""
        names = (*plan.names, SERVER, STORY, STRAY)
        return cls(plan, {name: [*read(place.ledger(name))] for name in names}, kill, aborted)

    def every(self, kind: Kind) -> Iterator[Record]:
        """The records of a kind, of all parts."""
        for records in self.ledgers.values():
            yield from (record for record in records if record.kind is kind)

    @cached_property
    def asked(self) -> dict[str, Asked]:
        """The requests that ended, by id."""
        ends = {record.key: record for record in self.every(Kind.ENDED)}
        return {
            begun.key: Asked(begun.detail, begun.at_s, end.at_s, end.detail)
            for begun in self.every(Kind.BEGUN)
            if (end := ends.get(begun.key)) is not None
        }

    @cached_property
    def back_s(self) -> float | None:
        """When the first request that was asked after the broker was gone had its reply. Replies
        to older ones may have passed before."""
        return min(
            (
                asked.ended_s
                for asked in self.asked.values()
                if asked.begun_s > self.kill.gone_s and asked.end == REPLIED
            ),
            default=None,
        )


def checks(history: History, accuracy: float) -> list[Check]:
    """The checks that can be made once all parts have left the bus."""
    judged: list[Callable[[History], Check]] = [_ended_once, _started_once]
    judged += [_fault_is_typed, _pushes_are_conserved, _restart_is_a_pause, _abort_is_confirmed]
    return [*(check(history) for check in judged), _learned(accuracy)]


def latency(history: History) -> Latency:
    """How long reports took, apart from those that met the restart."""
    sent_s, back_s = history.kill.sent_s, history.back_s or history.kill.gone_s
    reports = [asked for asked in history.asked.values() if asked.topic == _REPORT]
    calm = sorted(
        asked.ended_s - asked.begun_s
        for asked in reports
        if asked.ended_s < sent_s or asked.begun_s > back_s
    )
    return Latency(
        requests=len(calm),
        p50_ms=_percentile_ms(calm, 50),
        p99_ms=_percentile_ms(calm, 99),
        waited=len(reports) - len(calm),
    )


def nothing_left(exits: Mapping[str, int | None], left: Sequence[str]) -> Check:
    """Every part ended as it should, and nothing of it is there any more."""
    bad = [f"{name} ended with {code}" for name, code in exits.items() if code != 0]
    return Check(
        promise="nothing is left behind",
        kept=not bad and not left,
        found=", ".join([*bad, *left]) or f"{len(exits)} processes are gone, no socket, no file",
    )


def _ended_once(history: History) -> Check:
    begun = Counter(record.key for record in history.every(Kind.BEGUN))
    ended = Counter(record.key for record in history.every(Kind.ENDED))
    return Check(
        promise="every request ended once",
        kept=begun == ended and set(begun.values()) == {1},
        found=f"{begun.total():,} asked, {ended.total():,} ended",
    )


def _started_once(history: History) -> Check:
    starts = Counter(record.key for record in history.every(Kind.STARTED))
    asked = {key: asked.end for key, asked in history.asked.items()}
    wrong = {
        "twice": sum(count > 1 for count in starts.values()),
        "never, but replied": sum(asked[key] == REPLIED for key in asked.keys() - starts.keys()),
        "unasked": len(starts.keys() - asked.keys()),
    }
    repeats = sum(record.detail["repeats"] for record in history.every(Kind.COUNTED))
    return Check(
        promise="no handler started twice for one request",
        kept=bool(starts) and not any(wrong.values()),
        found=f"{starts.total():,} starts for {len(asked):,} requests, {repeats} repeats known"
        + "".join(f"; {count} {what}" for what, count in wrong.items() if count),
    )


def _fault_is_typed(history: History) -> Check:
    plan = history.plan
    ends = Counter(asked.end for asked in history.asked.values() if asked.topic == _SCORE)
    wanted = Counter({_PLANTED: 1, REPLIED: plan.engines * plan.rounds - 1})
    return Check(
        promise="a handler that raises is a return code, once, and no more than that",
        kept=ends == +wanted,
        found=f"{plan.raiser}: {', '.join(f'{count} {end}' for end, count in ends.items())}",
    )


def _pushes_are_conserved(history: History) -> Check:
    taken = defaultdict(list)
    for record in history.every(Kind.TOOK):
        taken[record.key].append(record.detail)
    counted = {record.key: record.detail for record in history.every(Kind.COUNTED)}
    names = history.plan.names
    wrong = [name for name in names if not _is_conserved(counted.get(name), taken[name])]
    words = (
        f"{sum(counted.get(name, {}).get(what, 0) for name in names):,} {what}"
        for what in ("accepted", "delivered", "dropped", "queued")
    )
    return Check(
        promise="pushes: accepted = delivered + dropped + queued, taken in order",
        kept=not wrong,
        found=f"{', '.join(words)}, {sum(map(len, taken.values())):,} taken"
        + "".join(f"; not so for {name}" for name in wrong),
    )


def _is_conserved(count: Mapping[str, int] | None, taken: Sequence[int]) -> bool:
    return (
        count is not None
        and 0 < count["accepted"] == count["delivered"] + count["dropped"] + count["queued"]
        and count["delivered"] == len(taken)
        and all(one < another for one, another in pairwise(taken))
    )


def _restart_is_a_pause(history: History) -> Check:
    (sent_s, gone_s), back_s = history.kill, history.back_s
    asked = [each for each in history.asked.values() if each.topic != SPIN]
    under_way = [each for each in asked if each.begun_s <= gone_s < each.ended_s]
    later = [each for each in asked if gone_s < each.begun_s < (back_s or gone_s)]
    failed = Counter(each.end for each in asked if each.end not in (REPLIED, _PLANTED))
    last_s = max((each.ended_s for each in (*under_way, *later)), default=gone_s)
    return Check(
        promise="killing the broker is a pause",
        kept=back_s is not None and bool(under_way) and not failed,
        found=(f"{(back_s - sent_s) * 1000:,.0f} ms to a reply" if back_s else "no reply since")
        + f"; {len(under_way)} requests were open and {len(later)} asked meanwhile, the last ended"
        f" after {(last_s - sent_s) * 1000:,.0f} ms; {failed.total()} failed"
        + "".join(f", {end}" for end in sorted(failed)),
    )


def _abort_is_confirmed(history: History) -> Check:
    aborted = history.aborted
    ends = [asked.end for asked in history.asked.values() if asked.topic == SPIN]
    spins = sum(record.kind is Kind.STARTED for record in history.ledgers[STRAY])
    # Those that ended otherwise came before there was an engine, and did not run.
    in_vain = ends.count(_NO_ANSWER) == 1 == spins and REPLIED not in ends
    return Check(
        promise="a job whose handler never returns is aborted",
        kept=aborted is not None and aborted.step in _STEPS and in_vain,
        found="not aborted"
        if aborted is None
        else f"abort confirmed in {aborted.took_ms:,.0f} ms ({aborted.step}, {aborted.ending})"
        f"; before that, {spins} handler ran and ended with {', '.join(ends) or 'nothing'}",
    )


def _learned(accuracy: float) -> Check:
    return Check(
        promise=f"accuracy on digits held out is at least {ACCURACY_MIN:.2f}",
        kept=accuracy >= ACCURACY_MIN,
        found=f"{accuracy:.3f}",
    )


def _percentile_ms(ordered_s: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    if not ordered_s:
        return 0.0
    rank = -(-len(ordered_s) * percent // 100)
    return round(ordered_s[max(rank, 1) - 1] * 1000, 3)
