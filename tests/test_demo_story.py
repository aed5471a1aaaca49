"""The run of the demo, whole, and with parts that hang or fall: zbus/demo/story.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from brokers import until

from zbus.demo.cast import DemoFailed
from zbus.demo.checks import ACCURACY_MIN
from zbus.demo.events import (
    Aborted,
    BrokerBack,
    BrokerKilled,
    Check,
    Event,
    Latency,
    RoundOver,
    Started,
)
from zbus.demo.ledger import Kind, read
from zbus.demo.parts import living_in
from zbus.demo.plan import BROKER, SERVER, STORY, STRAY, STRAY_JOB, Place, Plan
from zbus.demo.story import live, missing

ROOT = Path(__file__).parent.parent
FAST = Plan(pace_s=0.0)
SMALL = Plan(engines=2, rounds=4, pace_s=0.0)
SLOW = Plan(engines=2, rounds=4, pace_s=0.3)


def nothing_is_left(started: Started) -> bool:
    """Neither a file of this run nor a process, whoever else runs a demo now."""
    place = Path(started.runtime_dir)
    return not place.exists() and not [*living_in(place)]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name that people know; nothing is, where these tests run."""
    assert missing() == []
    monkeypatch.setattr("zbus.demo.story._NEEDED", {"no_such_module": "No Such", "numpy": "NumPy"})
    assert missing() == ["No Such"]


def test_the_story_imports_no_numpy() -> None:
    """So that a machine without it is told so; nor does the command that tells the story."""
    script = "import sys, zbus.cli.demo; print([name for name in sys.modules if name == 'numpy'])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.real
def test_p06_training_goes_on_over_a_killed_broker(tmp_path: Path) -> None:
    """The whole demo on the real digits: every check holds, and every event comes in order."""
    told: list[Event] = []
    assert live(FAST, told.append, tmp_path / "kept")
    order = [type(event) for event in told]
    half = [RoundOver] * (FAST.rounds // 2)
    quarter = [RoundOver] * (FAST.rounds // 4)
    wanted = [Started, *half, BrokerKilled, BrokerBack, *quarter, Aborted, *quarter]
    assert order[:-9] == wanted
    assert order[-9:] == [Check] * 8 + [Latency]
    _check_rounds([event for event in told if isinstance(event, RoundOver)])
    started = next(event for event in told if isinstance(event, Started))
    assert set(started.pids) == {BROKER, SERVER, STRAY, *FAST.names}
    (aborted,) = (event for event in told if isinstance(event, Aborted))
    assert (aborted.job, aborted.pid) == (STRAY_JOB, started.pids[STRAY])
    assert aborted.step in ("asked", "terminated", "killed")
    assert aborted.took_ms > 0
    assert nothing_is_left(started)


def _check_rounds(rounds: list[RoundOver]) -> None:
    assert [over.number for over in rounds] == [*range(1, FAST.rounds + 1)]
    assert rounds[0].accuracy < ACCURACY_MIN <= rounds[-1].accuracy
    assert rounds[0].loss > rounds[-1].loss
    assert all(one.metrics <= another.metrics for one, another in pairwise(rounds))
    for over in rounds:
        raised = {FAST.raiser} if over.number == FAST.raises_in else set()
        assert set(over.faults) == raised
        assert set(over.at_engines) == {*FAST.names} - raised
    (fault,) = rounds[FAST.raises_in - 1].faults.values()
    assert "planted by the demo" in fault
    assert fault.startswith("HANDLER_EXCEPTION")


@pytest.mark.real
def test_two_runs_learn_the_same(tmp_path: Path) -> None:
    """However the processes were scheduled; and the ledgers that are kept tell of all of them."""
    told: list[list[Event]] = [[], []]
    for number, events in enumerate(told):
        live(SMALL, events.append, tmp_path / str(number))
    one, other = (
        [(each.accuracy, each.loss) for each in events if isinstance(each, RoundOver)]
        for events in told
    )
    assert one == other
    assert len(one) == SMALL.rounds
    for name in (SERVER, STORY, *SMALL.names):
        kinds = Counter(record.kind for record in read(Place(tmp_path / "0").ledger(name)))
        assert kinds[Kind.BEGUN] == kinds[Kind.ENDED] > 0
        assert kinds[Kind.COUNTED] == 1


def _failing(then: Callable[[dict[str, int]], object]) -> str:
    """How a run fails when ``then`` is done to its processes after the first round."""
    began: list[Started] = []

    def tell(event: Event) -> None:
        if isinstance(event, Started):
            began.append(event)
        if isinstance(event, RoundOver) and event.number == 1:
            then(began[0].pids)

    with pytest.raises(DemoFailed) as raised:
        live(SLOW, tell)
    assert nothing_is_left(began[0])
    return str(raised.value)


@pytest.mark.real
@pytest.mark.parametrize("name", [BROKER, SERVER, "engine-2"])
def test_a_part_that_hangs_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails the demo in time, with its name, and nothing stays behind."""
    monkeypatch.setattr("zbus.demo.story._PATIENCE_S", 3.0)
    monkeypatch.setattr("zbus.demo.story._ANSWER_S", 1.0)
    text = _failing(lambda pids: os.kill(pids[name], signal.SIGSTOP))
    assert text.startswith(f"{name} ")
    assert "The end of what it printed:\n    " in text


@pytest.mark.real
@pytest.mark.parametrize("name", [BROKER, SERVER, "engine-1", STRAY])
def test_a_part_that_falls_is_named(name: str) -> None:
    """At once, with how it ended."""
    text = _failing(lambda pids: os.kill(pids[name], signal.SIGKILL))
    assert text.startswith(f"{name} ended with exit code -9.")


@pytest.mark.real
def test_p20_a_killed_story_leaves_no_process() -> None:
    """Nobody is there to end them: guards and pipes do."""
    command = [sys.executable, "-m", "zbus", "demo", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as story:
        assert story.stdout is not None
        place = Path(json.loads(story.stdout.readline())["runtime_dir"])
        assert len([*living_in(place)]) == 1 + 2 * (FAST.engines + 2)
        story.kill()
    until(lambda: not [*living_in(place)], "all processes are gone")
    shutil.rmtree(place)


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_p24_an_interrupted_run_leaves_nothing(number: signal.Signals) -> None:
    """Ctrl-C in the middle ends every process and removes every file."""
    began: list[Started] = []

    def tell(event: Event) -> None:
        if isinstance(event, Started):
            began.append(event)
        if isinstance(event, RoundOver):
            os.kill(os.getpid(), number)

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        live(SMALL, tell)
    assert nothing_is_left(began[0])
    assert threading.active_count() == threads
