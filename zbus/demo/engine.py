"""An engine of the demo: learns from digits that only it has, and sends what it learned.

Two threads ask the server: one trains, the other reports at a steady rate, whatever the first
one does and however long a reply takes. That is the load under which the broker is killed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import zbus
from zbus.demo.digits import Shard, load
from zbus.demo.ledger import Ledger
from zbus.demo.model import Model, batches, score, step
from zbus.demo.parts import end_with_parent
from zbus.demo.plan import REQUEST_S, Place, Plan
from zbus.demo.witness import Witness, witnessed

__all__ = ["Engine", "main", "scorer"]

_PASSES = 2
"""How often an engine goes through its digits in a round."""


class Engine:
    """The training of one engine."""

    def __init__(self, witness: Witness, plan: Plan, name: str, shard: Shard) -> None:
        self._witness = witness
        self._plan = plan
        self._number = plan.names.index(name)
        self._shard = shard
        self._round = 0
        self._step = 0
        self._pushed = 0
        self._unwanted = 0
        self._ended = threading.Event()

    def train(self) -> None:
        """Take part in every round."""
        reports = threading.Thread(target=self._report, name="reports")
        reports.start()
        try:
            while self._next_round():
                pass
        finally:
            self._ended.set()
            reports.join()

    def _next_round(self) -> bool:
        number = self._round + 1
        reply = self._witness.request("model.pull", {"round": number})
        if "model" in reply:
            self._round, self._step = number, 0
            model = self._learn(reply["model"])
            body = {"round": number, "samples": len(self._shard.labels), "model": model}
            self._witness.request("model.submit", body)
        return "end" not in reply

    def _learn(self, model: Model) -> Model:
        seed = (self._plan.seed, self._number, self._round)
        for batch in batches(self._shard, _PASSES, seed):
            if self._unwanted >= self._round:
                break
            model, before = step(model, batch)
            self._step += 1
            self._pushed += 1
            metrics = {"number": self._pushed, **before._asdict()}
            self._witness.push("metrics.step", metrics)
        return model

    def _report(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._plan.report_s, time.monotonic())
            number = self._round
            body = {"round": number, "step": self._step}
            future = self._witness.submit("train.report", body)
            future.add_done_callback(partial(self._hear, number))

    def _hear(self, number: int, done: Future[Any]) -> None:
        if done.exception() is None and done.result() is False:
            self._unwanted = max(self._unwanted, number)


def scorer(shard: Shard, raises_in: int | None) -> Callable[[Any, Any], float]:
    """The handler of ``model.score``, which misbehaves in one round, or in none."""

    def score_here(body: dict[str, Any], request: object) -> float:
        if body["round"] == raises_in:
            raise RuntimeError(f"planted by the demo in round {raises_in}")
        return score(body["model"], shard).accuracy

    return score_here


def main(words: list[str]) -> None:
    """Be the engine ``NAME`` of the plan at ``PLACE``, until the training ends."""
    end_with_parent()
    place, name = Place(Path(words[0])), words[1]
    plan, shard, ledger = place.plan(), load(place.shard(name)), Ledger(place.ledger(name))
    raises_in = plan.raises_in if name == plan.raiser else None
    peer = zbus.connect(
        name=name,
        dispatcher=witnessed(ledger, {"model.score": scorer(shard, raises_in)}),
        timeout=REQUEST_S,
    )
    peer.wait_served("model.pull", timeout=REQUEST_S)
    witness = Witness(peer, ledger)
    Engine(witness, plan, name, shard).train()
    sys.exit(not witness.close())


if __name__ == "__main__":
    main(sys.argv[1:])
