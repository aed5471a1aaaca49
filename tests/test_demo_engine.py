"""An engine of the demo: zbus/demo/engine.py. The whole of it runs in test_demo_story.py."""

from __future__ import annotations

import threading
from typing import Any

import numpy
import pytest
from engine_stages import wired_pair

from zbus.demo.digits import Shard
from zbus.demo.engine import TrainingExecutor
from zbus.demo.model import first, score
from zbus.demo.plan import Plan
from zbus.engine import FLContext, FLContextManager, ReturnCode, Shareable, make_reply
from zbus.engine.job_engine import Equipment

PLAN = Plan(engines=2, rounds=2, report_s=0.001)
DICE = numpy.random.default_rng(0)
SHARD = Shard(DICE.random((40, 64), numpy.float32), DICE.integers(0, 10, 40, numpy.int64))
STEPS = 2 * 3
"""Two passes over forty digits, sixteen at a time."""


class Server:
    """Stands in for an engine, and the server that it asks, which has rounds to give."""

    def __init__(self, rounds: int = 2) -> None:
        self.rounds = rounds
        self.empty_replies = 0
        self.refusals = 0
        self.fault = ReturnCode.OK
        self.goes_on = True
        self.submitted: list[dict[str, Any]] = []
        self.pushed: list[dict[str, Any]] = []
        self.reported = threading.Event()
        self.reports: list[dict[str, Any]] = []

    def new_context(self) -> FLContext:
        return FLContextManager(engine=self, identity_name="engine-2", job_id="job").new_context()

    def send_aux_request(
        self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> Shareable:
        assert timeout > 0
        assert fl_ctx.get_identity_name() == "engine-2"
        if topic == "train.report":
            return self._report(request)
        if topic == "model.submit":
            self.submitted.append(request)
            return Shareable({"useful": True})
        assert topic == "model.pull"
        return self._pull(request["round"])

    def fire_and_forget_aux_request(
        self, topic: str, request: Shareable, fl_ctx: FLContext
    ) -> Shareable:
        assert topic == "metrics.step"
        if self.refusals:
            self.refusals -= 1
            return make_reply(ReturnCode.SERVER_NOT_READY)
        self.pushed.append(request)
        if not self.goes_on:
            assert self.reported.wait(20)
        return make_reply(ReturnCode.OK)

    def _pull(self, number: int) -> Shareable:
        if self.fault != ReturnCode.OK:
            return make_reply(self.fault)
        if self.empty_replies:
            self.empty_replies -= 1
            return Shareable()
        if number > self.rounds:
            assert self.reported.wait(20)
            return Shareable({"end": "over"})
        if not self.goes_on:
            self.reported.clear()
        return Shareable({"model": first(number)})

    def _report(self, request: Shareable) -> Shareable:
        if request["round"] and request["round"] in (each["round"] for each in self.reports):
            self.reported.set()  # the reply to an earlier one of this round has been heard
        self.reports.append(request)
        return Shareable({"go_on": self.goes_on or request["round"] == 0})


def train_at(server: Server, name: str = "engine-2") -> None:
    """Let one of two engines train."""
    TrainingExecutor(PLAN, name, SHARD).execute(server.new_context())


def test_an_engine_trains_in_every_round() -> None:
    """It sends a better model each time, with the number of digits behind it, until the end."""
    server = Server()
    train_at(server)
    assert [body["round"] for body in server.submitted] == [1, 2]
    for body in server.submitted:
        assert body["samples"] == 40
        assert score(body["model"], SHARD).loss < score(first(body["round"]), SHARD).loss


def test_each_step_is_pushed_with_its_number() -> None:
    """The numbers go on over all rounds, so that one that is lost, doubled or late is seen."""
    server = Server()
    train_at(server)
    assert [body["number"] for body in server.pushed] == [*range(1, 2 * STEPS + 1)]
    assert server.pushed[0]["loss"] == pytest.approx(2.3, abs=0.5)
    assert 0 <= server.pushed[0]["accuracy"] <= 1


def test_an_engine_asks_again_where_there_is_no_news() -> None:
    """For the same round."""
    server = Server(rounds=1)
    server.empty_replies = 3
    train_at(server)
    assert [body["round"] for body in server.submitted] == [1]


def test_an_engine_reports_meanwhile() -> None:
    """Where it is: in no round at first, then in a step of one."""
    server = Server()
    train_at(server)
    assert server.reports
    for body in server.reports:
        assert 0 <= body["round"] <= 2
        assert 0 <= body["step"] <= STEPS


def test_an_engine_that_is_not_to_go_on_does_not() -> None:
    """It sends what it has, and takes part in the next round."""
    server = Server()
    server.goes_on = False
    train_at(server)
    assert [body["round"] for body in server.submitted] == [1, 2]
    assert len(server.pushed) < 2 * STEPS


def test_two_engines_with_the_same_digits_learn_differently() -> None:
    """Each shuffles in its own way, the same way in each run."""
    servers = [Server(rounds=1) for _ in range(3)]
    for server, name in zip(servers, ["engine-1", "engine-2", "engine-2"], strict=True):
        train_at(server, name)
    one, other, again = (server.submitted[0]["model"]["w1"] for server in servers)
    assert (one != other).any()
    assert (other == again).all()


def test_a_metric_that_is_refused_is_told_again() -> None:
    """Once there is room, and once only."""
    server = Server(rounds=1)
    server.refusals = 3
    train_at(server)
    assert [body["number"] for body in server.pushed] == [*range(1, STEPS + 1)]


@pytest.mark.parametrize("code", [ReturnCode.COMMUNICATION_ERROR, ReturnCode.TOPIC_UNKNOWN])
def test_an_engine_that_is_not_answered_says_so(code: str) -> None:
    """And ends, its reports too."""
    server, threads = Server(), threading.active_count()
    server.fault = code
    with pytest.raises(RuntimeError, match=f"model.pull ended with {code}"):
        train_at(server)
    assert threading.active_count() == threads


def test_a_scorer_misbehaves_in_one_round_only() -> None:
    """In the others it tells the server how good the model is on the engine's own digits."""
    model, codes = first(0), {}
    for name in ("engine-1", "engine-2"):
        executor = TrainingExecutor(Plan(engines=2, rounds=8), name, SHARD)
        server, _ = wired_pair(client=Equipment(components={"executor": executor}))
        for number in (2, 3):
            request = Shareable({"round": number, "model": model})
            reply = server.send_aux_request(
                ["site-1"], "model.score", request, 1.0, server.new_context()
            )["site-1"]
            codes[name, number] = reply.get_return_code()
            if codes[name, number] == ReturnCode.OK:
                assert reply["accuracy"] == score(model, SHARD).accuracy
            else:
                assert "planted by the demo in round 2" in str(reply)
    bad = {key for key, code in codes.items() if code != ReturnCode.OK}
    assert bad == {("engine-2", 2)}
    assert codes["engine-2", 2] == ReturnCode.HANDLER_EXCEPTION
