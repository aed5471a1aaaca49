"""The engines of one parent, by name and by job: zbus/engine/children/nursery.py."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import leaving_nothing
from processes.cluster import wait_for
from processes.family import end, engine, environ_of, living, noted

from zbus.engine.children import Children, Ending, Graces, Launch, Step, Supervised
from zbus.errors import ChildFailed

pytestmark = pytest.mark.real
BOUND_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place whose processes, threads and descriptors are all gone at the end."""
    with leaving_nothing():
        yield tmp_path
        left = living(tmp_path)
        end(tmp_path)
        assert left == []


def launch(folder: Path, name: str, job: str = "job-1", way: str = "plain") -> Launch:
    """An engine of a job."""
    return Launch(argv=engine(folder, way), name=name, job=job, environ=environ_of(folder))


def ready(folder: Path, count: int) -> None:
    """Wait for so many engines."""
    wait_for(lambda: len(noted(folder, "depth-0")) == count, BOUND_S, f"{count} engines")


def test_a_job_is_aborted_whole_and_no_other(folder: Path) -> None:
    """All its engines at once: three deaf ones take the grace of one. Then it is forgotten."""
    with Children(graces=Graces(0.0, 0.5, BOUND_S)) as children:
        for number in range(3):
            children.start(launch(folder, f"deaf-{number}", way="deaf"))
        other = children.start(launch(folder, "other", "job-2"))
        ready(folder, 4)
        began = time.monotonic()
        reports = children.abort("job-1")
        assert time.monotonic() - began < 1.4
        assert sorted(report.name for report in reports) == ["deaf-0", "deaf-1", "deaf-2"]
        assert {(report.job, report.step) for report in reports} == {("job-1", Step.KILLED)}
        assert children.of_job("job-1") == []
        assert children.of_job("job-2") == [other]
        assert other.is_alive
        assert children.abort("job-1") == []


def test_the_owner_s_request_is_the_first_step(folder: Path) -> None:
    """It is told which engine, and how long that may take."""
    asked = []

    def ask(started: Supervised, grace_s: float) -> None:
        asked.append((started.launch.name, grace_s))
        os.kill(started.pid, signal.SIGUSR1)

    with Children(ask, graces=Graces(BOUND_S, 1.0, 1.0)) as children:
        children.start(launch(folder, "a"))
        ready(folder, 1)
        (report,) = children.abort("job-1")
        assert (report.step, report.ending) == (Step.ASKED, Ending(-signal.SIGUSR1))
        assert asked == [("a", BOUND_S)]


def test_a_name_is_started_once_at_a_time(folder: Path) -> None:
    """Again only when it has ended."""
    with Children() as children:
        first = children.start(launch(folder, "a"))
        with pytest.raises(ChildFailed, match=f"started already, as process {first.pid}"):
            children.start(launch(folder, "a"))
        children.forget("job-1")
        assert children.of_job("job-1") == [first]
        first.signal(signal.SIGKILL)
        assert first.wait(BOUND_S) == Ending(-9)
        second = children.start(launch(folder, "a"))
        assert second.pid != first.pid
        assert second.epoch > first.epoch


def test_an_ended_engine_is_known_until_it_is_forgotten(folder: Path) -> None:
    """So that an abort that comes late says how it ended; and its owner is told once."""
    told: list[Supervised] = []
    with Children(on_end=told.append) as children:
        ended = children.start(Launch(argv=("true",), name="a", job="job-1"))
        assert ended.wait(BOUND_S) == Ending(0)
        (report,) = children.abort("job-1")
        assert (report.step, report.ending) == (Step.NOTHING, Ending(0))
        again = children.start(Launch(argv=("true",), name="b", job="job-2"))
        again.wait(BOUND_S)
        children.forget("job-2")
        assert children.of_job("job-2") == []
        wait_for(lambda: told == [ended, again], BOUND_S, "the owner is told")


def test_closing_ends_all_and_starts_no_more(folder: Path) -> None:
    """Those that had ended before are no news, and a second close has nothing to do."""
    children = Children()
    children.start(Launch(argv=("true",), name="done")).wait(BOUND_S)
    for number in range(4):
        children.start(launch(folder, f"engine-{number}", f"job-{number}", "prolific"))
    ready(folder, 4)
    reports = children.close()
    assert [report.step for report in reports] == [Step.TERMINATED] * 4
    with pytest.raises(ChildFailed, match="has closed"):
        children.start(launch(folder, "late"))
    assert children.close() == []


def test_any_thread_may_start_and_abort(folder: Path) -> None:
    """Twelve engines in four jobs, from four threads; each job's abort reports its own three."""
    names: list[str] = []

    def work(job: str) -> None:
        for number in range(3):
            children.start(launch(folder, f"{job}-{number}", job))
        reports = children.abort(job, graces=Graces(0.0, BOUND_S, BOUND_S))
        names.extend(report.name for report in reports)

    with Children() as children:
        threads = [threading.Thread(target=work, args=(f"job-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND_S)
    assert sorted(names) == [f"job-{n}-{m}" for n in range(4) for m in range(3)]
