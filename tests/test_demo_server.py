"""The server of the demo: zbus/demo/server.py. The whole of it runs in test_demo_story.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from engine_stages import Wire

from zbus.demo.digits import Shard
from zbus.demo.ledger import Kind, Ledger, read
from zbus.demo.model import first
from zbus.demo.plan import Plan
from zbus.demo.server import Averager, score_everywhere, train
from zbus.demo.training import Training
from zbus.engine import (
    ClientEngine,
    FLContext,
    FLContextManager,
    ReturnCode,
    ServerEngine,
    Shareable,
    make_reply,
)
from zbus.engine.job_engine import Equipment

PLAN = Plan(engines=2, rounds=3, pace_s=0.0)
HELD_OUT = Shard(numpy.zeros((10, 64), numpy.float32), numpy.arange(10))


class Engines:
    """Stands in for the engine of the server: clients that score what they are told to."""

    def __init__(self, score: Callable[[str], float | str]) -> None:
        self.asked: list[tuple[str, int, str]] = []
        self._score = score

    def send_aux_request(
        self,
        targets: list[str],
        topic: str,
        request: Shareable,
        timeout: float,
        fl_ctx: FLContext,
    ) -> dict[str, Shareable]:
        assert timeout > 0
        self.asked += [(topic, request["round"], name) for name in targets]
        return {name: self._reply(self._score(name)) for name in targets}

    def _reply(self, answer: float | str) -> Shareable:
        if isinstance(answer, str):
            return make_reply(answer, {"__error__": "it is lost"})
        return Shareable({"accuracy": answer})

    @property
    def context(self) -> FLContext:
        return FLContextManager(engine=self, identity_name="server", job_id="job").new_context()


class Ready(Training):
    """A training whose engines send their models as soon as a round opens."""

    def open(self, number: int) -> None:
        super().open(number)
        for name in PLAN.names:
            self.submit(name, {"round": number, "samples": 1, "model": first(number)})


def test_each_round_is_scored_by_every_engine() -> None:
    """By name, with the new model; then the training has ended."""
    training, engines = Ready(PLAN, HELD_OUT), Engines(lambda name: 0.5)
    train(training, PLAN, engines.context)
    assert engines.asked == [
        ("model.score", number, name) for number in (1, 2, 3) for name in PLAN.names
    ]
    news = training.watch({"seen": 0})
    assert [over["number"] for over in news["over"]] == [1, 2, 3]
    assert news["over"][0]["at_engines"] == {"engine-1": 0.5, "engine-2": 0.5}
    assert news["end"] == "all rounds are over"


def test_an_engine_that_cannot_score_stops_nobody() -> None:
    """Its error is told with the round, beside what the others said."""
    lost = ReturnCode.COMMUNICATION_ERROR
    engines = Engines(lambda name: lost if name == "engine-2" else 0.25)
    accuracies, faults = score_everywhere(engines.context, PLAN.names, 1, {})
    assert accuracies == {"engine-1": 0.25}
    assert faults == {"engine-2": "COMMUNICATION_ERROR, it is lost"}


def test_what_ends_the_training_early_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines and story hear why, and do not wait for rounds that will not come."""
    monkeypatch.setattr("zbus.demo.server.REQUEST_S", 0.01)
    training = Training(PLAN, HELD_OUT)
    with pytest.raises(TimeoutError):
        train(training, PLAN, Engines(lambda name: 0.5).context)
    assert "TimeoutError: no model came from {'engine-1'" in training.pull({"round": 2})["end"]


def test_a_round_lasts_as_long_as_planned() -> None:
    """So that a person can follow it."""
    plan = Plan(engines=2, rounds=3, pace_s=0.05)
    began = time.monotonic()
    train(Ready(plan, HELD_OUT), plan, Engines(lambda name: 1.0).context)
    assert time.monotonic() - began >= 3 * 0.05


def test_handlers_tell_the_training_who_asks(tmp_path: Path) -> None:
    """The broker vouches for the name, so no request holds it."""
    training, ledger, wire = Training(PLAN, HELD_OUT), Ledger(tmp_path / "ledger"), Wire()
    equipment = Equipment(components={"averager": Averager(training, ledger)})
    server = ServerEngine("job", PLAN.names, attach=wire.attach, equipment=equipment)
    server.start_run()
    engine = ClientEngine("engine-2", "job", attach=wire.attach)
    training.open(1)

    def ask(topic: str, content: dict[str, Any]) -> Shareable:
        reply = engine.send_aux_request(topic, Shareable(content), 20.0, engine.new_context())
        assert reply.get_return_code() == ReturnCode.OK, reply
        return reply

    assert (ask("model.pull", {"round": 1})["model"]["w1"] == first(PLAN.seed)["w1"]).all()
    assert ask("train.report", {"round": 1, "step": 4})["go_on"] is True
    waits_for = ask("train.watch", {"seen": -1})["waits_for"]
    assert waits_for == {"engine-1": "no round", "engine-2": "round 1, step 4"}
    assert ask("model.submit", {"round": 1, "samples": 1, "model": first(0)})["useful"] is True
    assert set(ask("train.watch", {"seen": -1})["waits_for"]) == {"engine-1"}
    for number in (1, 2):
        metrics = Shareable({"number": number})
        engine.fire_and_forget_aux_request("metrics.step", metrics, engine.new_context())
    ledger.close()
    assert training.taken == {"engine-2": 2}
    taken = [record[1:] for record in read(tmp_path / "ledger")]
    assert taken == [(Kind.TOOK, "engine-2", 1), (Kind.TOOK, "engine-2", 2)]
