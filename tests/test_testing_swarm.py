"""A swarm plays the scenario of a seed, and finds what is planted in the bus."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from zbus.protocol.answerer import Answerer
from zbus.protocol.asker import Asker
from zbus.protocol.message import Reply
from zbus.testing.bus import Violation
from zbus.testing.knobs import QUIET, Knobs
from zbus.testing.swarm import TROUBLES, Scenario, Swarm, swarm
from zbus.testing.tally import Tally


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_scenario_follows_from_its_seed() -> None:
    """The same one each time, and another for another seed."""
    assert Scenario.draw(7, 100) == Scenario.draw(7, 100)
    assert len({repr(Scenario.draw(seed, 100)) for seed in range(50)}) == 50


def test_every_trouble_is_drawn_and_some_runs_have_few() -> None:
    """A random subset each, so that one trouble does not hide another."""
    drawn = [Scenario.draw(seed, 100) for seed in range(200)]
    counts = Counter(trouble for scenario in drawn for trouble in scenario.troubles)
    assert set(counts) == set(TROUBLES)
    assert min(counts.values()) > 20
    assert sum(len(scenario.troubles) <= 2 for scenario in drawn) > 40
    assert 40 < sum(scenario.faults == QUIET for scenario in drawn) < 160
    assert {scenario.servers for scenario in drawn} == {1, 2, 3}


def test_a_scenario_asks_as_often_as_it_says() -> None:
    """What was refused at once counts as well; a burst may go a little beyond."""
    scenario = Scenario(seed=1, requests=50, troubles=("crash a server", "stop the broker"))
    bus = swarm(scenario)
    proofs = scenario.engines
    asked = len(bus.history.requests) - proofs + bus.history.refused["TooLarge"]
    assert 50 <= asked < 100
    assert bus.history.lanes


def test_what_was_seen_is_counted_once_a_run() -> None:
    """In the tally that is given."""
    tally = Tally()
    for seed in (1, 2):
        swarm(Scenario(seed=seed, requests=20, knobs=Knobs()), tally)
    assert tally.runs == 2
    assert tally.requests >= 40


@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_happens(trouble: str) -> None:
    """One at a time, often, and the bus survives it."""
    scenario = Scenario(seed=3, requests=60, rate=30.0, troubles=(trouble,), trouble_every_s=0.2)
    bus = swarm(scenario)
    assert [one.kind for one in bus.stage.disturbances] or bus.broker.drains


@pytest.mark.pure
def test_a_planted_fault_is_found_and_named_with_its_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Replies that are given to the wrong caller: the seed in the message shows it again."""
    answer = Answerer.answer

    def mixed_up(self, key, parcel, attached, effects):  # type: ignore[no-untyped-def]
        if isinstance(parcel.item, Reply) and key.number % 7 == 3:
            parcel = parcel._replace(item=replace_body(parcel.item))
        answer(self, key, parcel, attached, effects)

    monkeypatch.setattr(Answerer, "answer", mixed_up)
    scenario = Scenario(seed=9, requests=60)
    with pytest.raises(Violation, match=r"(?s)P5.*tools/soak.py --seed 9 --each 60 --runs 1"):
        swarm(scenario)


def replace_body(item: Reply) -> Reply:
    return Reply(item.source, item.epoch, item.number, b"\x07", 0)


@pytest.mark.pure
def test_a_bus_that_does_not_come_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the healing everything must be served: a request that is not is a violation."""
    monkeypatch.setattr(Asker, "send", lambda self, ask, now, effects: None)
    with pytest.raises(Violation, match="is not served after everything was healed"):
        swarm(Scenario(seed=1, requests=5))


def test_a_run_can_be_traced() -> None:
    """For who wants to see what a failing seed did."""
    play = Swarm(replace(Scenario(seed=4, requests=5)), traced=True)
    play.play()
    assert {event.what for event in play.bus.trace} >= {"open", "connect", "send", "arrive"}
