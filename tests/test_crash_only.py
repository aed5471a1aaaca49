"""The broker may be ended at any instant, by whoever it is: a pause, and no failed request (P6).

By SIGKILL it is in ``tests/test_processes.py``, and among all other faults in
``tests/test_mixed_faults.py``.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.cluster import Cluster, wait_for
from processes.confine import CannotConfine, kills_in, memory_group
from processes.sabotage import Accepts, CannotSabotage, saboteurs

import zbus

pytestmark = pytest.mark.real

ENGINES, RATE, TIMEOUT_S = 4, 50, 15.0
_HOG = "hoard = []\nwhile True: hoard.append(bytearray(b'x' * (1 << 20)))"
_CONFINED = """
import os, runpy, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
sys.argv[:] = ["zbus", "broker"]
runpy.run_module("zbus", run_name="__main__")
"""
_SHARE = 200 * 2**20
_GREEDY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Every large body is memory that the kernel is asked for, and nothing is kept in reserve."""


class Load:
    """Engines that ask for as long as they are told, and what became of it."""

    def __init__(self, cluster: Cluster, seconds: float) -> None:
        self._cluster = cluster
        self._names = [f"engine-{number}" for number in range(ENGINES)]
        self._count = int(RATE * seconds)
        cluster.actor("server", "server")
        self._engines = [
            cluster.actor("engine", name, rate=RATE, seconds=seconds, timeout=TIMEOUT_S)
            for name in self._names
        ]

    def runs_on(self) -> None:
        """Wait until every engine has had further replies."""
        before = [len(self._cluster.events(name, "end")) for name in self._names]
        for name, had in zip(self._names, before, strict=True):
            wait_for(
                lambda: len(self._cluster.events(name, "end")) >= had + 20,  # noqa: B023
                30.0,
                f"replies to {name}",
            )

    def check_p6(self) -> None:
        """Every request of every engine was replied to, and was started once."""
        for engine in self._engines:
            assert engine.wait(60.0) == 0, self._cluster.logs()
        endings: Counter[str] = Counter()
        for name in self._names:
            ends = self._cluster.events(name, "end")
            assert len({entry.key for entry in ends}) == len(ends) == self._count
            endings.update(entry.rest.partition(" ")[0] for entry in ends)
        assert endings == {"reply": ENGINES * self._count}
        started = (entry.key for entry in self._cluster.events("server", "start"))
        starts = Counter(key for key in started if key.startswith("engine-"))
        assert len(starts) == ENGINES * self._count
        assert max(starts.values()) == 1


# -- libzmq aborts -------------------------------------------------------------------------------


@pytest.fixture(params=sorted(saboteurs))
def accepts(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Accepts]:
    try:
        made = saboteurs[request.param](cluster.place)
    except CannotSabotage as reason:
        pytest.skip(str(reason))
    yield made
    made.end()


@pytest.mark.parametrize("error", ["EPERM", "ENETDOWN"])
def test_p06_libzmq_aborts_because_accept_fails(
    cluster: Cluster, accepts: Accepts, error: str
) -> None:
    """An error of the kernel that libzmq takes for a fault of its own: SIGABRT under load, and a
    restart is a pause. Nothing but the new connection had to do with it."""
    broker = cluster.broker(**accepts.variables)
    load = Load(cluster, 8.0)
    load.runs_on()
    try:
        accepts.fail(broker.pid, error)
    except CannotSabotage as reason:
        pytest.skip(str(reason))
    load.runs_on()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(cluster.place / "run" / "frontend"))
        assert broker.wait(20.0) == -signal.SIGABRT, cluster.logs()
    accepts.end()
    cluster.broker()
    load.runs_on()
    load.check_p6()


# -- the memory is gone --------------------------------------------------------------------------


def test_p06_the_kernel_kills_it_for_want_of_memory(cluster: Cluster) -> None:
    """The group that it lives in is full, because of whoever: killed under load, twice."""
    try:
        with memory_group(_SHARE) as group:
            broker = cluster.broker()
            load = Load(cluster, 10.0)
            for kills in (1, 2):
                load.runs_on()
                (group / "cgroup.procs").write_text(str(broker.pid))
                Path(f"/proc/{broker.pid}/oom_score_adj").write_text("1000")
                hog = cluster.start("-c", f"import os; open({str(group / 'cgroup.procs')!r}, 'w')"
                                    f".write(str(os.getpid()))\n{_HOG}")  # fmt: skip
                assert broker.wait(20.0) == -signal.SIGKILL
                hog.kill()
                hog.wait(10.0)
                assert kills_in(group) >= kills
                broker = cluster.broker()
            load.check_p6()
    except CannotConfine as reason:
        pytest.skip(str(reason))


def test_p06_its_own_limit_is_reached(cluster: Cluster) -> None:
    """No more address space, and large bodies come: libzmq cuts who sends them, for as long as it
    can, and then aborts; or the broker ends by an error of its own."""
    broker = cluster.broker(**_GREEDY)
    load = Load(cluster, 10.0)
    with zbus.connect(cluster.frontend, "bulk", timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        load.runs_on()
        _limit(broker.pid, _size(broker.pid))
        bodies = [{"id": f"bulk-{number}", "ballast": os.urandom(900_000)} for number in range(20)]
        asked = [bus.submit("work", body, timeout=60.0) for body in bodies]
        how = broker.wait(40.0)
        assert how in (1, -signal.SIGABRT), cluster.logs()
        cluster.broker()
        for number, future in enumerate(asked):
            assert future.result(60.0)["id"] == f"bulk-{number}"
    load.check_p6()


def _size(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _limit(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def test_p08_typed_errors_come_before_the_kernel_does(cluster: Cluster) -> None:
    """In a container of 200 MB, of which half is the budget, four servers stand still under a
    flood of 64 KiB bodies that is more than the container: senders are told Overloaded, the
    broker lives, and others are served."""
    try:
        with memory_group(_SHARE) as group:
            broker = cluster.start("-c", _CONFINED, str(group), ZBUS_LIMITS_MEMORY="96MiB")
            stuck = [cluster.actor("server", f"server-{number}") for number in range(4)]
            cluster.start("-m", "zbus", "serve", "echo", "--echo", "--name", "echoes")
            with zbus.connect(cluster.frontend, "flood", timeout=10.0) as bus:
                bus.wait_served("echo", timeout=10.0)
                wait_for(lambda: len(_servers_of(bus, "work")) == 4, 20.0, "four servers")
                for process in stuck:
                    process.send_signal(signal.SIGSTOP)
                body = {"id": "x", "ballast": bytes(65_536)}
                asked = [bus.submit("work", body, timeout=5.0) for _ in range(4_000)]
                assert bus.request("echo", 1, timeout=5.0) == 1
                errors = Counter(type(future.exception(15.0)) for future in asked)
            assert errors[zbus.Overloaded] > 1_000, errors
            assert set(errors) <= {zbus.Overloaded, zbus.TargetLost, zbus.NoHandler}, errors
            assert broker.poll() is None
            assert kills_in(group) == 0
    except CannotConfine as reason:
        pytest.skip(str(reason))


def _servers_of(bus: zbus.Peer, topic: str) -> list[str]:
    topics: dict[str, list[str]] = bus.request("zbus.topics", timeout=5.0)
    return topics.get(topic, [])
