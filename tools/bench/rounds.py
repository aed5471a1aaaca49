"""A run: which slices the workloads need, over which systems, taken in turn."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import zmq
from actor import BenchFailed, python_environment
from peers import Peers, installed
from results import Results
from scale import measure_growth, measure_idle
from slices import MEASURES
from starts import started
from systems import RECIPES, System

__all__ = ["ALL", "measured"]

_EVERY = tuple(RECIPES)
_BESIDE = ("bare tcp", "zbus tcp", "zbus tcp, CURVE", "NATS", "Redis", "gRPC")
_PIPED = (
    "bare ipc",
    "bare tcp",
    "zbus ipc",
    "zbus tcp",
    "zbus tcp, CURVE",
    "zbus ipc, asyncio",
    "NATS",
    "Redis",
    "gRPC",
)
_PAIR = ("zbus tcp", "zbus tcp, CURVE")
_FACES = ("zbus ipc", "zbus ipc, asyncio")
_NO_CURVE = tuple(name for name in _BESIDE if "CURVE" not in name)
_ARRAYS = ("bare ipc", "bare tcp", "zbus ipc", "zbus tcp", "NATS", "Redis", "gRPC")
_PLAN: dict[str, dict[str, tuple[str, ...]]] = {
    "W1": {"sequential": _EVERY},
    "W2": {"pipelined": _PIPED},
    "W3": {"clients": _NO_CURVE},
    "W4": {"pushes": _BESIDE, "producers": _NO_CURVE},
    "W5": {"array": _ARRAYS, "large": ("bare ipc", "zbus ipc")},
    "W6": {"pipelined": ("bare tcp", "zbus tcp", "NATS")},
    "W11": {"pipelined": _PAIR, "pushes": _PAIR},
    "W12": {"sequential": _FACES, "pipelined": _FACES},
}
"""Slices and systems that a workload needs; the others have rooms of their own."""
ALL = ("W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "W11", "W12")


def measured(options: argparse.Namespace, workloads: set[str]) -> Results:
    """The figures of a run of these workloads."""
    began = time.monotonic()
    _raise_descriptors()
    plan = _plan(workloads)
    peers = installed(_wanted(plan, workloads))
    results = Results(facts=_facts(peers))
    with tempfile.TemporaryDirectory(prefix="zb") as name:
        run = _Run(results, peers, Path(name), options.rounds)
        try:
            for measure, systems in plan.items():
                run.take_turns(measure, systems)
        finally:
            run.end()
        run.measure_others(workloads)
    results.facts["Taken in"] = f"{time.monotonic() - began:.0f} s, {options.rounds} rounds"
    return results


class _Run:
    """What the measures of a run share: the systems that are up, above all."""

    def __init__(self, results: Results, peers: Peers, place: Path, rounds: int) -> None:
        self._results = results
        self._peers = peers
        self._place = place
        self._rounds = rounds
        self._numbers = itertools.count()
        self._systems: dict[str, System] = {}

    def take_turns(self, measure: str, names: Sequence[str]) -> None:
        """A slice of each system in each round, beginning with another one each time."""
        how = MEASURES[measure]
        _say(how.title)
        names = [name for name in names if not self._is_missing(measure, name)]
        for name in names:
            with self._failing(measure, name):
                self._system(name).begin(how.clients)
        for name in names:
            with self._failing(measure, name):
                self._system(name).await_ready()
        for number in range(self._rounds):
            turn = number % max(len(names), 1)
            for name in names[turn:] + names[:turn]:
                if f"{measure}: {name}" not in self._results.failures:
                    with self._failing(measure, name):
                        self._results.add(measure, name, how.slice(self._system(name)))

    def measure_others(self, workloads: set[str]) -> None:
        """The workloads that have rooms of their own."""
        common = self._results, self._peers
        for title, wanted, act in (
            ("2,000 idle peers", {"W7", "W8"}, partial(measure_idle, *common, self._place)),
            ("Topics and open requests", {"W8"}, partial(measure_growth, *common, self._place)),
            ("The FLARE face", {"W9"}, partial(_measure_flare, *common)),
            ("Starting", {"W10"}, partial(_measure_starts, self._results)),
        ):
            if workloads & wanted:
                _say(title)
                with self._failing(title, ""):
                    act(self._rounds)

    def end(self) -> None:
        """Stop all systems."""
        for system in self._systems.values():
            system.end()
        self._systems.clear()

    def _is_missing(self, measure: str, name: str) -> bool:
        """Whether its peer could not be installed, which is a failure of this measure."""
        reason = self._peers.missing.get(RECIPES[name].needs)
        if reason is not None:
            self._results.failures[f"{measure}: {name}"] = reason
        return reason is not None

    def _system(self, name: str) -> System:
        if name not in self._systems:
            place = self._place / str(next(self._numbers))
            self._systems[name] = System(name, RECIPES[name], self._peers, place)
        return self._systems[name]

    @contextmanager
    def _failing(self, measure: str, name: str) -> Iterator[None]:
        """One that fails is noted and stopped, and the others go on."""
        try:
            yield
        except BenchFailed as error:
            where = f"{measure}: {name}".removesuffix(": ")
            self._results.failures.setdefault(where, str(error))
            _say(f"{where}: {error}")
            if name in self._systems:
                self._systems.pop(name).end()


def _plan(workloads: set[str]) -> dict[str, list[str]]:
    """For each measure the systems, in the order of the tables."""
    plan: dict[str, list[str]] = {}
    for measure in MEASURES:
        wanted = {name for each in workloads for name in _PLAN.get(each, {}).get(measure, ())}
        if wanted:
            plan[measure] = [name for name in RECIPES if name in wanted]
    return plan


def _wanted(plan: dict[str, list[str]], workloads: set[str]) -> Iterable[str]:
    needs = {RECIPES[name].needs for names in plan.values() for name in names} - {""}
    if "W9" in workloads and importlib.util.find_spec("nvflare") is None:
        needs.add("nvflare")
    return sorted(needs)


def _measure_starts(results: Results, rounds: int) -> None:
    for _ in range(rounds):
        results.add("start", "zbus", started())


def _measure_flare(results: Results, peers: Peers, rounds: int) -> None:
    if "nvflare" in peers.missing:
        raise BenchFailed(peers.missing["nvflare"])
    has_it = importlib.util.find_spec("nvflare") is not None
    script = str(Path(__file__).with_name("flare.py"))
    words = ["--json", "--rounds", str(rounds), "--requests", "500", "--window", "1"]
    words += ["--nvflare-python", sys.executable if has_it else peers.python]
    run = subprocess.run(
        [sys.executable, script, *words],
        stdout=subprocess.PIPE,
        env=python_environment(),
        text=True,
        check=False,
    )
    if run.returncode:
        raise BenchFailed("the FLARE face could not be measured; see above")
    for system, figures in json.loads(run.stdout.splitlines()[-1]).items():
        for each in figures:
            results.add("flare", system, each)


def _facts(peers: Peers) -> dict[str, str]:
    session = importlib.util.find_spec("zbus.protocol.session")
    compiled = session is not None and str(session.origin).endswith(".so")
    versions = "; ".join(peers.versions.values())
    return {
        "Command": f"`python tools/bench {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "Machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()},"
        f" Python {platform.python_version()}",
        "Versions": f"pyzmq {zmq.__version__} over libzmq {zmq.zmq_version()}; {versions}",
        "zbus": "compiled" if compiled else "pure Python, not compiled",
    }


def _raise_descriptors() -> None:
    """2,000 peers take many; those that are started have what we have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)
