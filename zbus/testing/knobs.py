"""The settings of a simulated bus, sane or odd.

Rules of this room:

* The defaults are those of a real bus on a quiet machine. ``draw`` gives odd ones: each run has
  some of them and not others, because a fault that needs a window of one is not found beside a
  fault that needs a full outbox.
* Whatever is drawn comes from the seed and nothing else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from zbus.broker.sections import LimitsSection, ListenSection, PolicySection, TimesSection
from zbus.broker.settings import Settings
from zbus.protocol.limits import Limits
from zbus.protocol.session import SessionLimits
from zbus.testing.faults import Faults
from zbus.testing.pool import QUICK, Pace

__all__ = ["CALM", "QUIET", "Knobs", "draw_faults", "draw_knobs"]

QUIET = Faults(delay_min_s=0.000_05, delay_max_s=0.000_3, connect_max_s=0.002)
"""A machine without troubles: messages take their time, and nothing fails."""

_LISTEN = ListenSection(
    frontend=("ipc:///simulated/frontend",),
    backend=("ipc:///simulated/backend",),
    pipe=("ipc:///simulated/pipe",),
)

_LIMITS, _OF_PEERS = Limits(), SessionLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What a simulated bus is set to; the names are those of ``Limits`` and ``SessionLimits``."""

    heartbeat_s: float = _LIMITS.heartbeat_s
    open_requests: int = _LIMITS.open_requests
    window: int = _LIMITS.window
    push_window: int = _LIMITS.push_window
    outbox_bytes: int = _LIMITS.outbox_bytes
    target_bytes: int = _LIMITS.target_bytes
    memory_bytes: int = _LIMITS.memory_bytes
    slow_s: float = _LIMITS.slow_s
    body_max_bytes: int = _LIMITS.body_max_bytes
    object_max_bytes: int = _LIMITS.object_max_bytes
    restart_settle_s: float = _LIMITS.restart_settle_s
    engine_to_engine: bool = True
    peer_window: int = _OF_PEERS.window
    remembered: int = _OF_PEERS.remembered
    pushes: int = _OF_PEERS.pushes
    pace: Pace = QUICK

    def settings(self) -> Settings:
        """For the broker."""
        return Settings(
            listen=_LISTEN,
            times=TimesSection(heartbeat_s=self.heartbeat_s),
            bounds=LimitsSection(
                body_max_bytes=self.body_max_bytes,
                object_max_bytes=self.object_max_bytes,
                open_requests=self.open_requests,
                window=self.window,
                push_window=self.push_window,
                outbox_bytes=self.outbox_bytes,
                target_bytes=self.target_bytes,
                memory_bytes=self.memory_bytes,
                slow_s=self.slow_s,
                restart_settle_s=self.restart_settle_s,
            ),
            policy=PolicySection(engine_to_engine=self.engine_to_engine),
        )

    def session_limits(self) -> SessionLimits:
        """For each peer."""
        return SessionLimits(
            window=self.peer_window,
            remembered=self.remembered,
            pushes=self.pushes,
            push_window=self.push_window,
        )


CALM = Knobs(heartbeat_s=5.0)
"""A real bus that beats every five seconds, so that an idle hour is simulated in a blink."""


def draw_knobs(chance: random.Random) -> Knobs:
    """Odd settings, some at a time."""
    knobs = Knobs(heartbeat_s=chance.choice([0.05, 0.2, 0.5, *[1.0] * 5]))
    odd: dict[str, list[Any]] = {
        "open_requests": [2, 16],
        "window": [1, 4],
        "push_window": [1, 3],
        "outbox_bytes": [2_000, 20_000],
        "target_bytes": [300, 2_000],
        "memory_bytes": [2_000, 20_000],
        "slow_s": [0.2, 2.0],
        "restart_settle_s": [0.0, 0.05, 2.0],
        "body_max_bytes": [30, 50_000],
        "object_max_bytes": [0, 3_000],
        "engine_to_engine": [False],
        "peer_window": [1, 4],
        "remembered": [1, 8, 64],
        "pushes": [2, 20],
    }
    chosen = {name: chance.choice(odd[name]) for name in odd if chance.random() < 0.25}
    if chosen.get("body_max_bytes") == 30:
        chosen.setdefault("object_max_bytes", 3_000)  # more would be chunks without end
    most_s = chance.choice([0.0, 0.001, 0.05, 1.0])
    pace = Pace(
        most_s=most_s,
        hang_probability=chance.choice([0.0, 0.0, 0.01, 0.1]),
        hands=chance.choice([1, 4, 64, 64]),
    )
    return replace(knobs, pace=pace, **chosen)


def draw_faults(chance: random.Random) -> Faults:
    """What goes wrong in the network, some kinds at a time."""
    kinds: dict[str, dict[str, float]] = {
        "slow": {"slow_probability": 0.02, "slow_max_s": chance.choice([0.01, 0.5, 3.0])},
        "break": {"break_probability": chance.choice([0.0005, 0.005, 0.03])},
        "vanish": {"vanish_probability": 0.7},
        "late notice": {"notice_max_s": chance.choice([0.01, 0.5])},
        "half-open": {"half_open_probability": 0.1, "half_open_s": chance.choice([1.0, 15.0])},
        "full": {"full_probability": chance.choice([0.001, 0.05])},
        "small mark": {"send_mark": chance.choice([1, 4])},
        "small inbox": {"receive_mark": chance.choice([1, 10])},
        "slow connects": {"connect_max_s": chance.choice([0.05, 1.0])},
    }
    faults = replace(QUIET, delay_max_s=chance.choice([0.000_1, 0.001, 0.02]))
    for changes in kinds.values():
        if chance.random() < 0.4:
            faults = replace(faults, **changes)  # type: ignore[arg-type]
    return faults
