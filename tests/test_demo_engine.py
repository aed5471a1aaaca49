"""An engine of the demo: zbus/demo/engine.py. The whole of it runs in test_demo_story.py."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, cast

import numpy
import pytest

from zbus.demo.digits import Shard
from zbus.demo.engine import Engine, scorer
from zbus.demo.model import first, score
from zbus.demo.plan import Plan
from zbus.demo.witness import Witness

PLAN = Plan(engines=2, rounds=2, report_s=0.001)
DICE = numpy.random.default_rng(0)
SHARD = Shard(DICE.random((40, 64), numpy.float32), DICE.integers(0, 10, 40, numpy.int64))
STEPS = 2 * 3
"""Two passes over forty digits, sixteen at a time."""


class Server:
    """Stands in for a witness: a server that has rounds to give."""

    def __init__(self, rounds: int = 2) -> None:
        self.rounds = rounds
        self.empty_replies = 0
        self.goes_on = True
        self.submitted: list[dict[str, Any]] = []
        self.pushed: list[dict[str, Any]] = []
        self.reported = threading.Event()
        self.reports: list[dict[str, Any]] = []

    def request(self, topic: str, body: dict[str, Any]) -> Any:
        if topic == "model.submit":
            self.submitted.append(body)
            return True
        assert topic == "model.pull"
        if self.empty_replies:
            self.empty_replies -= 1
            return {}
        if body["round"] > self.rounds:
            assert self.reported.wait(20)
            return {"end": "over"}
        if not self.goes_on:
            self.reported.clear()
        return {"model": first(body["round"])}

    def push(self, topic: str, body: dict[str, Any]) -> None:
        assert topic == "metrics.step"
        self.pushed.append(body)
        if not self.goes_on:
            assert self.reported.wait(20)

    def submit(self, topic: str, body: dict[str, Any]) -> Future[Any]:
        assert topic == "train.report"
        if body["round"] and body["round"] in (each["round"] for each in self.reports):
            self.reported.set()  # the reply to an earlier one of this round has been heard
        self.reports.append(body)
        future: Future[Any] = Future()
        future.set_result(self.goes_on or body["round"] == 0)
        return future


def engine_of(server: Server) -> Engine:
    """The second of two engines."""
    return Engine(cast(Witness, server), PLAN, "engine-2", SHARD)


def test_an_engine_trains_in_every_round() -> None:
    """It sends a better model each time, with the number of digits behind it, until the end."""
    server = Server()
    engine_of(server).train()
    assert [body["round"] for body in server.submitted] == [1, 2]
    for body in server.submitted:
        assert body["samples"] == 40
        assert score(body["model"], SHARD).loss < score(first(body["round"]), SHARD).loss


def test_each_step_is_pushed_with_its_number() -> None:
    """The numbers go on over all rounds, so that one that is lost, doubled or late is seen."""
    server = Server()
    engine_of(server).train()
    assert [body["number"] for body in server.pushed] == [*range(1, 2 * STEPS + 1)]
    assert server.pushed[0]["loss"] == pytest.approx(2.3, abs=0.5)
    assert 0 <= server.pushed[0]["accuracy"] <= 1


def test_an_engine_asks_again_where_there_is_no_news() -> None:
    """For the same round."""
    server = Server(rounds=1)
    server.empty_replies = 3
    engine_of(server).train()
    assert [body["round"] for body in server.submitted] == [1]


def test_an_engine_reports_meanwhile() -> None:
    """Where it is: in no round at first, then in a step of one."""
    server = Server()
    engine_of(server).train()
    assert server.reports
    for body in server.reports:
        assert 0 <= body["round"] <= 2
        assert 0 <= body["step"] <= STEPS


def test_an_engine_that_is_not_to_go_on_does_not() -> None:
    """It sends what it has, and takes part in the next round."""
    server = Server()
    server.goes_on = False
    engine_of(server).train()
    assert [body["round"] for body in server.submitted] == [1, 2]
    assert len(server.pushed) < 2 * STEPS


def test_two_engines_with_the_same_digits_learn_differently() -> None:
    """Each shuffles in its own way, the same way in each run."""
    servers = [Server(rounds=1) for _ in range(3)]
    for server, name in zip(servers, ["engine-1", "engine-2", "engine-2"], strict=True):
        Engine(cast(Witness, server), PLAN, name, SHARD).train()
    one, other, again = (server.submitted[0]["model"]["w1"] for server in servers)
    assert (one != other).any()
    assert (other == again).all()


def test_a_scorer_misbehaves_in_one_round_only() -> None:
    """In the others it tells how good the model is on the engine's own digits."""
    judge, honest = scorer(SHARD, 2), scorer(SHARD, None)
    model = first(0)
    wanted = score(model, SHARD).accuracy
    with pytest.raises(RuntimeError, match="planted by the demo in round 2"):
        judge({"round": 2, "model": model}, None)
    assert judge({"round": 3, "model": model}, None) == wanted
    assert honest({"round": 2, "model": model}, None) == wanted
