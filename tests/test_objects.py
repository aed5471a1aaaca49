"""Large bodies between real processes: whole or not at all, and nobody waits for them (P22).

Rules of this room:

* A body is an array or bytes that a server makes and sums up, so that no process of the test has
  it twice without need. How large it is follows from the memory that is free.
* What a faulty network does is done by a wire between a peer and its broker that flips one bit.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
from brokers import HereBroker, Servant, broker, serving, until
from processes.cluster import Cluster, wait_for

import zbus
from zbus.broker.sections import LimitsSection

pytestmark = pytest.mark.real

MIB = 2**20
GROWTH_MIB = 32
"""What P22 allows a broker, whatever goes through it."""
SERVER = """
import sys, zlib, numpy, zbus
dispatcher = zbus.Dispatcher()
dispatcher.add("check", zlib.crc32)
dispatcher.add("echo", lambda body: body)
dispatcher.add("make", lambda size: numpy.full(size, 7, numpy.uint8))
zbus.serve(dispatcher, sys.argv[1], name="maker", timeout=30.0)
"""


def large() -> int:
    """1 GiB where the three processes have room for it, else 256 MiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (free,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return 1_024 * MIB if free >= 8 * MIB else 256 * MIB


def crc_of(array: Any) -> int:
    return zlib.crc32(memoryview(array).cast("B"))


def peak_mib(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process has ever had."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak // 1_024


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as cluster:
        yield cluster


@contextmanager
def a_maker(cluster: Cluster) -> Iterator[zbus.Peer]:
    """A peer, where a server makes and sums up."""
    cluster.start("-c", SERVER, cluster.backend)
    with zbus.connect(cluster.frontend, "asker", timeout=10.0) as bus:
        bus.wait_served("make", timeout=10.0)
        yield bus


def test_p22_the_broker_does_not_grow(cluster: Cluster) -> None:
    """1 GiB each way, and the broker has at most 32 MiB more than before."""
    process = cluster.broker()
    with a_maker(cluster) as bus:
        bus.request("check", bytes(1_000), timeout=10.0)
        before = peak_mib(process)
        size = large()
        sent = numpy.arange(size // 8, dtype=numpy.int64)
        assert bus.request("check", sent, timeout=300.0) == crc_of(sent)
        del sent
        got = bus.request("make", size, timeout=300.0)
        assert got.nbytes == size
        assert got.min() == got.max() == 7
        assert peak_mib(process) - before <= GROWTH_MIB


@pytest.mark.parametrize("of", ["argument", "reply"])
def test_p22_a_broker_is_killed_in_the_middle(cluster: Cluster, of: str) -> None:
    """Another one takes over, and the body goes on where it was: what has arrived stays arrived."""
    process = cluster.broker()
    told: list[zbus.Progress] = []
    size = large() // 4
    with a_maker(cluster) as bus:
        topic, body = ("check", numpy.full(size, 5, numpy.uint8)), ("make", size)
        asked = topic if of == "argument" else body
        future = bus.submit(*asked, timeout=120.0, progress=told.append)
        wait_for(lambda: told and told[-1].done_bytes > size // 4, 60.0, "a quarter is there")
        process.kill()
        process.wait(10.0)
        seen = len(told)
        cluster.broker()
        result = future.result(120.0)
    done = [progress.done_bytes for progress in told if progress.of == of]
    assert size // 4 < done[seen - 1] < size, "it was killed in the middle"
    assert done == sorted(done), "nothing that had arrived was sent again"
    assert done[-1] >= size
    if of == "argument":
        assert result == crc_of(numpy.full(size, 5, numpy.uint8))
    else:
        assert result.nbytes == size


def test_p22_nobody_waits_for_it(cluster: Cluster) -> None:
    """Requests of the same peer to the same server go on meanwhile, and nobody is taken for dead.
    How long they take is bounded by a few chunks, and not by what is left of the body."""
    cluster.broker("--heartbeat", "500ms")
    with a_maker(cluster) as bus:
        body = numpy.zeros(large() // 2, numpy.uint8)
        began = time.monotonic()
        future = bus.submit("check", body, timeout=200.0)
        took: list[float] = []
        while not future.done():
            start = time.monotonic()
            assert bus.request("echo", 1, timeout=30.0) == 1
            took.append(time.monotonic() - start)
        whole_s = time.monotonic() - began
        assert future.result() == crc_of(body)
        assert len(took) >= 10
        took.sort()
        assert took[int(len(took) * 0.99)] < whole_s / 4
        assert bus.is_attached
        assert bus.counters().losses == 0


def test_other_values_are_as_large(cluster: Cluster) -> None:
    """Bytes, text and what holds them come back as what they were, from any thread or loop."""
    cluster.broker()
    with a_maker(cluster) as bus:
        body = {"raw": os.urandom(3 * MIB), "text": "\u20ac" * MIB, "list": list(range(300_000))}
        assert bus.request("echo", body, timeout=60.0) == body


def test_an_operator_bounds_it(cluster: Cluster) -> None:
    """A body above ``limits.object_max`` is refused before it is sent."""
    cluster.broker(ZBUS_LIMITS_OBJECT_MAX="2MiB")
    with a_maker(cluster) as bus:
        assert bus.request("make", 2 * MIB - 1_000, timeout=30.0).nbytes == 2 * MIB - 1_000
        with pytest.raises(zbus.TooLarge) as refused:
            bus.request("check", bytes(2 * MIB + 1), timeout=30.0)
        assert refused.value.executed is zbus.Executed.NO
        with pytest.raises(zbus.BadReply):
            bus.request("make", 2 * MIB + 1, timeout=30.0)


# -- in one process ---------------------------------------------------------------------------


def objects_of(*peers: zbus.Peer) -> int:
    """How many large bodies these peers hold something of."""
    return sum(peer._channel._link.session.objects.count for peer in peers)


def tickets_of(here: HereBroker) -> int:
    return here.see(lambda daemon: len(daemon.broker.switchboard.tickets))


@pytest.mark.parametrize("of", ["argument", "reply"])
def test_who_gives_up_frees_both_ends(tmp_path: Path, of: str) -> None:
    """At once, and the broker's ticket too; the bus goes on."""
    servant, told = Servant(), list[zbus.Progress]()
    servant.dispatcher.add("make", lambda size: bytes(size))
    size = 512 * MIB
    with (
        broker(tmp_path) as here,
        serving(here, servant) as server,
        zbus.connect(here.frontend, "asker") as bus,
    ):
        asked = ("echo", bytes(size)) if of == "argument" else ("make", size)
        future = bus.submit(*asked, timeout=100.0, progress=told.append)
        until(lambda: told, "some of it is there")
        assert objects_of(bus, server)
        assert future.cancel()
        until(lambda: not objects_of(bus, server), "both ends are rid of it")
        until(lambda: not tickets_of(here), "and so is the broker")
        assert told[-1].done_bytes < size
        assert bus.request("echo", 1, timeout=20.0) == 1


def test_a_peer_of_either_side_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    """The other end, and the broker, hold nothing of what was under way."""
    servant, told = Servant(), list[zbus.Progress]()
    with broker(tmp_path) as here, serving(here, servant) as server:
        bus = zbus.connect(here.frontend, "asker")
        bus.submit("echo", bytes(256 * MIB), timeout=100.0, progress=told.append)
        until(lambda: told, "some of it is there")
        bus.close(drain=0.0)
        until(lambda: not objects_of(server) and not tickets_of(here), "nothing is left")


class Wire:
    """A unix socket that leads to another, and flips a bit of what is long and all the same."""

    PLACE = bytes(4_096)

    def __init__(self, here: Path, there: Path) -> None:
        self._there = str(there)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(here))
        self._door.listen()
        self.flipped = 0
        threading.Thread(target=self._take_in, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _take_in(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._there)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := one.recv(65_536):
                passed += len(data)
                place = data.find(self.PLACE) if passed > 4 * MIB and not self.flipped else -1
                if place >= 0:
                    self.flipped += 1
                    data = data[: place + 100] + b"\x01" + data[place + 101 :]
                other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("of", ["argument", "reply"])
def test_a_flipped_bit_is_an_error_and_not_a_body(tmp_path: Path, of: str) -> None:
    """After four of sixteen MiB one bit is another: the request ends as Damaged, which says
    whether the handler ran, and nothing is left of it."""
    servant = Servant()
    servant.dispatcher.add("make", lambda size: bytes(size))
    size = 16 * MIB
    with broker(tmp_path) as here, serving(here, servant) as server:
        wire = Wire(tmp_path / "wire", Path(here.frontend.removeprefix("ipc://")))
        with zbus.connect(f"ipc://{tmp_path}/wire", "asker") as bus:
            asked = ("echo", bytes(size)) if of == "argument" else ("make", size)
            with pytest.raises(zbus.Damaged) as damage:
                bus.request(*asked, timeout=60.0)
            assert wire.flipped == 1
            ran = zbus.Executed.NO if of == "argument" else zbus.Executed.YES
            assert damage.value.executed is ran
            until(lambda: not objects_of(bus, server) and not tickets_of(here), "nothing is left")
            assert bus.request("echo", bytes(size), timeout=60.0) == bytes(size)
        wire.close()


def test_a_loop_is_told_how_far_it_is(tmp_path: Path) -> None:
    """The asyncio peer calls ``progress`` in its own loop, for both ways; the blocking one does
    so in a thread of its own."""
    import asyncio

    here_threads: set[str] = set()
    told: list[zbus.Progress] = []

    def tell(progress: zbus.Progress) -> None:
        told.append(progress)
        here_threads.add(threading.current_thread().name)

    async def work(endpoint: str) -> None:
        async with zbus.aio.connect(endpoint, "looper") as bus:
            body = bytes(5 * MIB)
            assert await bus.request("echo", body, timeout=60.0, progress=tell) == body
            await asyncio.sleep(0)

    with broker(tmp_path) as here, serving(here, Servant()):
        asyncio.run(work(here.frontend))
        assert here_threads == {threading.main_thread().name}
        assert {progress.of for progress in told} == {"argument", "reply"}
        assert told[-1].done_bytes == told[-1].size_bytes > 5 * MIB
        with zbus.connect(here.frontend, "asker") as bus:
            bus.request("echo", bytes(2 * MIB), timeout=60.0, progress=tell)
            until(lambda: "zbus-callbacks_0" in here_threads, "a thread is told")
            with pytest.raises(TypeError):
                bus.request("echo", 1, timeout=1.0, progress=7)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                bus.request("echo", 1, timeout=1.0, hurry=True)  # type: ignore[call-arg]


def test_a_stopped_server_ends_it_in_time(cluster: Cluster) -> None:
    """A server that hangs in the middle: the request ends, and the broker has no more of it than
    before (P10, P22)."""
    process = cluster.broker("--heartbeat", "200ms")
    server = cluster.start("-c", SERVER, cluster.backend)
    told: list[zbus.Progress] = []
    with zbus.connect(cluster.frontend, "asker", timeout=10.0) as bus:
        bus.wait_served("check", timeout=10.0)
        before = peak_mib(process)
        future = bus.submit("check", bytes(256 * MIB), timeout=60.0, progress=told.append)
        wait_for(lambda: told, 30.0, "some of it is there")
        os.kill(server.pid, signal.SIGSTOP)
        began = time.monotonic()
        error = future.exception(60.0)
        if error is not None:  # else all of it was there before it was stopped
            assert isinstance(error, zbus.TargetLost)
            assert time.monotonic() - began < 10.0
        assert peak_mib(process) - before <= GROWTH_MIB
        assert not objects_of(bus)


def test_bodies_below_the_bound_are_not_cut(tmp_path: Path) -> None:
    """One of as much as the operator says is one message, as ever; a byte more is cut."""
    limits = LimitsSection(body_max_bytes=300_000, restart_settle_s=0.0)
    with (
        broker(tmp_path, limits=limits) as here,
        serving(here, Servant()),
        zbus.connect(here.frontend, "asker") as bus,
    ):
        for size, count in ((299_900, 0), (300_000, 4)):
            assert bus.request("echo", bytes(size), timeout=30.0) == bytes(size)
            chunks = here.see(lambda daemon: daemon.broker.switchboard.counts["chunks"])
            assert chunks == count
