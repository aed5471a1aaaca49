"""The server of the demo: zbus/demo/server.py. The whole of it runs in test_demo_story.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy
import pytest

from zbus.demo.digits import Shard
from zbus.demo.ledger import Kind, Ledger, read
from zbus.demo.model import first
from zbus.demo.plan import Plan
from zbus.demo.server import handlers, score_everywhere, train
from zbus.demo.training import Training
from zbus.demo.witness import Witness
from zbus.errors import HandlerError, TargetLost

PLAN = Plan(engines=2, rounds=3, pace_s=0.0)
HELD_OUT = Shard(numpy.zeros((10, 64), numpy.float32), numpy.arange(10))


class Engines:
    """Stands in for a witness: engines that score what they are told to."""

    def __init__(self, score: Callable[[str], Any]) -> None:
        self.asked: list[tuple[str, int, str]] = []
        self._score = score

    def submit(self, topic: str, body: dict[str, Any], *, to: str) -> Future[Any]:
        self.asked.append((topic, body["round"], to))
        future: Future[Any] = Future()
        answer = self._score(to)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    @property
    def witness(self) -> Witness:
        return cast(Witness, self)


class Ready(Training):
    """A training whose engines send their models as soon as a round opens."""

    def open(self, number: int) -> None:
        super().open(number)
        for name in PLAN.names:
            self.submit(name, {"round": number, "samples": 1, "model": first(number)})


def test_each_round_is_scored_by_every_engine() -> None:
    """By name, with the new model; then the training has ended."""
    training, engines = Ready(PLAN, HELD_OUT), Engines(lambda name: 0.5)
    train(training, PLAN, engines.witness)
    assert engines.asked == [
        ("model.score", number, name) for number in (1, 2, 3) for name in PLAN.names
    ]
    news = training.watch({"seen": 0})
    assert [over["number"] for over in news["over"]] == [1, 2, 3]
    assert news["over"][0]["at_engines"] == {"engine-1": 0.5, "engine-2": 0.5}
    assert news["end"] == "all rounds are over"


def test_an_engine_that_cannot_score_stops_nobody() -> None:
    """Its error is told with the round, beside what the others said."""
    lost = TargetLost("engine-2 is lost")
    engines = Engines(lambda name: lost if name == "engine-2" else 0.25)
    accuracies, faults = score_everywhere(engines.witness, PLAN.names, 1, {})
    assert accuracies == {"engine-1": 0.25}
    assert faults == {"engine-2": str(lost)}
    assert "ZB-403" in faults["engine-2"]


def test_what_ends_the_training_early_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines and story hear why, and do not wait for rounds that will not come."""
    monkeypatch.setattr("zbus.demo.server.REQUEST_S", 0.01)
    training = Training(PLAN, HELD_OUT)
    with pytest.raises(TimeoutError):
        train(training, PLAN, Engines(lambda name: HandlerError()).witness)
    assert "TimeoutError: no model came from {'engine-1'" in training.pull({"round": 2})["end"]


def test_a_round_lasts_as_long_as_planned() -> None:
    """So that a person can follow it."""
    plan = Plan(engines=2, rounds=3, pace_s=0.05)
    began = time.monotonic()
    train(Ready(plan, HELD_OUT), plan, Engines(lambda name: 1.0).witness)
    assert time.monotonic() - began >= 3 * 0.05


def test_handlers_tell_the_training_who_asks(tmp_path: Path) -> None:
    """The broker vouches for the name, so no body holds it."""
    training, ledger = Training(PLAN, HELD_OUT), Ledger(tmp_path / "ledger")
    table = handlers(training, ledger)
    assert sorted(table) == [
        "metrics.step",
        "model.pull",
        "model.submit",
        "train.report",
        "train.watch",
    ]
    asked = SimpleNamespace(source="engine-2")
    training.open(1)
    assert "model" in table["model.pull"]({"round": 1}, asked)
    assert table["train.report"]({"round": 1, "step": 4}, asked) is True
    body = {"round": 1, "samples": 1, "model": first(0)}
    waits_for = table["train.watch"]({"seen": -1}, asked)["waits_for"]
    assert waits_for == {"engine-1": "no round", "engine-2": "round 1, step 4"}
    assert table["model.submit"](body, asked) is True
    assert set(table["train.watch"]({"seen": -1}, asked)["waits_for"]) == {"engine-1"}
    for number in (1, 2):
        assert table["metrics.step"]({"number": number}, asked) is None
    ledger.close()
    assert training.taken == {"engine-2": 2}
    taken = [record[1:] for record in read(tmp_path / "ledger")]
    assert taken == [(Kind.TOOK, "engine-2", 1), (Kind.TOOK, "engine-2", 2)]
