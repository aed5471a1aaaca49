"""What a run of the demo is to do, and where its files are: what all its processes know.

The plan is written once, as JSON, before anything starts; each process gets the place as its
argument and reads the plan there. Sockets are elsewhere, in the runtime directory, which
``ZBUS_RUNTIME_DIR`` names as it does for everybody.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = [
    "BROKER",
    "ENGINES_MAX",
    "HELD_OUT",
    "JOB",
    "REQUEST_S",
    "SERVER",
    "SPIN",
    "STORY",
    "STRAY",
    "STRAY_JOB",
    "WATCH_S",
    "Place",
    "Plan",
]

BROKER = "broker"
SERVER = "server"
STORY = "story"
"""The process that starts all others."""
JOB = "digits"
"""The job that trains: the server, the engines and the story are sites in it."""
STRAY = "stray"
"""One more engine, which has a job of its own."""
STRAY_JOB = "astray"
SPIN = "stray.spin"
"""The topic whose handler never returns."""
HELD_OUT = "held-out"
"""The digits that are for no engine."""
ENGINES_MAX = 8
REQUEST_S = 20.0
"""The time of every request: many times what a restart of the broker takes."""
WATCH_S = 2.0
"""How long the server keeps a request that waits for news, before it says that there are none."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of a run."""

    engines: int = 4
    rounds: int = 16
    pace_s: float = 0.75
    """A round lasts at least this long, so that a person can follow it."""
    report_s: float = 0.02
    """Each engine reports this often, whatever else it does: the load on the broker."""
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The engines."""
        return tuple(f"engine-{number}" for number in range(1, self.engines + 1))

    @property
    def kill_after(self) -> int:
        """The round after which the broker is killed: half way."""
        return max(1, self.rounds // 2)

    @property
    def abort_after(self) -> int:
        """The round after which the stray job is aborted, by way of the broker's successor."""
        return (self.kill_after + self.rounds) // 2

    @property
    def raises_in(self) -> int:
        """The round at whose end a handler of ``raiser`` raises."""
        return max(1, self.rounds // 4)

    @property
    def raiser(self) -> str:
        """The engine that misbehaves."""
        return self.names[-1]


class Place:
    """The directory of a run: plan, shards, ledgers and logs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, plan: Plan) -> None:
        """Leave the plan for the processes."""
        (self.path / "plan.json").write_text(json.dumps(asdict(plan)) + "\n", "utf-8")

    def plan(self) -> Plan:
        """The plan that was left here."""
        return Plan(**json.loads((self.path / "plan.json").read_text("utf-8")))

    def shard(self, name: str) -> Path:
        """The digits of one engine, or those held out."""
        return self.path / f"{name}.npz"

    def ledger(self, name: str) -> Path:
        """What a process noted of its requests, handlers and pushes."""
        return self.path / f"{name}.ledger"

    def log(self, name: str) -> Path:
        """What a process printed."""
        return self.path / f"{name}.log"
