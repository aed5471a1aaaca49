"""The parts of a run together, and their end: zbus/demo/cast.py."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zbus.demo.cast import Cast, DemoFailed, interruptible
from zbus.demo.parts import living_in
from zbus.demo.plan import BROKER, SERVER
from zbus.transport.endpoints import IPC_PATH_MAX_BYTES

BOUND_S = 20.0
SOURCES = {
    "ends_well": "print('all is well')",
    "ends_badly": "import sys; print('something is wrong'); sys.exit(3)",
    "waits": "import time; time.sleep(60)",
    "falls_late": (
        "import os, sys, time; from pathlib import Path\n"
        "while not Path(os.environ['ZBUS_RUNTIME_DIR'], 'fallen').exists(): time.sleep(0.001)\n"
        "time.sleep(0.1); sys.exit(5)"
    ),
    "takes_along": (
        "import os, sys; from pathlib import Path\n"
        "Path(os.environ['ZBUS_RUNTIME_DIR'], 'fallen').touch(); sys.exit(4)"
    ),
    "leaves_a_stray": (
        "import subprocess, sys;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)"
    ),
}


@pytest.fixture
def cast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cast]:
    """A cast whose parts are the modules above."""
    for name, source in SOURCES.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cast = Cast()
    yield cast
    cast.close()


def ended(cast: Cast, name: str) -> Callable[[], bool]:
    """Whether a part has."""
    return lambda: cast.parts[name].exit_code is not None


def test_sockets_have_short_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where temporary directories are somewhere deep; and nobody else may go in."""
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    for place in (str(deep), str(tmp_path)):
        monkeypatch.setattr("tempfile.tempdir", place)
        cast = Cast()
        assert len(cast.frontend.removeprefix("ipc://")) <= IPC_PATH_MAX_BYTES
        assert cast.runtime_dir.stat().st_mode & 0o777 == 0o700
        assert cast.close() == []
        assert not cast.runtime_dir.exists()


@pytest.mark.real
def test_a_part_that_ends_well_is_seen_off(cast: Cast) -> None:
    """It is no failure that it has ended before."""
    cast.start("one", "ends_well")
    assert cast.wait_until(ended(cast, "one"), BOUND_S)
    cast.look()
    cast.see_off("one")
    assert cast.exits() == {"one": 0}


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "module", "code"), [("one", "ends_badly", 3), (BROKER, "ends_well", 0)]
)
def test_a_part_that_ends_badly_fails_the_run(
    cast: Cast, name: str, module: str, code: int
) -> None:
    """With its name, its exit code and its last words; a broker that ends at all does, too."""
    cast.start(name, module)
    with pytest.raises(DemoFailed) as raised:
        cast.wait_until(lambda: False, BOUND_S)
    assert str(raised.value).startswith(f"{name} ended with exit code {code}.")
    assert str(raised.value).splitlines()[1].strip() in ("something is wrong", "all is well")


@pytest.mark.real
def test_who_fell_first_is_to_blame(cast: Cast) -> None:
    """Parts that others need were started first, and take those along when they fall."""
    cast.start(SERVER, "falls_late")
    cast.start("engine-1", "takes_along")
    with pytest.raises(DemoFailed, match="server ended with exit code 5"):
        cast.wait_until(lambda: False, BOUND_S)


