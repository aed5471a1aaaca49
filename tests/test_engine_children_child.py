"""One life of an engine: zbus/engine/children/child.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from brokers import leaving_nothing
from processes.cluster import wait_for
from processes.family import end, engine, environ_of, living, noted, parent_of

from zbus.engine.children.child import Child, Ending, spawn
from zbus.engine.children.launch import Launch
from zbus.errors import ChildFailed
from zbus.peer.handover import Handover

pytestmark = pytest.mark.real
BOUND_S = 30.0
TELL = (
    "import json, os, sys\n"
    "from zbus.peer.naming import default_endpoint, identify\n"
    "from zbus.protocol.message import Role\n"
    "who = identify(None, Role.ENGINE)\n"
    "print(json.dumps([who.name, who.epoch, who.proof.decode(), default_endpoint(Role.ENGINE),"
    " default_endpoint(Role.SERVER), os.getsid(0) == os.getpid(), os.listdir('/proc/self/fd')]))\n"
    "print(open('/proc/self/cmdline').read() + open('/proc/self/environ').read())\n"
    "print(open(f'/proc/{os.getppid()}/cmdline').read())\n"
    "print(open(f'/proc/{os.getppid()}/environ').read())\n"
)


def run(*argv: str, log: Path | None = None, folder: Path | None = None) -> Ending:
    """Start a program and wait for its end."""
    launch = Launch(argv=argv, name="a", log=log, folder=folder, environ=environ_of(Path("-")))
    child = spawn(launch, Handover("a", 1))
    child.follow(lambda ending: None)
    ending = child.wait(BOUND_S)
    assert ending is not None
    assert ending is child.ending
    assert not child.is_alive
    return ending


def follow(folder: Path, way: str) -> Child:
    """An engine of the family that is ready."""
    launch = Launch(argv=engine(folder, way), name="a", environ=environ_of(folder))
    child = spawn(launch, Handover("a", 1))
    child.follow(lambda ending: None)
    wait_for(lambda: noted(folder, "depth-0"), BOUND_S, "the engine is ready")
    return child


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("exit 0", 0, "exit code 0"),
        ("exit 3", 3, "exit code 3"),
        ("kill -TERM $$", -15, "SIGTERM"),
        ("kill -KILL $$", -9, "SIGKILL"),
        ("kill -35 $$", -35, "signal 35"),
    ],
)
def test_how_it_ended_is_told(script: str, code: int, text: str) -> None:
    """The exit code or the signal, as the program left it."""
    ending = run("sh", "-c", script)
    assert (ending.code, str(ending), ending.is_good) == (code, text, code == 0)


@pytest.mark.parametrize("program", ["/does/not/exist", "/etc/passwd", "no-such-program"])
def test_what_cannot_be_started_says_why_and_leaves_nothing(program: str) -> None:
    """At once, where it was started."""
    with leaving_nothing(), pytest.raises(ChildFailed, match=program):
        run(program)


def test_a_folder_or_log_that_is_not_there_says_so(tmp_path: Path) -> None:
    """So does a log where none can be."""
    missing = tmp_path / "missing"
    with leaving_nothing():
        for where in ({"folder": missing}, {"log": missing / "log"}):
            with pytest.raises(ChildFailed, match="missing"):
                run("true", **where)


def test_what_is_handed_over_is_found_and_seen_by_nobody(tmp_path: Path) -> None:
    """Name, epoch, token and endpoints, in neither command line nor environment: neither the
    engine's nor its guard's. The descriptor is closed once it was read."""
    log = tmp_path / "log"
    handover = Handover("site-1", 77, "top-secret", "job-1", "ipc:///f", "ipc:///b")
    launch = Launch(
        argv=(sys.executable, "-c", TELL), name="site-1", log=log, environ=environ_of(tmp_path)
    )
    child = spawn(launch, handover)
    child.follow(lambda ending: None)
    assert child.wait(BOUND_S) == Ending(0), log.read_text()
    first, _, rest = log.read_text().partition("\n")
    *told, descriptors = json.loads(first)
    assert told == ["site-1", 77, "top-secret", "ipc:///f", "ipc:///b", True]
    assert len(descriptors) == 4, "the three standard ones, and that of the listing"
    assert "ZBUS_LAUNCH=" in rest
    assert "guard.py" in rest
    for secret in ("top-secret", "job-1", "ipc:///f", "77\0"):
        assert secret not in rest


def test_its_log_is_appended_to(tmp_path: Path) -> None:
    """A restart does not lose what the life before said."""
    for word in ("one", "two"):
        run("sh", "-c", f"echo {word}; pwd >&2", log=tmp_path / "log", folder=tmp_path)
    assert (tmp_path / "log").read_text().split() == ["one", str(tmp_path), "two", str(tmp_path)]


def test_p24_a_hundred_lives_leave_nothing() -> None:
    """No descriptor, no thread and no zombie."""
    with leaving_nothing():
        for _ in range(20):
            threads = [threading.Thread(target=run, args=("true",)) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(BOUND_S)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_how_it_ended_is_told_whatever_was_said_last(tmp_path: Path) -> None:
    """A hundred signals that the guard no longer reads do not hide its last message."""
    child = follow(tmp_path, "plain")
    for _ in range(100):
        child.signal(signal.SIGUSR1)
    assert child.wait(BOUND_S) == Ending(-signal.SIGUSR1)


def test_a_signal_that_the_parent_blocks_reaches_its_engine(tmp_path: Path) -> None:
    """The mask of the thread that starts it is not the engine's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        child = follow(tmp_path, "plain")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    child.signal(signal.SIGTERM)
    try:
        assert child.wait(5.0) == Ending(-signal.SIGTERM)
    finally:
        end(tmp_path)


def test_signals_reach_the_group(tmp_path: Path) -> None:
    """The engine ends of it, and so it is told; afterwards a signal reaches nobody."""
    child = follow(tmp_path, "motherly")
    assert child.wait(0.0) is None
    child.signal(signal.SIGUSR1)
    assert child.wait(BOUND_S) == Ending(-signal.SIGUSR1)
    assert living(tmp_path) == []
    child.signal(signal.SIGKILL)
    child.kill_guard()


def test_a_child_whose_guard_is_killed_is_gone_with_its_group(tmp_path: Path) -> None:
    """Killed by the kernel, and reported so; what it started in its group is gone, too."""
    child = follow(tmp_path, "motherly")
    try:
        os.kill(parent_of(child.pid), signal.SIGKILL)
        assert child.wait(BOUND_S) == Ending(-signal.SIGKILL)
        wait_for(lambda: not living(tmp_path), 1.0, "nobody is left")
    finally:
        end(tmp_path)


def test_an_ignored_sigchld_costs_no_exit_code() -> None:
    """The parent's own handling of children is its own affair."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run("sh", "-c", "exit 7") == Ending(7)
    finally:
        signal.signal(signal.SIGCHLD, before)
