"""An engine over all of its lives: zbus/engine/children/supervised.py."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from brokers import BOUND_S, broker, leaving_nothing
from keyring import Keyring, free_ports
from processes.cluster import Cluster, wait_for
from processes.family import engine, environ_of, living, noted, parent_of

from zbus.engine.children.abort import Graces, Step
from zbus.engine.children.child import Ending
from zbus.engine.children.launch import Launch, Restarts
from zbus.engine.children.supervised import Supervised
from zbus.errors import ChildFailed, NameTaken, ZbusError
from zbus.peer.peer import Peer, connect

pytestmark = pytest.mark.real
OFTEN = Restarts(100, 60.0)
SERVE = (
    "import os, zbus\n"
    "dispatcher = zbus.Dispatcher()\n"
    "dispatcher.add('who', lambda body: os.getpid())\n"
    "first = zbus.connect(dispatcher=dispatcher)\n"
    "import signal; signal.pause()\n"
)


@contextmanager
def supervised(
    *argv: str,
    folder: Path,
    restarts: Restarts | None = None,
    endpoint: str = "",
    on_end: Callable[[Supervised], object] | None = None,
) -> Iterator[Supervised]:
    """An engine, and nothing of it left."""
    environ = environ_of(folder)
    launch = Launch(argv=argv, name="site-1", environ=environ, restarts=restarts, endpoint=endpoint)
    with leaving_nothing():
        started = Supervised(launch, on_end)
        yield started
        started.abort(None, Graces(0.0, BOUND_S, BOUND_S))
        assert not started.is_alive
        assert living(folder) == []


def lives(folder: Path, count: int) -> None:
    """Wait until so many lives have begun."""
    wait_for(lambda: len(noted(folder, "depth-0")) == count, BOUND_S, f"life {count}")


def test_each_life_has_a_greater_epoch(tmp_path: Path) -> None:
    """Killed three times, it comes back three times, with the token it had; by far greater than
    the connects of a life."""
    with supervised(*engine(tmp_path, "plain"), folder=tmp_path, restarts=OFTEN) as started:
        for life in range(1, 5):
            lives(tmp_path, life)
            assert noted(tmp_path, "depth-0")[-1] == started.pid
            if life < 4:
                os.kill(started.pid, signal.SIGKILL)
        epochs = noted(tmp_path, "epochs")
        assert all(later - earlier > 1_000_000 for earlier, later in pairwise(epochs))
        assert epochs[-1] == started.epoch
        assert len(set(noted(tmp_path, "tokens"))) == 1
        assert started.restarts == 3
        assert started.is_alive
        assert started.ending is None
        assert started.wait(0.0) is None


def answers(asker: Peer, started: Supervised) -> bool:
    """Whether its present life is reached by its name."""
    try:
        pid = asker.request("who", to=started.launch.name, timeout=1.0)
    except ZbusError:
        return False
    return bool(pid == started.pid)


@contextmanager
def closing_down(started: Supervised) -> Iterator[None]:
    """It is gone at the end."""
    try:
        yield
    finally:
        started.abort(None, Graces(0.0, BOUND_S, BOUND_S))


def test_a_later_life_takes_over_its_name(runtime_dir: Path) -> None:
    """On a real broker: reached by name, with nothing said on its command line; who cannot show
    the token is refused."""
    argv = (sys.executable, "-c", SERVE)
    with (
        broker(runtime_dir) as here,
        supervised(*argv, folder=runtime_dir, restarts=OFTEN, endpoint=here.frontend) as started,
        connect(here.frontend, "asker") as asker,
    ):
        for _ in range(3):
            wait_for(lambda: answers(asker, started), BOUND_S, "the engine is reached by its name")
            with pytest.raises(NameTaken):
                connect(here.frontend, "site-1")
            started.signal(signal.SIGKILL)


@contextmanager
def fortress(place: Path) -> Iterator[tuple[Keyring, str]]:
    """A broker with CURVE that trusts site-1 and site-2, and its frontend."""
    ring = Keyring(place, ("site-1", "site-2"))
    front, back, pipe = (f"tcp://127.0.0.1:{port}" for port in free_ports(3))
    config = place / "keys.toml"
    config.write_text(f'[listen]\nfrontend = "{front}"\nbackend = "{back}"\npipe = "{pipe}"\n')
    with Cluster(place) as cluster:
        keys = "--key", str(ring.secret("broker")), "--trust", str(ring.trust)
        cluster.broker("--config", str(config), *keys)
        yield ring, front


def test_p16_a_child_has_its_key_from_its_parent_alone(runtime_dir: Path) -> None:
    """At a broker with CURVE every life comes in under its parent's key, with a name below it, and
    is reached by that name. The secret is in no command line and no environment, the engine's
    nor its guard's. Once the file is gone there is no further life, and it is said why."""
    with fortress(runtime_dir) as (ring, front), leaving_nothing():
        server_key = ring.public("broker")
        secret = ring.secret_text("site-1").encode()
        launch = Launch(
            argv=(sys.executable, "-c", SERVE),
            name="site-1.job-7",
            endpoint=front,
            key=ring.secret("site-1"),
            server_key=server_key,
            environ=environ_of(runtime_dir),
            restarts=OFTEN,
        )
        started = Supervised(launch, None)
        with (
            closing_down(started),
            connect(front, key=ring.secret("site-2"), server_key=server_key) as asker,
        ):
            for life in range(3):
                wait_for(lambda: answers(asker, started), BOUND_S, f"life {life} is reached")
                for pid in (started.pid, parent_of(started.pid)):
                    for file in ("cmdline", "environ"):
                        assert secret not in Path(f"/proc/{pid}/{file}").read_bytes()
                if life == 2:
                    ring.secret("site-1").unlink()
                started.signal(signal.SIGKILL)
            with pytest.raises(ChildFailed, match=r"cannot be given its key: .*site-1\.key"):
                started.wait(BOUND_S)