@pytest.mark.real
def test_a_part_that_does_not_end_fails_the_run(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its time is up."""
    monkeypatch.setattr("zbus.demo.cast._END_S", 0.05)
    cast.start("one", "waits")
    with pytest.raises(DemoFailed, match=r"one has not ended within 0\.05 s"):
        cast.see_off("one")


@pytest.mark.real
def test_a_wait_has_its_bound(cast: Cast) -> None:
    """And says that it was in vain."""
    cast.start("one", "waits")
    began = time.monotonic()
    assert cast.wait_until(lambda: False, 0.1) is False
    assert time.monotonic() - began < BOUND_S
    assert cast.wait_until(lambda: True, 0.0) is True


@pytest.mark.real
def test_p24_close_leaves_nothing(cast: Cast) -> None:
    """Whatever runs is killed, and the runtime directory removed; twice is as good as once."""
    for name in ("one", "two"):
        cast.start(name, "waits")
    assert len([*living_in(cast.runtime_dir)]) == 2
    assert cast.close() == []
    assert cast.close() == []
    assert [*living_in(cast.runtime_dir)] == []
    assert not cast.runtime_dir.exists()
    assert cast.exits() == {"one": -signal.SIGKILL, "two": -signal.SIGKILL}


@pytest.mark.real
def test_what_a_part_left_behind_is_told_and_killed(cast: Cast) -> None:
    """Also where it left the part's group."""
    cast.start("one", "leaves_a_stray")
    cast.see_off("one")
    (stray,) = living_in(cast.runtime_dir)
    assert cast.close() == [f"process {stray}"]
    assert [*living_in(cast.runtime_dir)] == []


def test_sockets_that_are_left_are_told(cast: Cast) -> None:
    """Other files are not."""
    assert cast.sockets() == []
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(cast.runtime_dir / "frontend"))
        assert cast.sockets() == [str(cast.runtime_dir / "frontend")]


def test_files_may_be_kept_elsewhere(tmp_path: Path) -> None:
    """They stay there after the end."""
    cast = Cast(tmp_path / "kept")
    cast.place.log("server").write_text("a word\n")
    cast.close()
    assert (tmp_path / "kept" / "server.log").read_text() == "a word\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_us_are_like_ctrl_c(number: signal.Signals) -> None:
    """While it lasts, and no longer; a signal that was ignored stays ignored."""
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before
    try:
        signal.signal(number, signal.SIG_IGN)
        with interruptible():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.real
def test_no_signal_keeps_close_from_its_work(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C comes while everything is being ended."""
    part = cast.start("one", "waits")
    kill = part.kill

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        kill()

    monkeypatch.setattr(part, "kill", interrupted)
    assert cast.close() == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.real
def test_an_engine_is_a_child(cast: Cast) -> None:
    """It ends as a part does, and close leaves neither it nor its guard."""
    good = cast.start_engine("engine-1", "job", "ends_well")
    cast.see_off("engine-1")
    assert good.exit_code == 0
    cast.start_engine("engine-2", "job", "waits")
    assert len([*living_in(cast.runtime_dir)]) == 2
    assert cast.close() == []
    assert cast.exits() == {"engine-1": 0, "engine-2": -signal.SIGKILL}
    with pytest.raises(DemoFailed, match=r"engine-3 did not start.*this parent has closed"):
        cast.start_engine("engine-3", "job", "waits")
    assert [*living_in(cast.runtime_dir)] == []


@pytest.mark.real
def test_an_engine_that_ends_badly_fails_the_run(cast: Cast) -> None:
    """With its exit code and its last words, or with why it did not start."""
    cast.start_engine("engine-1", "job", "ends_badly")
    with pytest.raises(DemoFailed, match="engine-1 ended with exit code 3") as raised:
        cast.wait_until(lambda: False, BOUND_S)
    assert str(raised.value).endswith("something is wrong")
    cast.start_engine("engine-2", "job", "waits")
    with pytest.raises(DemoFailed, match="engine-2 did not start"):
        cast.start_engine("engine-2", "job", "waits")


@pytest.mark.real
def test_one_job_is_aborted_and_no_other(cast: Cast) -> None:
    """Whoever asks is given the grace; the job is no part of the run any more."""
    cast.start_engine("engine-1", "job", "waits")
    cast.start_engine("engine-2", "another", "waits")
    graces: list[float] = []

    def refuse(grace_s: float) -> None:
        graces.append(grace_s)
        raise RuntimeError("no")

    report = cast.abort("engine-1", "job", refuse)
    assert (report.step, report.refusal) == ("terminated", "RuntimeError: no")
    assert report.ending.code == -signal.SIGTERM
    assert len(graces) == 1
    assert [*cast.parts] == ["engine-2"]
    assert cast.parts["engine-2"].exit_code is None
    cast.look()
