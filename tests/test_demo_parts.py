"""The processes of the demo: zbus/demo/parts.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zbus.demo.parts import EnginePart, Part, command_of, environment, living_in
from zbus.engine.children import Children, Launch

BOUND_S = 20.0
SOURCES = {
    "talks": "for number in range(20): print('line', number, flush=True)",
    "waits": "import time; print('up', flush=True); time.sleep(60)",
    "stubborn": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    ),
    "parent": (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('up', flush=True); time.sleep(60)"
    ),
    "orphan": (
        "import time; from zbus.demo.parts import end_with_parent;"
        "end_with_parent(); print('up', flush=True); time.sleep(60)"
    ),
}


@pytest.fixture
def start(tmp_path: Path, runtime_dir: Path) -> Iterator[Callable[[str], Part]]:
    """Starts a part that does as its name says."""
    for name, source in SOURCES.items():
        (tmp_path / f"{name}.py").write_text(source)
    environ = environment(runtime_dir, {**os.environ, "PYTHONPATH": str(tmp_path)})
    started: list[Part] = []

    def start_it(name: str) -> Part:
        part = Part(name, (name,), tmp_path / f"{name}.log", environ)
        started.append(part)
        return part

    yield start_it
    for part in started:
        part.kill()


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a bound."""
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_begun(part: Part) -> bool:
    """Whether it has said so."""
    return "up" in part.last_lines()


def test_parts_know_nothing_of_other_buses(runtime_dir: Path) -> None:
    """No setting of whoever runs the demo reaches them, nor a service manager's sockets."""
    mine = {
        "ZBUS_ENDPOINT": "ipc:///elsewhere",
        "ZBUS_RUNTIME_DIR": "/elsewhere",
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "1",
        "HOME": "/home",
        "PYTHONPATH": "/mine",
    }
    theirs = environment(runtime_dir, mine)
    assert {name for name in theirs if name.startswith("ZBUS_")} == {"ZBUS_RUNTIME_DIR"}
    assert theirs["ZBUS_RUNTIME_DIR"] == str(runtime_dir)
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & theirs.keys()
    assert theirs["HOME"] == "/home"
    assert theirs["OMP_NUM_THREADS"] == "1"
    sources, *others = theirs["PYTHONPATH"].split(os.pathsep)
    assert (Path(sources) / "zbus").is_dir()
    assert others == ["/mine"]
    assert environment(runtime_dir, {})["PYTHONPATH"] == sources


@pytest.mark.real
def test_a_part_tells_its_end_and_its_last_lines(start: Callable[[str], Part]) -> None:
    """The last ones, and not all."""
    part = start("talks")
    until(lambda: part.exit_code is not None)
    assert part.exit_code == 0
    assert part.last_lines().splitlines() == [f"    line {number}" for number in range(12, 20)]


@pytest.mark.real
def test_a_part_that_printed_nothing_says_so(start: Callable[[str], Part]) -> None:
    """Instead of showing nothing."""
    assert start("waits").last_lines() in ("    (it printed nothing)", "    up")


@pytest.mark.real
def test_a_part_leads_a_group_of_its_own(start: Callable[[str], Part]) -> None:
    """Ctrl-C at the terminal is for the story alone."""
    part = start("waits")
    assert os.getpgid(part.pid) == part.pid != os.getpgid(0)
    part.ask_to_end()
    until(lambda: part.exit_code is not None)
    assert part.exit_code == -signal.SIGTERM


@pytest.mark.real
@pytest.mark.parametrize("name", ["stubborn", "parent"])
def test_a_killed_part_is_gone_with_all_it_started(
    start: Callable[[str], Part], runtime_dir: Path, name: str
) -> None:
    """Whether it wants or not; and a second time is as good as once."""
    part = start(name)
    until(lambda: has_begun(part))
    assert part.pid in living_in(runtime_dir)
    part.kill()
    part.kill()
    assert part.exit_code == -signal.SIGKILL
    until(lambda: not [*living_in(runtime_dir)])


@pytest.mark.real
def test_a_part_does_not_outlive_its_parent(runtime_dir: Path, tmp_path: Path) -> None:
    """Also where that is killed: the pipe between the two says so."""
    (tmp_path / "orphan.py").write_text(SOURCES["orphan"])
    script = (
        "import sys, time; from pathlib import Path; from zbus.demo.parts import *\n"
        "place = Path(sys.argv[1])\n"
        "part = Part('orphan', ('orphan',), place / 'log', environment(Path(sys.argv[2])))\n"
        "while 'up' not in part.last_lines(): time.sleep(0.01)\n"
        "print(part.pid, flush=True); time.sleep(60)\n"
    )
    root = Path(__file__).parent.parent
    environ = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-c", script, str(tmp_path), str(runtime_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert [*living_in(runtime_dir)] == [pid]
        parent.kill()
    until(lambda: not [*living_in(runtime_dir)])


@pytest.mark.real
def test_an_engine_is_a_part_as_others_are(
    start: Callable[[str], Part], runtime_dir: Path, tmp_path: Path
) -> None:
    """It prints to its log, ends when it is asked to, and can be killed, twice, too."""
    start("talks")  # which has written the modules
    environ = environment(runtime_dir, {**os.environ, "PYTHONPATH": str(tmp_path)})
    with Children() as children:
        for name in ("waits", "stubborn"):
            log = tmp_path / f"{name}.log"
            launch = Launch(argv=command_of(name), name=name, environ=environ, log=log)
            part = EnginePart(name, children.start(launch))
            until(lambda part=part: "up" in part.last_lines())  # type: ignore[misc]
            assert part.exit_code is None
            assert part.pid in living_in(runtime_dir)
            if name == "waits":
                part.ask_to_end()
                until(lambda part=part: part.exit_code is not None)  # type: ignore[misc]
                assert part.exit_code == -signal.SIGTERM
            part.kill()
            part.kill()
        assert part.exit_code == -signal.SIGKILL
        until(lambda: not [*living_in(runtime_dir)])
