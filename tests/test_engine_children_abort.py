"""What it took to end an engine: zbus/engine/children/abort.py."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes.cluster import wait_for
from processes.family import end, engine, environ_of, living, noted, parent_of

from zbus.engine.children.abort import Abort, Graces, Step, abort
from zbus.engine.children.child import Child, Ending, spawn
from zbus.engine.children.launch import Launch
from zbus.errors import ChildFailed
from zbus.peer.handover import Handover

pytestmark = pytest.mark.real
BOUND_S = 30.0
PATIENT = Graces(BOUND_S, BOUND_S, BOUND_S)


class Nursing:
    """Starts engines of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, way: str) -> Child:
        """An engine that is ready."""
        environ = environ_of(self.folder)
        launch = Launch(argv=engine(self.folder, way), name="a", environ=environ)
        child = spawn(launch, Handover("a", 1))
        child.follow(lambda ending: None)
        wait_for(lambda: noted(self.folder, "depth-0"), BOUND_S, "the engine is ready")
        return child


@pytest.fixture
def nursing(tmp_path: Path) -> Iterator[Nursing]:
    """Engines, none of which is left."""
    yield Nursing(tmp_path)
    left = living(tmp_path)
    end(tmp_path)
    assert left == []


def test_an_engine_that_does_as_asked_is_told_no_more(nursing: Nursing) -> None:
    """The request is given its grace; what it returns does not matter, the end does."""
    child, graces = nursing.start("plain"), []

    def ask(grace_s: float) -> bool:
        graces.append(grace_s)
        os.kill(child.pid, signal.SIGUSR1)
        return False

    assert abort(child, ask, PATIENT) == (Step.ASKED, Ending(-signal.SIGUSR1), "")
    assert graces == [BOUND_S]


def test_an_ask_that_fails_costs_no_grace(nursing: Nursing) -> None:
    """SIGTERM follows at once, and the report says what was raised."""
    child = nursing.start("plain")

    def ask(_grace_s: float) -> None:
        raise OSError("no bus")

    began = time.monotonic()
    assert abort(child, ask, PATIENT) == (Step.TERMINATED, Ending(-15), "OSError: no bus")
    assert time.monotonic() - began < BOUND_S / 2


@pytest.mark.parametrize("hangs", [True, False])
def test_an_ask_without_effect_costs_its_grace(nursing: Nursing, hangs: bool) -> None:
    """Whether it hangs or the engine does not do as asked."""
    child, go_on = nursing.start("plain"), threading.Event()

    def ask(_grace_s: float) -> None:
        if hangs:
            go_on.wait(BOUND_S)

    began = time.monotonic()
    try:
        step, ending, _ = abort(child, ask, Graces(0.2, BOUND_S, BOUND_S))
    finally:
        go_on.set()
    assert 0.2 <= time.monotonic() - began < BOUND_S
    assert (step, ending) == (Step.TERMINATED, Ending(-15))


def test_no_grace_leaves_a_step_out(nursing: Nursing) -> None:
    """The request is not made, SIGTERM not sent."""

    def ask(_grace_s: float) -> Any:
        raise AssertionError("it was asked")

    child = nursing.start("plain")
    assert abort(child, ask, Graces(0.0, 0.0, BOUND_S)) == (Step.KILLED, Ending(-9), "")


def test_a_deaf_engine_is_killed(nursing: Nursing) -> None:
    """It ignores SIGTERM, for as long as its grace."""
    child = nursing.start("deaf")
    assert abort(child, None, Graces(0.0, 0.2, BOUND_S)) == (Step.KILLED, Ending(-9), "")


@pytest.mark.parametrize("way", ["execs", "blocked", "prolific", "motherly"])
def test_whatever_it_does_it_ends_with_all_it_started(nursing: Nursing, way: str) -> None:
    """Blocked in C, another program by now, a parent itself: nobody is left."""
    child = nursing.start(way)
    assert abort(child, None, Graces(0.0, BOUND_S, BOUND_S))[:2] == (Step.TERMINATED, Ending(-15))


def test_a_stopped_engine_is_continued_to_end(nursing: Nursing) -> None:
    """SIGSTOP does not keep it from heeding SIGTERM."""
    child = nursing.start("polite")
    os.kill(child.pid, signal.SIGSTOP)
    assert abort(child, None, PATIENT) == (Step.TERMINATED, Ending(4), "")


def test_a_stopped_guard_does_not_save_its_engine(nursing: Nursing) -> None:
    """It passes nothing on, so it is killed, and the engine with it."""
    child = nursing.start("plain")
    os.kill(parent_of(child.pid), signal.SIGSTOP)
    assert abort(child, None, Graces(0.0, 0.1, 2.0)) == (Step.KILLED, Ending(-9), "")


def test_one_that_has_ended_needs_nothing(nursing: Nursing) -> None:
    """And its end is told as it was."""
    child = nursing.start("plain")
    child.signal(signal.SIGUSR1)
    child.wait(BOUND_S)
    assert abort(child, None, PATIENT) == (Step.NOTHING, Ending(-signal.SIGUSR1), "")


def test_what_is_still_there_is_not_reported_as_ended(
    nursing: Nursing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if no signal had an effect."""
    child = nursing.start("plain")
    with monkeypatch.context() as patch:
        patch.setattr(child, "signal", lambda number: None)
        patch.setattr(child, "kill_guard", lambda: None)
        with pytest.raises(ChildFailed, match=f"process {child.pid} is still there"):
            abort(child, None, Graces(0.0, 0.05, 0.05))
    abort(child, None, PATIENT)


@pytest.mark.parametrize("grace", [-1.0, float("inf"), float("nan")])
def test_what_is_no_grace_is_refused(grace: float) -> None:
    """Each of the three."""
    for graces in ((grace, 1.0, 1.0), (1.0, grace, 1.0), (1.0, 1.0, grace)):
        with pytest.raises(ValueError, match="no grace"):
            Graces(*graces)


def test_a_report_reads_as_a_sentence() -> None:
    """Which engine, which step, how long and how it ended."""
    report = Abort("site-1", "job-1", Step.TERMINATED, Ending(-15), 12.4)
    assert str(report) == "site-1 terminated in 12 ms: SIGTERM"
