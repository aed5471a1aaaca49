"""Handlers that do their worst, in processes of their own (P12).

Each is a typed outcome; the bus, the process where it can live, and its pool are as before.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from processes.cluster import Cluster, wait_for
from processes.confine import CannotConfine, kills_in, memory_group
from processes.shares import Stopwatch
from processes.villains import DEATHS, HANDLERS, RAISED, RETURNED

import zbus

pytestmark = pytest.mark.real

WHOLE_S = 1.0
LATE_S = 0.5
"""How late a timeout may be here; the promise's own figure is shown where nobody hogs the
processor."""
_LIMIT = 256 * 2**20
_YES, _MAYBE, _NO = zbus.Executed.YES, zbus.Executed.MAYBE, zbus.Executed.NO


@pytest.fixture
def bus(cluster: Cluster) -> Iterator[zbus.Peer]:
    """An engine on a bus whose bodies are bounded, so that 100 MB are too large."""
    cluster.broker(ZBUS_LIMITS_OBJECT_MAX="0B")
    with zbus.connect(cluster.frontend, "asker", timeout=10.0) as made:
        yield made


def villain(cluster: Cluster, *words: str, **variables: str) -> subprocess.Popen[bytes]:
    """A server with hostile handlers."""
    return cluster.start("-m", "processes.villains", *(words or ("villain",)), **variables)


def check_whole(cluster: Cluster, bus: zbus.Peer) -> None:
    """As many handlers as the pool has threads run at once, within a second of a machine of our
    own."""
    watch = Stopwatch(process.pid for process in cluster._living())
    futures = [bus.submit("meet", timeout=10.0) for _ in range(HANDLERS)]
    assert [future.result(15.0) for future in futures] == [True] * HANDLERS
    assert watch.read_s() <= WHOLE_S
    assert bus.request("echo", "still here", timeout=5.0) == "still here"


def events(bus: zbus.Peer) -> dict[str, int]:
    """What the broker has counted."""
    counted: dict[str, int] = bus.request("zbus.status", timeout=5.0)["events"]
    return counted


# -- row 36: it raises ---------------------------------------------------------------------------


def test_p12_a_handler_may_raise_anything(cluster: Cluster, bus: zbus.Peer) -> None:
    """HandlerError, run, with a text that can be told; sync and async, and again and again."""
    process = villain(cluster)
    bus.wait_served("raise", timeout=10.0)
    for topic in ("raise", "raise.async") * 3:
        for kind in RAISED:
            with pytest.raises(zbus.HandlerError) as raised:
                bus.request(topic, kind, timeout=10.0)
            assert raised.value.executed is _YES, kind
            assert topic in raised.value.what
            assert len(raised.value.what) <= 1_024
    check_whole(cluster, bus)
    assert process.poll() is None
    assert "peer_lost" not in events(bus)


# -- row 39: what it returns cannot be sent ------------------------------------------------------

SENDABLE = {"nan", "infinity", "2**64"}
"""Odd values, and none the worse for it."""


def test_p12_a_handler_may_return_anything(cluster: Cluster, bus: zbus.Peer) -> None:
    """BadReply, run; or the value, where it can be said after all."""
    process = villain(cluster)
    bus.wait_served("return", timeout=10.0)
    for topic in ("return", "return.async"):
        for kind in RETURNED.keys() - SENDABLE:
            with pytest.raises(zbus.BadReply) as refused:
                bus.request(topic, kind, timeout=20.0)
            assert refused.value.executed is _YES, kind
        assert math.isnan(bus.request(topic, "nan", timeout=10.0))
        for kind in SENDABLE - {"nan"}:
            assert bus.request(topic, kind, timeout=10.0) == RETURNED[kind]()
    check_whole(cluster, bus)
    assert process.poll() is None
    assert "peer_lost" not in events(bus)


# -- row 38: it hangs ----------------------------------------------------------------------------


def _timed_out(asked: list[Future[Any]], began: float, timeout: float) -> None:
    for future in asked:
        error = future.exception(timeout + 10.0)
        assert isinstance(error, zbus.RequestTimeout)
        # One that the others kept from the processor has not begun, and is known not to have.
        assert error.executed is _MAYBE or "could not begin" in error.what
    assert time.monotonic() - began <= timeout + LATE_S


@pytest.mark.parametrize(
    ("topic", "how", "count"),
    [
        ("hang", "asleep", HANDLERS),
        ("hang", "reading", HANDLERS),
        ("hang", "deaf", HANDLERS),
        ("hang", "busy", 3),
        ("hang.async", "asleep", 50),
        ("hang.async", "reading", 1),
    ],
)
def test_p12_a_handler_that_hangs_is_replaced(
    cluster: Cluster, bus: zbus.Peer, topic: str, how: str, count: int
) -> None:
    """RequestTimeout on time, and the pool is whole within a second; the process lives, and is
    never thought lost."""
    process = villain(cluster)
    bus.wait_served("hang", timeout=10.0)
    timeout = 0.5
    for _ in range(2):
        began = time.monotonic()
        _timed_out([bus.submit(topic, how, timeout=timeout) for _ in range(count)], began, timeout)
        check_whole(cluster, bus)
    assert process.poll() is None
    assert "peer_lost" not in events(bus)


def test_p11_a_handler_that_holds_the_interpreter_is_no_dead_process(
    cluster: Cluster, bus: zbus.Peer
) -> None:
    """Two seconds in C with the lock: its own caller is told on time, nobody is lost, and
    afterwards everything is as before."""
    process = villain(cluster)
    bus.wait_served("hang", timeout=10.0)
    began = time.monotonic()
    _timed_out([bus.submit("hang", "holding", timeout=0.5)], began, 0.5)
    waiting = bus.request("echo", "meanwhile", timeout=10.0)
    assert waiting == "meanwhile"
    assert time.monotonic() - began >= 1.5, "it did not hold the lock"
    check_whole(cluster, bus)
    assert process.poll() is None
    assert "peer_lost" not in events(bus)


@pytest.mark.parametrize("how", ["asleep", "reading", "deaf"])
def test_p18_a_server_whose_handlers_hang_ends_all_the_same(
    cluster: Cluster, bus: zbus.Peer, how: str
) -> None:
    """SIGTERM: it waits as long as it may, and is gone; whoever waited is told."""
    process = villain(cluster)
    bus.wait_served("hang", timeout=10.0)
    asked = [bus.submit("hang", how, timeout=30.0) for _ in range(3)]
    assert bus.request("echo", 1, timeout=5.0) == 1
    began = time.monotonic()
    process.terminate()
    process.wait(10.0)
    assert time.monotonic() - began <= 1.0 + 1.0 + LATE_S, "drain, and a second"
    for future in asked:
        error = future.exception(10.0)
        assert isinstance(error, zbus.Cancelled | zbus.TargetLost), error
        assert error.executed is _MAYBE


# -- row 37: its process dies --------------------------------------------------------------------


def _doomed(cluster: Cluster, bus: zbus.Peer, way: str, *words: str, times: int = 4) -> list[str]:
    """Ask so often for what kills, and start the process again whenever it has; how each ended,
    and whether it ran."""
    endings = []
    process = villain(cluster, *words)
    bus.wait_served("die", timeout=10.0)
    for _ in range(times):
        asked = bus.submit("die", way, timeout=30.0, unserved="wait")
        wait_for(lambda: asked.done() or process.poll() is not None, 20.0, "an end")  # noqa: B023
        if process.poll() is not None:
            process = villain(cluster, *words)
        error = asked.exception(20.0)
        endings.append(f"{type(error).__name__} {getattr(error, 'executed', '-')}")
    assert process.poll() is None
    bus.wait_served("meet", timeout=20.0)
    return endings


QUARANTINED = ["TargetLost maybe", "Poisoned maybe", "Poisoned no", "Poisoned no"]


@pytest.mark.parametrize("way", sorted(DEATHS.keys() - {"oom"}))
def test_p12_a_request_that_kills_its_process_kills_exactly_two(
    cluster: Cluster, bus: zbus.Peer, way: str
) -> None:
    """Restarted each time, under the same name: two, and no third. Another request on the same
    topic is given to the handler, and the pool is whole within a second of the restart."""
    assert _doomed(cluster, bus, way) == QUARANTINED
    assert len(cluster.events("villain", "die")) == 2
    check_whole(cluster, bus)
    other = next(each for each in sorted(DEATHS) if each not in {way, "oom"})
    error = bus.submit("die", other, timeout=20.0).exception(25.0)
    assert isinstance(error, zbus.TargetLost)
    assert [entry.key for entry in cluster.events("villain", "die")] == [way, way, other]


def test_p12_running_out_of_memory_kills_exactly_two(cluster: Cluster, bus: zbus.Peer) -> None:
    """The kernel kills the process, as it would in a container."""
    try:
        with memory_group(_LIMIT) as group:
            assert _doomed(cluster, bus, "oom", "villain", str(group)) == QUARANTINED
            assert len(cluster.events("villain", "die")) == 2
            assert kills_in(group) == 2
            check_whole(cluster, bus)
    except CannotConfine as reason:
        pytest.skip(str(reason))


def test_p12_memory_that_is_not_there_is_a_typed_outcome(cluster: Cluster, bus: zbus.Peer) -> None:
    """Where the allocation itself fails the process lives: HandlerError, or BadReply."""
    process = villain(cluster, VILLAINS_LIMITED="1")
    bus.wait_served("hoard", timeout=10.0)
    for _ in range(3):
        with pytest.raises(zbus.HandlerError) as raised:
            bus.request("hoard", 2**33, timeout=10.0)
        assert "MemoryError" in raised.value.what
    assert bus.request("hoard", 1_000, timeout=10.0) == 1_000
    check_whole(cluster, bus)
    assert process.poll() is None


@pytest.mark.parametrize("timeout", [0.4, 20.0])
def test_p12_it_is_not_handed_from_server_to_server(
    cluster: Cluster, bus: zbus.Peer, timeout: float
) -> None:
    """Four servers that nobody restarts, and a source that asks on and on; also one whose time is
    up before the broker knows of the death. Two are left, and serve."""
    names = [f"villain-{number}" for number in range(4)]
    processes = [villain(cluster, name) for name in names]
    wait_for(lambda: len(bus.request("zbus.topics", timeout=5.0).get("die", ())) == 4, 20.0, "four")
    refused: BaseException | None = None
    deadline = time.monotonic() + 40.0
    while not isinstance(refused, zbus.Poisoned) or refused.executed is not _NO:
        assert time.monotonic() < deadline, f"it ends as {refused!r}"
        refused = bus.submit("die", "kill", timeout=timeout).exception(30.0)
        # A source whose time is up asks again once the broker has seen what became of it.
        wait_for(lambda: _lost(bus) >= _dead(processes), 10.0, "the broker knows")
    assert _dead(processes) == 2
    assert sum(len(cluster.events(name, "die")) for name in names) == 2
    assert bus.request("echo", 1, timeout=5.0) == 1


def _lost(bus: zbus.Peer) -> int:
    return events(bus).get("peer_lost", 0)


def _dead(processes: list[subprocess.Popen[bytes]]) -> int:
    return sum(process.poll() is not None for process in processes)
