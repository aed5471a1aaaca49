"""The systems that are measured: how each is started, in the layout of a bus.

Rules of this room:

* Every system has the same shape: whoever is in the middle (gRPC has nobody), one server
  process, and as many client processes as a workload wants. All are started when they are first
  needed, and stay until the end.
* Systems that are compared with each other differ in nothing else: ``tcp`` is loopback, ``ipc``
  and Redis are unix sockets.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actor import Actor, BenchFailed, Middle, python_environment
from nvflare_cells import free_port
from peers import Peers

__all__ = ["RECIPES", "Recipe", "System"]

_NATS = """\
listen: "127.0.0.1:{port}"
max_payload: 67108864
max_pending: 1073741824
"""
_ROOM = ("--open-requests", "200000")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a system is made: ``needs`` is a name of ``peers``, ``make`` gives the command of the
    middle and the address for the ends."""

    script: str
    make: Callable[[Path, Peers], tuple[list[str], dict[str, Any]]]
    needs: str = ""
    client: str = "client"


def _zbus(over: str, *options: str) -> Callable[[Path, Peers], tuple[list[str], dict[str, Any]]]:
    def make(place: Path, _peers: Peers) -> tuple[list[str], dict[str, Any]]:
        names = ("frontend", "backend", "pipe")
        ends = {name: _endpoint(over, place, name) for name in names}
        words = [word for name in names for word in (f"--{name}", ends[name])]
        security, keys = ["--insecure"], dict[str, str]()
        if "curve" in options:
            security, keys = _keys(place)
        command = [sys.executable, "-m", "zbus", "broker", "--runtime-dir", str(place / "run")]
        spin = [] if "no spin" not in options else ["--spin", "0ms"]
        return [*command, *words, *security, *spin, *_ROOM, "--log-level", "warning"], ends | keys

    return make


def _keys(place: Path) -> tuple[list[str], dict[str, str]]:
    """A broker's flags and a peer's files, each trusting the other."""
    keys, trust = place / "keys", place / "trust"
    keys.mkdir(mode=0o700)
    for words in (
        ("keygen", "broker", "--dir", str(keys)),
        ("keygen", "bench", "--dir", str(keys)),
        ("trust", "--dir", str(trust), str(keys / "bench.pub")),
    ):
        command = [sys.executable, "-m", "zbus", *words]
        subprocess.run(command, check=True, capture_output=True, env=python_environment())
    flags = ["--key", str(keys / "broker.key"), "--trust", str(trust)]
    return flags, {"key": str(keys / "bench.key"), "server_key": str(keys / "broker.pub")}


def _bare(over: str) -> Callable[[Path, Peers], tuple[list[str], dict[str, Any]]]:
    def make(place: Path, _peers: Peers) -> tuple[list[str], dict[str, Any]]:
        return [], {name: _endpoint(over, place, name) for name in "front back push pull".split()}

    return make


def _nats(place: Path, peers: Peers) -> tuple[list[str], dict[str, Any]]:
    port = free_port()
    config = place / "nats.conf"
    config.write_text(_NATS.format(port=port), "utf-8")
    command = [peers.program("nats-server"), "-c", str(config), "-l", str(place / "nats.log")]
    return command, {"url": f"nats://127.0.0.1:{port}"}


def _redis(place: Path, peers: Peers) -> tuple[list[str], dict[str, Any]]:
    path = str(place / "redis")
    words = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", str(place)]
    return [peers.program("redis-server"), *words], {"path": path}


def _grpc(_place: Path, _peers: Peers) -> tuple[list[str], dict[str, Any]]:
    return [], {"target": f"127.0.0.1:{free_port()}"}


def _endpoint(over: str, place: Path, name: str) -> str:
    return f"ipc://{place}/{name}" if over == "ipc" else f"tcp://127.0.0.1:{free_port()}"


RECIPES = {
    "bare ipc": Recipe("actor_bare.py", _bare("ipc")),
    "bare tcp": Recipe("actor_bare.py", _bare("tcp")),
    "zbus ipc": Recipe("actor_zbus.py", _zbus("ipc")),
    "zbus tcp": Recipe("actor_zbus.py", _zbus("tcp")),
    "zbus ipc, no spin": Recipe("actor_zbus.py", _zbus("ipc", "no spin")),
    "zbus tcp, no spin": Recipe("actor_zbus.py", _zbus("tcp", "no spin")),
    "zbus tcp, CURVE": Recipe("actor_zbus.py", _zbus("tcp", "curve")),
    "zbus ipc, asyncio": Recipe("actor_zbus.py", _zbus("ipc"), client="async"),
    "NATS": Recipe("actor_nats.py", _nats, "nats"),
    "Redis": Recipe("actor_redis.py", _redis, "redis"),
    "gRPC": Recipe("actor_grpc.py", _grpc, "grpc"),
}
"""The systems that carry workloads, in the order of the tables."""


@dataclass(slots=True)
class System:
    """One that runs, or will."""

    name: str
    recipe: Recipe
    peers: Peers
    place: Path
    clients: list[Actor] = field(default_factory=list)
    middle: Middle | None = None
    server: Actor | None = None
    address: dict[str, Any] = field(default_factory=dict)

    def begin(self, clients: int) -> None:
        """Start what is missing, and do not wait."""
        if self.server is None:
            self._begin()
        while len(self.clients) < clients:
            self.clients.append(self._actor(self.recipe.client))

    def await_ready(self) -> None:
        """Wait for all that was started."""
        try:
            for actor in (self.middle, self.server, *self.clients):
                if isinstance(actor, Actor):
                    actor.await_ready()
        except BenchFailed:
            self.check()
            raise

    def used(self, count: int) -> dict[str, Any]:
        """What each part has used until now: the middle, the server, so many clients."""
        parts: dict[str, Sequence[Middle | None]] = {
            "broker": [self.middle],
            "server": [self.server],
            "client": self.clients[:count],
        }
        return {
            part: [each.used() for each in processes if each is not None]
            for part, processes in parts.items()
        }

    def forget_peaks(self) -> None:
        """Begin the highest memory of each process anew."""
        for each in (self.middle, self.server, *self.clients):
            if each is not None:
                each.forget_peak()

    def end(self) -> None:
        """Stop all of it."""
        for each in (*self.clients, self.server, self.middle):
            if each is not None:
                each.end()

    def _begin(self) -> None:
        self.place.mkdir()
        command, self.address = self.recipe.make(self.place, self.peers)
        if self.recipe.script == "actor_bare.py":
            self.middle = self._actor("middle")
        elif command:
            log = self.place / "middle.log"
            self.middle = Middle(command, log, stdout=subprocess.DEVNULL)
        self.server = self._actor("server")

    def _actor(self, role: str) -> Actor:
        python = self.peers.python if self.recipe.needs else sys.executable
        log = self.place / f"{role}.log"
        return Actor(python, self.recipe.script, role, self.address, log)

    def check(self) -> None:
        """Raise if whoever is in the middle has ended."""
        if self.middle is not None and self.middle.process.poll() is not None:
            raise BenchFailed(f"the middle has ended: {self.middle.said()}")
