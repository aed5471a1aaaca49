"""What happens in a run of the demo, as values: told one by one to whoever draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Aborted",
    "BrokerBack",
    "BrokerKilled",
    "Check",
    "Event",
    "Latency",
    "RoundOver",
    "Started",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """All processes are there, by name, and attached to the bus."""

    pids: dict[str, int]
    runtime_dir: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOver:
    """Every engine has learned from its own digits, and the server has averaged that."""

    number: int
    accuracy: float
    """Of the new model, on the digits held out."""
    loss: float
    metrics: int
    """Pushes that the server has taken until now."""
    at_engines: dict[str, float]
    """The new model's accuracy on each engine's own digits."""
    faults: dict[str, str]
    """Engines that did not tell it, and the error of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerKilled:
    """The broker was killed with SIGKILL, and another one is on its way."""

    pid: int
    successor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerBack:
    """A request that was asked after the kill has its reply."""

    after_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted:
    """A job whose handler never returns has been aborted, and its engine is gone."""

    job: str
    pid: int
    answer: str
    """How the request ended that the handler was asked."""
    step: str
    """What it took: ``asked``, ``terminated`` or ``killed``."""
    ending: str
    """How its process ended."""
    took_ms: float
    """Until it was gone, with all that it had started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A promise, whether it was kept, and what was found."""

    promise: str
    kept: bool
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long the engines' reports took, from the request to its reply in their hands, apart
    from those that waited for the broker to come back."""

    requests: int
    p50_ms: float
    p99_ms: float
    waited: int
    """Reports that are left out."""


Event: TypeAlias = Started | RoundOver | BrokerKilled | BrokerBack | Aborted | Check | Latency
