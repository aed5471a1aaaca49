"""Two thousand clients with keys: they attach, outlive a broker, and cost it little memory."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from keyring import Keyring, free_ports
from processes.cluster import Cluster, wait_for
from processes.shares import Stopwatch

from zbus.broker.keys import new_key, write_pair

pytestmark = [pytest.mark.real, pytest.mark.slow]
CLIENTS, PROCESSES = 2_000, 2
BOUND_S = 15.0
RSS_MAX_MIB = 140.0
"""31 MiB, and for each client what libzmq takes for one connection with CURVE: 38 to 44 KiB on a
quiet machine, at most 54 where so much else runs that many begin theirs twice."""
DESCRIPTORS = 6 * CLIENTS // PROCESSES
"""Of a process of clients: sockets, their connections, and what watches their handshakes."""


@pytest.fixture
def cluster(runtime_dir: Path) -> Iterator[Cluster]:
    """A cluster whose processes may have as many descriptors as this machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        pytest.skip(f"a process may have {hard} descriptors here, and this takes {DESCRIPTORS}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with Cluster(runtime_dir) as made:
            yield made
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Assembly:
    """A broker behind CURVE, and the crowds that attach to it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ring = Keyring(cluster.place, ())
        for number in range(CLIENTS):
            _, public = write_pair(cluster.place, new_key(f"site-{number}"))
            shutil.copy(public, self.ring.trust)
        ports = free_ports(3)
        doors = zip(("frontend", "backend", "pipe"), ports, strict=True)
        self.frontend = f"tcp://127.0.0.1:{ports[0]}"
        self._options = [f"--{door}=tcp://127.0.0.1:{port}" for door, port in doors]
        self._options += [f"--key={self.ring.secret('broker')}", f"--trust={self.ring.trust}"]

    def broker(self) -> Popen[bytes]:
        return self.cluster.broker(*self._options, "--peers", str(CLIENTS), "--log-level", "error")

    def gather(self) -> list[int]:
        """Begin all crowds; their processes."""
        each = CLIENTS // PROCESSES
        words = ("-m", "processes.crowd", str(self.cluster.place), self.frontend)
        return [
            self.cluster.start(*words, str(first), str(each)).pid
            for first in range(0, CLIENTS, each)
        ]

    def attached(self) -> int:
        """How many are, as far as the crowds have noted."""
        lines = [
            path.read_text().splitlines()[-1:] for path in self.cluster.place.glob("crowd-*.ledger")
        ]
        return sum(int(line.split()[2]) for each in lines for line in each)


def rss_mib(process: Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1_024


def settled_rss_mib(process: Popen[bytes]) -> float:
    """Once what was freed has been given back, or 10 s have passed."""
    until = time.monotonic() + 10.0
    wait_for(
        lambda: rss_mib(process) <= RSS_MAX_MIB or time.monotonic() > until, 20.0, "the memory"
    )
    return rss_mib(process)


def test_two_thousand_clients_attach_and_come_back(cluster: Cluster) -> None:
    """Within 15 s of a machine that nobody else uses, at first and after kill -9 of the broker,
    which needs little memory for all of them."""
    assembly = Assembly(cluster)
    broker = assembly.broker()
    crowds = assembly.gather()
    watch = Stopwatch([broker.pid, *crowds])
    wait_for(lambda: assembly.attached() == CLIENTS, 100.0, "all are attached")
    assert watch.read_s() <= BOUND_S
    assert settled_rss_mib(broker) <= RSS_MAX_MIB
    broker.kill()
    broker.wait(10.0)
    broker = assembly.broker()
    watch = Stopwatch([broker.pid, *crowds])
    wait_for(lambda: assembly.attached() < CLIENTS, 60.0, "they have noticed")
    wait_for(lambda: assembly.attached() == CLIENTS, 100.0, "all are back")
    assert watch.read_s() <= BOUND_S
    assert settled_rss_mib(broker) <= RSS_MAX_MIB
