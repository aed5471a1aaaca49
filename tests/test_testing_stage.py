"""A stage lets things happen in order, kills and stops processes, and names a loop that is hot."""

from __future__ import annotations

import math
from functools import partial

import pytest

from zbus.testing.faults import PERFECT, Faults
from zbus.testing.stage import Actor, HotLoop, Stage
from zbus.transport.port import Port


class Clockwork(Actor):
    """Notes the true times of its turns, and wakes every ``period`` seconds of its own clock."""

    def __init__(self, stage: Stage, name: str, period: float | None = None) -> None:
        super().__init__(stage, name)
        self.period = period
        self.turns: list[float] = []
        self.lives: list[float] = []
        self.port: Port | None = None

    def on_begin(self, now: float) -> None:
        self.lives.append(now)

    def on_turn(self, now: float) -> bool:
        self.turns.append(self.stage.clock.now)
        if self.port is not None:
            self.port.drain(10)
        return False

    def wake_at(self, now: float) -> float | None:
        return None if self.period is None else now + self.period


def staged(period: float | None = None, seed: int = 1) -> tuple[Stage, Clockwork]:
    stage = Stage(seed, PERFECT)
    actor = Clockwork(stage, "a", period)
    actor.begin()
    return stage, actor


def test_an_actor_turns_when_it_said_that_it_would() -> None:
    """Once when its life begins, and then as often as it asks for, by its own clock."""
    stage, actor = staged(period=1.0)
    stage.pass_time(10.5)
    assert len(actor.turns) == 11
    assert actor.turns[-1] == pytest.approx(10.0, abs=0.01)
    assert stage.clock.now == 10.5


def test_nothing_happens_where_there_is_nothing_to_do() -> None:
    """Time passes all the same."""
    stage, actor = staged()
    assert stage.step(1.0)
    assert not stage.step(1e9)
    assert stage.clock.now == 1e9
    assert actor.turns == [0.0]


def test_events_come_in_the_order_of_time_and_actors_in_the_order_of_entry() -> None:
    """At one instant, whoever came on stage first turns first."""
    stage = Stage(1, PERFECT)
    order: list[str] = []
    for name in ("b", "a"):
        actor = Clockwork(stage, name)
        actor.begin()
        note = partial(order.append, name)
        actor.on_turn = lambda now, note=note: note() or False  # type: ignore[method-assign,misc]
    stage.timeline.plan(1.0, lambda: order.append("later"))
    stage.timeline.plan(0.5, lambda: order.append("sooner"))
    stage.pass_time(2.0)
    assert order == ["b", "a", "sooner", "later"]


@pytest.mark.parametrize("period", [0.0, 1e-9])
def test_a_hot_loop_is_a_failure_with_a_name(period: float) -> None:
    """A process that wakes without time passing, or for nothing all the time, is found out."""
    stage, _ = staged(period)
    with pytest.raises(HotLoop, match="a"):
        stage.pass_time(1.0)


def test_a_message_makes_its_receiver_turn() -> None:
    """And nobody else."""
    stage = Stage(1, PERFECT)
    one, other = Clockwork(stage, "one"), Clockwork(stage, "other")
    one.begin()
    other.begin()
    other.port = other.network.bind_pull("ipc:///pipe")
    port = one.network.connect_push("ipc:///pipe")
    stage.pass_time(1.0)
    one.turns.clear()
    other.turns.clear()
    port.send(b"", [b"x"])
    stage.pass_time(1.0)
    assert (one.turns, other.turns) == ([], [1.0])


def test_a_stopped_process_does_nothing_until_it_is_continued() -> None:
    """Its turns and what it planned wait; the time in which it was stopped is known."""
    stage, actor = staged(period=0.1)
    happened: list[float] = []
    stage.pass_time(1.0)
    actor.later(0.5, lambda: happened.append(stage.clock.now))
    actor.stop()
    assert (actor.is_alive, actor.is_stopped, actor.is_running) == (True, True, False)
    before = len(actor.turns)
    stage.pass_time(3.0)
    assert len(actor.turns) == before
    assert happened == []
    actor.cont()
    stage.pass_time(0.1)
    assert actor.is_running
    assert happened == [pytest.approx(4.0, abs=0.06)]
    assert len(actor.turns) > before
    (stop,) = stage.disturbances
    assert (stop.kind, stop.who, stop.since) == ("stop", ("a",), 1.0)
    assert stop.overlap_s(0.0, 10.0) == pytest.approx(3.0, abs=0.06)
    assert stop.overlap_s(1.5, 2.0) == pytest.approx(0.5)


def test_a_stop_is_longer_for_its_sockets_than_for_the_process() -> None:
    """What waited is there only a moment after the process goes on, as with real sockets."""
    stage = Stage(1, PERFECT)
    one, other = Clockwork(stage, "one"), Clockwork(stage, "other")
    one.begin()
    other.begin()
    other.port = other.network.bind_pull("ipc:///pipe")
    port = one.network.connect_push("ipc:///pipe")
    stage.pass_time(1.0)
    other.turns.clear()
    other.stop()
    port.send(b"", [b"x"])
    stage.pass_time(1.0)
    other.cont()
    stage.pass_time(1.0)
    went_on, heard = other.turns
    assert 0.0 < heard - went_on < 0.05


def test_a_killed_process_leaves_nothing_and_may_live_again() -> None:
    """What it planned never happens; the next life has its own network and a later clock."""
    stage, actor = staged()
    stage.pass_time(1.0)
    network, happened = actor.network, list[int]()
    actor.later(0.5, lambda: happened.append(1))
    actor.crash()
    assert not actor.is_alive
    assert actor.due == math.inf
    actor.crash()
    stage.pass_time(2.0)
    actor.restart()
    stage.pass_time(2.0)
    assert happened == []
    assert actor.life == 2
    assert actor.network is not network
    assert actor.lives[1] > actor.lives[0]
    (crash,) = stage.disturbances
    assert (crash.kind, crash.who, crash.since, crash.until) == ("crash", ("a",), 1.0, 3.0)
    assert crash.overlap_s(0.0, 2.0) == 1.0


def test_killing_a_stopped_process_ends_its_stop() -> None:
    """The next life is not stopped."""
    stage, actor = staged(period=0.1)
    actor.stop()
    actor.crash()
    actor.restart()
    turns = len(actor.turns)
    stage.pass_time(1.0)
    assert len(actor.turns) > turns
    assert all(one.ended for one in stage.disturbances)


def test_cuts_are_noted_until_they_are_mended() -> None:
    """Both names, and for how long."""
    stage, _ = staged()
    stage.cut("a", "b")
    stage.pass_time(2.0)
    stage.heal()
    stage.pass_time(2.0)
    stage.heal()
    (cut,) = stage.disturbances
    assert (cut.kind, cut.who, cut.since, cut.until) == ("cut", ("a", "b"), 0.0, 2.0)
    assert stage.fabric.happened["cut"] == 2


def test_clocks_differ_and_chance_comes_from_the_seed() -> None:
    """Two machines do not agree on the time; two stages of one seed agree on everything."""
    stage = Stage(3, PERFECT)
    views = [stage.new_clock() for _ in range(20)]
    assert len({view.offset_s for view in views}) > 2
    assert len({view.rate for view in views}) == 20
    again = Stage(3, PERFECT)
    assert [again.new_clock().rate for _ in range(20)] == [view.rate for view in views]
    assert stage.chance("x").random() == again.chance("x").random() != stage.chance("y").random()
    assert Stage(4, Faults()).chance("x").random() != again.chance("x").random()
