"""Whoever is killed, no engine is left, and none is killed by mistake: the guard (P20)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from processes.cluster import wait_for
from processes.family import end, engine, environ_of, is_there, living, noted, parent_of

from zbus.engine.children import Children, Graces, Launch, guard

pytestmark = pytest.mark.real
BOUND_S = 30.0
GONE_S = 3.0
"""What P20 promises."""
WAYS = ("plain", "execs", "blocked", "deaf", "motherly", "prolific", "stopped")
VICTIMS = ("parent", "grandparent", "guard", "parent's guard")


@contextmanager
def family(way: str) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A grandparent, a parent and an engine, each started from a thread that has ended."""
    with tempfile.TemporaryDirectory(prefix="zbus-") as name:
        folder = Path(name)
        top = subprocess.Popen(engine(folder, way, 2), env=environ_of(folder))
        try:
            wait_for(lambda: noted(folder, "depth-2"), BOUND_S, "the grandparent is ready")
            wait_for(lambda: noted(folder, "depth-1"), BOUND_S, "the parent is ready")
            wait_for(lambda: noted(folder, "depth-0"), BOUND_S, "the engine is ready")
            yield folder, top
        finally:
            end(folder)
            top.kill()
            top.wait()


def present(folder: Path, pids: set[int]) -> set[int]:
    """Who is there of these, and of those born since."""
    return set(living(folder)).union(filter(is_there, pids))


def left_after(way: str, victim: str) -> list[int]:
    """What is left 3 s after a victim is killed -9, of all below it."""
    with family(way) as (folder, top):
        (leaf,), (middle,) = noted(folder, "depth-0"), noted(folder, "depth-1")
        pids = {
            "parent": middle,
            "grandparent": top.pid,
            "guard": parent_of(leaf),
            "parent's guard": parent_of(middle),
        }
        stay: set[int] = {
            "grandparent": set(),
            "parent": {top.pid},
            "parent's guard": {top.pid},
            "guard": {top.pid, middle, parent_of(middle)},
        }[victim]
        if way == "stopped":
            os.kill(leaf, signal.SIGSTOP)
        members = 5 + {"motherly": 1, "prolific": 2}.get(way, 0)
        wait_for(lambda: len(living(folder)) == members, BOUND_S, "the family is complete")
        family_pids = set(living(folder))
        os.kill(pids[victim], signal.SIGKILL)
        deadline = time.monotonic() + GONE_S
        while (left := present(folder, family_pids) - stay) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert stay <= present(folder, family_pids), "a false kill"
        return sorted(left)


@pytest.mark.parametrize("way", WAYS)
def test_p20_no_engine_outlives_its_grandparent(way: str) -> None:
    """Killed -9 two levels up: whatever the engine does, or is blocked in, it is gone."""
    assert left_after(way, "grandparent") == []


@pytest.mark.parametrize("victim", VICTIMS)
def test_p20_whoever_is_killed_what_is_below_goes_along(victim: str) -> None:
    """Also with what the engine has started, in its group and out of it, and nobody above."""
    # What left the group of an engine is found by its guard alone.
    way = "motherly" if victim == "guard" else "prolific"
    assert left_after(way, victim) == []


@pytest.mark.slow
def test_p20_a_hundred_families_leave_nobody() -> None:
    """Every way and every victim in turn, several at a time."""
    cases = list(product(WAYS, VICTIMS))
    cases.remove(("prolific", "guard"))
    runs = [cases[number % len(cases)] for number in range(100)]
    with ThreadPoolExecutor(4) as threads:
        left = list(threads.map(lambda case: left_after(*case), runs))
    assert [(case, pids) for case, pids in zip(runs, left, strict=True) if pids] == []


def test_a_fork_of_the_parent_does_not_hide_its_death(tmp_path: Path) -> None:
    """It holds the parent's end of the socket; the parent's pidfd tells all the same."""
    source = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from processes.family import engine\n"
        "from zbus.engine.children import Children, Launch\n"
        "children = Children()\n"
        "children.start(Launch(argv=engine(Path(sys.argv[1]), 'plain'), name='a'))\n"
        "os.fork()\n"
        "signal.pause()\n"
    )
    folder = str(tmp_path)
    environ = environ_of(tmp_path) | {"PYTHONWARNINGS": "ignore"}
    parent = subprocess.Popen([sys.executable, "-c", source, folder], env=environ)
    try:
        wait_for(lambda: noted(tmp_path, "depth-0"), BOUND_S, "the engine is ready")
        wait_for(lambda: len(living(tmp_path)) == 4, BOUND_S, "the fork is there")
        parent.kill()
        parent.wait()
        wait_for(lambda: len(living(tmp_path)) == 1, GONE_S, "only the fork is left")
        assert noted(tmp_path, "depth-0")[0] not in living(tmp_path)
    finally:
        end(tmp_path)


def test_an_engine_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """PDEATHSIG is sent at the end of a thread; nothing of ours depends on that one."""
    with Children() as children:
        launch = Launch(argv=engine(tmp_path, "beats"), name="a", environ=environ_of(tmp_path))
        thread = threading.Thread(target=children.start, args=(launch,))
        thread.start()
        thread.join()
        wait_for(lambda: noted(tmp_path, "beats"), BOUND_S, "it beats")
        before = len(noted(tmp_path, "beats"))
        wait_for(lambda: len(noted(tmp_path, "beats")) > before + 50, BOUND_S, "it goes on")
        (started,) = children.of_job("")
        assert started.is_alive
    assert living(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_guard_heeds_no_polite_signal(tmp_path: Path, number: int) -> None:
    """A control group that is asked to end leaves its engines the time to do so."""
    with Children() as children:
        launch = Launch(argv=engine(tmp_path, "beats"), name="a", environ=environ_of(tmp_path))
        started = children.start(launch)
        os.kill(parent_of(started.pid), number)
        wait_for(lambda: len(noted(tmp_path, "beats")) > 10, BOUND_S, "it goes on")
        assert started.is_alive
        assert children.abort("", graces=Graces(0.0, BOUND_S, BOUND_S))[0].ending.code == -15


def test_what_an_engine_leaves_is_ended_before_its_end_is_told(tmp_path: Path) -> None:
    """It exits by itself; two processes of its own remain, one in a session of its own."""
    with Children() as children:
        launch = Launch(argv=engine(tmp_path, "leaves"), name="a", environ=environ_of(tmp_path))
        ending = children.start(launch).wait(BOUND_S)
        assert ending is not None
        assert ending.code == 3
        wait_for(lambda: not living(tmp_path), 1.0, "the guard is gone, too")


def test_a_guard_without_its_parent_starts_nothing(tmp_path: Path) -> None:
    """The parent was killed before the guard could look."""
    touch = ("touch", str(tmp_path / "started"))
    gone = subprocess.Popen(["true"])
    gone.wait()
    for parent in (gone.pid, os.getppid()):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptors = theirs.fileno(), os.dup(0)
        words = (str(parent), *map(str, descriptors), *touch)
        with ours, theirs:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(guard.__file__), *words],
                pass_fds=descriptors,
                capture_output=True,
                timeout=BOUND_S,
                check=False,
            )
        os.close(descriptors[1])
        assert (done.returncode, done.stderr) == (1, b"")
    assert not (tmp_path / "started").exists()