def test_one_that_ends_at_once_is_given_up_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three restarts are allowed and made; it is logged, told once and raised to who waits."""
    told: list[Supervised] = []
    restarts = Restarts(3, 60.0)
    with supervised("false", folder=tmp_path, restarts=restarts, on_end=told.append) as started:
        with pytest.raises(ChildFailed, match="exit code 1 after 3 restarts in 60 s"):
            started.wait(BOUND_S)
        wait_for(lambda: told == [started], BOUND_S, "the owner is told")
        assert started.restarts == 3
        assert started.ending == Ending(1)
        assert "is given up" in started.failure
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == [started.failure]


def test_one_whose_program_vanished_is_given_up(tmp_path: Path) -> None:
    """A restart that cannot be is the end, and says why."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nrm $0\nexit 1\n")
    program.chmod(0o700)
    with supervised(str(program), folder=tmp_path, restarts=OFTEN) as started:
        with pytest.raises(ChildFailed, match=f"cannot be started again: {program}"):
            started.wait(BOUND_S)
        assert started.restarts == 0


@pytest.mark.parametrize(("program", "restarts"), [("true", OFTEN), ("false", None)])
def test_an_end_that_is_one(tmp_path: Path, program: str, restarts: Restarts | None) -> None:
    """Work that is done is not begun again; nor is any where nobody asked for it."""
    with supervised(program, folder=tmp_path, restarts=restarts) as started:
        assert started.wait(BOUND_S) == Ending(0 if program == "true" else 1)
        assert (started.restarts, started.failure) == (0, "")


def test_what_is_aborted_is_not_started_again(tmp_path: Path) -> None:
    """Also where it ends badly by that; and a second abort finds nothing to do."""
    with supervised(*engine(tmp_path, "plain"), folder=tmp_path, restarts=OFTEN) as started:
        wait_for(lambda: noted(tmp_path, "depth-0"), BOUND_S, "it is ready")
        first = started.abort(None, Graces(0.0, 0.0, BOUND_S))
        assert (first.step, first.ending, first.name) == (Step.KILLED, Ending(-9), "site-1")
        assert 0.0 < first.took_ms < BOUND_S * 1e3
        assert started.abort(None, Graces()).step is Step.NOTHING
        assert started.wait(0.0) == Ending(-9)
        assert started.restarts == 0


def test_an_owner_who_raises_hurts_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the end is known all the same."""

    def on_end(_started: Supervised) -> None:
        raise ValueError("the owner's own fault")

    with supervised("true", folder=tmp_path, on_end=on_end) as started:
        assert started.wait(BOUND_S) == Ending(0)
        wait_for(lambda: "the owner's own fault" in caplog.text, BOUND_S, "it is logged")
