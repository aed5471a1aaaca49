"""A broker's life: ready when it can be reached, fed while it turns, asleep when nothing is due."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, cast

import pytest
from fake_ports import FakeNetwork, FakePort
from processes.cluster import Cluster

import zbus
from zbus.broker import life
from zbus.broker.daemon import Daemon
from zbus.broker.doorkeeper import Doorkeeper
from zbus.broker.instance import InstanceLock
from zbus.broker.sections import BrokerSection, LimitsSection, ListenSection, TimesSection
from zbus.broker.settings import Settings
from zbus.errors import AlreadyRunning
from zbus.protocol.limits import HEADER_MAX_BYTES
from zbus.transport.sockets import ZmqNetwork

WATCHDOG_S = 0.4
BOUND_S = 20.0


@pytest.fixture
def own_signals() -> Iterator[None]:
    """What a life does to the signals of this process is undone."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def supervisor(cluster: Cluster) -> Iterator[socket.socket]:
    """A socket like systemd's, in the place of the cluster."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(f"{cluster.place}/notify")
        door.settimeout(BOUND_S)
        yield door


def settings_at(place: Path, heartbeat_s: float = 1.0) -> Settings:
    """The settings of a broker whose sockets are there."""
    frontend, backend, pipe = (f"ipc://{place}/{door}" for door in ("frontend", "backend", "pipe"))
    return Settings(
        broker=BrokerSection(runtime_dir=place),
        listen=ListenSection(frontend=(frontend,), backend=(backend,), pipe=(pipe,)),
        times=TimesSection(heartbeat_s=heartbeat_s),
    )


def can_be_connected(path: Path) -> bool:
    """Whether somebody listens at this socket, at this moment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        return door.connect_ex(str(path)) == 0


# -- in this process -----------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 4, 64])
def test_the_sockets_take_the_largest_body(factor: int) -> None:
    """A frame may be as long as a header or a body, whichever is longer, and a little more."""
    body_max = HEADER_MAX_BYTES * factor
    for bound, frame in ((body_max, body_max), (1, HEADER_MAX_BYTES)):
        settings = Settings(bounds=LimitsSection(body_max_bytes=bound))
        assert frame < life._profile(settings).frame_max_bytes <= frame + 65_536


def test_sessions_cannot_be_guessed() -> None:
    """They are different, above zero, and spread over what a Welcome can say."""
    tokens = life._tokens()
    found = [next(tokens) for _ in range(200)]
    assert len(set(found)) == 200
    assert all(0 < token < 2**63 for token in found)
    assert len({token >> 58 for token in found}) > 8


class SleepingNetwork(FakeNetwork):
    """Notes how long each sleep would be, and ends the life by a signal after some."""

    def __init__(self, sleeps: int) -> None:
        super().__init__()
        self.slept: list[float | None] = []
        self._sleeps = sleeps

    def bind_router(self, *endpoints: str) -> FakePort:
        return FakePort()

    def bind_pull(self, *endpoints: str) -> FakePort:
        return FakePort()

    def wait(self, timeout_s: float | None) -> bool:
        self.slept.append(timeout_s)
        if len(self.slept) == self._sleeps:
            os.kill(os.getpid(), signal.SIGTERM)
        return False


@pytest.mark.parametrize("watched", [True, False])
def test_an_idle_broker_sleeps_until_the_watchdog_is_due(
    watched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_signals: None
) -> None:
    """Never longer than half of the watchdog's interval; without one, until its own next turn."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if watched:
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    network = SleepingNetwork(5)
    settings = settings_at(tmp_path, heartbeat_s=3600.0)
    assert life._Life(Doorkeeper(settings), cast(ZmqNetwork, network)).live("") == 0
    assert len(network.slept) == 5
    slept = [timeout for timeout in network.slept if timeout is not None]
    if watched:
        assert len(slept) == 5
        longest_s = WATCHDOG_S / 2 + 1e-6  # instants are sums of floats
        assert all(timeout <= longest_s for timeout in slept)
    else:
        assert all(timeout > 60.0 for timeout in slept)
    assert network.woken == 1


class Witness:
    """Stands for the supervisor: looks whether what is said is so, and ends the broker."""

    watchdog_s = None
    place = Path()
    heard: ClassVar[list[str]] = []

    def __init__(self, environ: object) -> None: ...

    def ready(self, status: str) -> None:
        reached = [can_be_connected(self.place / door) for door in ("frontend", "backend", "pipe")]
        self.heard.append(f"ready, reached {all(reached)}")
        os.kill(os.getpid(), signal.SIGTERM)

    def stopping(self, status: str) -> None:
        self.heard.append("stopping")


@pytest.mark.real
def test_p23_ready_is_said_when_every_socket_can_be_connected(
    runtime_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_signals: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the very moment at which READY is said; then SIGTERM ends the life with 0."""
    monkeypatch.setattr(Witness, "place", runtime_dir)
    monkeypatch.setattr(Witness, "heard", [])
    monkeypatch.setattr(life, "Notifier", Witness)
    assert life.run_broker(settings_at(runtime_dir), ready="it is ready") == 0
    assert Witness.heard == ["ready, reached True", "stopping"]
    assert capsys.readouterr().out == "it is ready\n"
    assert not can_be_connected(runtime_dir / "frontend")


