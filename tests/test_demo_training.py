"""Federated training as the server sees it: zbus/demo/training.py."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from zbus.demo.digits import Shard
from zbus.demo.model import Model, average, first, score
from zbus.demo.plan import Plan
from zbus.demo.training import Training

PLAN = Plan(engines=3, rounds=4)
HELD_OUT = Shard(numpy.random.default_rng(0).random((30, 64), numpy.float32), numpy.arange(30) % 10)
BOUND_S = 20.0


def model_of(number: int) -> Model:
    """Different models."""
    return first(100 + number)


def update(number: int, engine: int = 0) -> dict[str, Any]:
    """What an engine sends for this round."""
    return {"round": number, "samples": 10 + engine, "model": model_of(engine)}


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    """No round is open, and whoever waits for news waits for a moment."""
    monkeypatch.setattr("zbus.demo.training.WATCH_S", 0.01)
    return Training(PLAN, HELD_OUT)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Training:
    """The same, but whoever waits waits until it comes."""
    monkeypatch.setattr("zbus.demo.training.WATCH_S", BOUND_S)
    return Training(PLAN, HELD_OUT)


def waiting_for(ask: Callable[[], Any], then: Callable[[], object]) -> Any:
    """What ``ask`` gives that waits in another thread for what ``then`` does."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(ask()))
    thread.start()
    then()
    thread.join(BOUND_S)
    assert not thread.is_alive()
    return got[0]


def same(one: Model, other: Model) -> bool:
    """Whether two models are equal, bit by bit."""
    return all((one[name] == other[name]).all() for name in one)


def test_there_is_no_model_before_its_round(training: Training) -> None:
    """Neither for a round to come nor for one that is over; the asker is to ask again."""
    assert training.pull({"round": 1}) == {}
    training.open(1)
    assert training.pull({"round": 2}) == {}
    assert training.pull({"round": 0}) == {}
    assert same(training.pull({"round": 1})["model"], first(PLAN.seed))


def test_whoever_waits_for_a_round_has_it_when_it_opens(patient: Training) -> None:
    """Without asking again."""
    reply = waiting_for(lambda: patient.pull({"round": 1}), lambda: patient.open(1))
    assert "model" in reply


def test_a_model_for_another_round_is_of_no_use(training: Training) -> None:
    """Nor is one for a round that is over, or not yet open."""
    assert not training.submit("engine-1", update(1))
    training.open(1)
    assert not training.submit("engine-1", update(2))
    assert not training.submit("engine-1", update(0))
    assert training.submit("engine-1", update(1))
    with pytest.raises(TimeoutError, match=r"engine-2.*engine-3"):
        training.collect(0.0)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_the_new_model_is_the_same_whoever_came_first(
    training: Training, order: tuple[int, ...]
) -> None:
    """Sums of floats depend on their order, and a run can be repeated."""
    training.open(1)
    for engine in order:
        assert training.submit(PLAN.names[engine], update(1, engine))
    wanted = average([(10 + engine, model_of(engine)) for engine in range(3)])
    assert same(training.collect(0.0), wanted)
    assert not training.submit("engine-1", update(1))
    training.open(2)
    assert same(training.pull({"round": 2})["model"], wanted)


def test_collecting_waits_for_the_last(training: Training) -> None:
    """And says who is missing, and where it was heard of last, when it waits in vain."""
    training.open(1)
    training.submit("engine-1", update(1))
    training.report("engine-3", {"round": 1, "step": 7})
    with pytest.raises(TimeoutError) as raised:
        training.collect(0.0)
    assert "'engine-2': 'no round'" in str(raised.value)
    assert "'engine-3': 'round 1, step 7'" in str(raised.value)
    assert "engine-1" not in str(raised.value)

    def the_others() -> None:
        training.submit("engine-2", update(1))
        training.submit("engine-3", update(1))

    assert waiting_for(lambda: training.collect(BOUND_S), the_others)


def test_an_engine_of_an_older_round_need_not_go_on(training: Training) -> None:
    """One of the open round shall."""
    training.open(2)
    assert training.report("engine-1", {"round": 2, "step": 0}) is True
    assert training.report("engine-1", {"round": 1, "step": 3}) is False


def test_each_round_is_told_once(training: Training) -> None:
    """To whoever has not seen it; with who is waited for meanwhile."""
    for number in (1, 2):
        training.open(number)
        for name in PLAN.names:
            training.submit(name, update(number))
        training.taken["engine-1"] += 5
        model = training.collect(0.0)
        training.conclude({"engine-1": 0.5}, {"engine-2": "it raised"})
    told = score(model, HELD_OUT)
    news = training.watch({"seen": 1})
    assert news == {
        "over": [
            {
                "number": 2,
                "accuracy": told.accuracy,
                "loss": told.loss,
                "metrics": 10,
                "at_engines": {"engine-1": 0.5},
                "faults": {"engine-2": "it raised"},
            }
        ],
        "end": "",
        "waits_for": {},
    }
    assert len(training.watch({"seen": 0})["over"]) == 2
    assert training.watch({"seen": 2})["over"] == []
    training.open(3)
    assert set(training.watch({"seen": 2})["waits_for"]) == set(PLAN.names)


def test_whoever_watches_hears_of_a_round_when_it_is_over(patient: Training) -> None:
    """Without asking again."""
    patient.open(1)
    for name in PLAN.names:
        patient.submit(name, update(1))
    patient.collect(0.0)
    news = waiting_for(lambda: patient.watch({"seen": 0}), lambda: patient.conclude({}, {}))
    assert len(news["over"]) == 1


def test_the_end_is_told_to_all_who_wait(patient: Training) -> None:
    """And to all who come later; the first reason stands."""
    reply = waiting_for(lambda: patient.pull({"round": 1}), lambda: patient.end("over"))
    patient.end("another reason")
    assert reply == patient.pull({"round": 9}) == {"end": "over"}
    assert patient.watch({"seen": 0})["end"] == "over"
