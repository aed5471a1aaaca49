"""Federated training as the server sees it: rounds, the models that came, who waits for what.

Rules of this room:

* A round is open until each engine has sent its model. Nobody trains for a round that is not
  open, and a model for another round is refused.
* Handlers wait here, for news or until their time is nearly up; then they say that there are
  none, and are asked again. So no request ends for lack of news.
* It knows no bus: what is given and returned are the bodies of requests and pushes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from zbus.demo.digits import Shard
from zbus.demo.events import RoundOver
from zbus.demo.model import Model, average, first, score
from zbus.demo.plan import WATCH_S, Plan

__all__ = ["Training"]


@dataclass(slots=True)
class _Round:
    number: int = 0
    model: Model = field(default_factory=dict)
    updates: dict[str, tuple[int, Model]] = field(default_factory=dict)


class Training:
    """The rounds, for any number of threads."""

    def __init__(self, plan: Plan, held_out: Shard) -> None:
        self.taken: Counter[str] = Counter()
        """Pushes of metrics by engine."""
        self._plan = plan
        self._held_out = held_out
        self._changed = threading.Condition()
        self._round = _Round(model=first(plan.seed))
        self._open = False
        self._over: list[RoundOver] = []
        self._end = ""
        self._at: dict[str, str] = {}

    # -- what engines and the story ask ----------------------------------------------------------

    def pull(self, body: dict[str, Any]) -> dict[str, Any]:
        """The model of the round that is wanted, once it is open."""
        wanted: int = body["round"]
        with self._changed:
            self._wait(lambda: bool(self._end) or (self._open and self._round.number == wanted))
            if self._end:
                return {"end": self._end}
            if self._open and self._round.number == wanted:
                return {"model": self._round.model}
            return {}

    def submit(self, name: str, body: dict[str, Any]) -> bool:
        """An engine's model; whether it is of use."""
        with self._changed:
            if not self._open or body["round"] != self._round.number:
                return False
            self._round.updates[name] = body["samples"], body["model"]
            self._changed.notify_all()
            return True

    def report(self, name: str, body: dict[str, Any]) -> bool:
        """Where an engine is; whether it is to go on with that round."""
        number: int = body["round"]
        self._at[name] = f"round {number}, step {body['step']}"
        return self._round.number <= number

    def watch(self, body: dict[str, Any]) -> dict[str, Any]:
        """The rounds that are over, beyond those that the asker has seen; and who is waited for."""
        seen: int = body["seen"]
        with self._changed:
            self._wait(lambda: bool(self._end) or len(self._over) > seen)
            over = [asdict(each) for each in self._over[seen:]]
            return {"over": over, "end": self._end, "waits_for": self._missing()}

    # -- what the server does ----------------------------------------------------------------

    def open(self, number: int) -> None:
        """Let the engines train."""
        with self._changed:
            self._round = _Round(number, self._round.model)
            self._open = True
            self._changed.notify_all()

    def collect(self, timeout_s: float) -> Model:
        """Wait for every engine's model, and make the new one.

        Raises:
            TimeoutError: they have not all come in time; says who is missing.
        """
        with self._changed:
            updates = self._round.updates
            if not self._changed.wait_for(lambda: len(updates) == self._plan.engines, timeout_s):
                raise TimeoutError(f"no model came from {self._missing()}")
            # In the order of names, whoever came first, so that every run has the same sums.
            model = average([updates[name] for name in sorted(updates)])
            self._round.model = model
            self._open = False
            return model

    def conclude(self, at_engines: dict[str, float], faults: dict[str, str]) -> None:
        """The round is over: judge the new model on the digits held out, and tell."""
        judged = score(self._round.model, self._held_out)
        over = RoundOver(
            number=self._round.number,
            accuracy=judged.accuracy,
            loss=judged.loss,
            metrics=self.taken.total(),
            at_engines=at_engines,
            faults=faults,
        )
        with self._changed:
            self._over.append(over)
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """There are no more rounds."""
        with self._changed:
            self._end = self._end or why
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        self._changed.wait_for(condition, WATCH_S)

    def _missing(self) -> dict[str, str]:
        """The engines that the open round waits for, and where each was last heard of."""
        names = self._plan.names if self._open else ()
        updates = self._round.updates
        return {name: self._at.get(name, "no round") for name in names if name not in updates}