@pytest.mark.real
def test_p23_a_place_that_is_held_is_left_untouched(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock comes before everything else: nothing is bound, and nobody's signals are taken."""
    opened: list[Daemon] = []
    monkeypatch.setattr(Daemon, "open", opened.append)
    before = signal.getsignal(signal.SIGTERM)
    settings = settings_at(runtime_dir)
    with InstanceLock(settings.broker.runtime_dir), pytest.raises(AlreadyRunning):
        life.run_broker(settings)
    assert opened == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.real
def test_p18_a_signal_is_heeded_from_the_first_socket_on(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, own_signals: None
) -> None:
    """Who is told to stop while it binds says goodbye and leaves nothing behind (P24)."""
    bind = Daemon.open

    def bind_and_be_told(daemon: Daemon) -> None:
        bind(daemon)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what it does without us would end the tests
    monkeypatch.setattr(Daemon, "open", bind_and_be_told)
    disturber = threading.Timer(5.0, os.kill, (os.getpid(), signal.SIGINT))
    disturber.start()
    began = time.monotonic()
    assert life.run_broker(settings_at(runtime_dir)) == 0
    disturber.cancel()
    assert time.monotonic() - began < 5.0, "it was not heeded"
    assert list(runtime_dir.iterdir()) == []


# -- as a process --------------------------------------------------------------------------


@pytest.mark.real
def test_p23_ready_is_notified_and_the_broker_answers(
    cluster: Cluster, supervisor: socket.socket
) -> None:
    """READY is the first notice, the frontend is there by then, and STOPPING is the last."""
    address = f"{cluster.place}/notify"
    process = cluster.start("-m", "zbus", "broker", NOTIFY_SOCKET=address)
    assert supervisor.recv(1_000).startswith(b"READY=1\n")
    assert can_be_connected(cluster.place / "run" / "frontend")
    with zbus.connect(cluster.frontend, "engine") as engine:
        assert "version" in engine.request("zbus.ping", timeout=BOUND_S)
    process.terminate()
    assert supervisor.recv(1_000).startswith(b"STOPPING=1\n")
    assert process.wait(BOUND_S) == 0


@pytest.mark.real
def test_p23_the_watchdog_of_an_idle_broker_is_fed(
    cluster: Cluster, supervisor: socket.socket
) -> None:
    """Every half interval, although nothing else is due within the hour."""
    notices = {"NOTIFY_SOCKET": f"{cluster.place}/notify", "WATCHDOG_USEC": "400000"}
    cluster.environ.pop("WATCHDOG_PID", None)
    cluster.broker("--heartbeat", "1h", **notices)
    assert supervisor.recv(1_000).startswith(b"READY=1\n")
    fed: list[float] = []
    while len(fed) < 9:
        assert supervisor.recv(1_000) == b"WATCHDOG=1"
        fed.append(time.monotonic())
    gaps = sorted(later - earlier for earlier, later in pairwise(fed))
    # A busy machine may delay one or another; most come at half of the interval, and none so
    # late that a supervisor would kill the broker.
    assert gaps[len(gaps) // 2] <= WATCHDOG_S * 0.75
    assert gaps[-1] < WATCHDOG_S * 2


@pytest.mark.real
@pytest.mark.parametrize("options", [("--spin", "0ms"), ()], ids=["asleep", "default"])
def test_it_serves_with_and_without_spinning(cluster: Cluster, options: tuple[str, ...]) -> None:
    """A hundred requests, one after another, are answered either way."""
    cluster.broker(*options)
    with zbus.connect(cluster.frontend, "engine") as engine:
        for _ in range(100):
            assert "version" in engine.request("zbus.ping", timeout=BOUND_S)
