"""What may go wrong in a simulated network, and how long things take in it.

Rules of this room:

* Everything is nothing unless given: ``PERFECT`` delivers all at once and never fails.
* Chances are of one message or one end of a connection, not of time, so that a busy run and a
  quiet one see as many faults for what they do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from zbus.protocol.limits import HEADER_MAX_BYTES

__all__ = ["PERFECT", "ROUGH", "Faults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities are between 0 and 1, times are seconds, marks are messages."""

    delay_min_s: float = 0.0
    delay_max_s: float = 0.0
    """How long a message is under way."""
    slow_probability: float = 0.0
    slow_max_s: float = 0.0
    """Some messages take up to so much longer, and all behind them with them."""
    connect_max_s: float = 0.0
    """How long connecting takes, the first time and again."""
    break_probability: float = 0.0
    """For each message: that its connection ends while it is under way."""
    vanish_probability: float = 0.0
    """When a connection ends, for each direction: that some of what is under way vanishes."""
    notice_max_s: float = 0.0
    """How late a side learns that its connection has ended."""
    half_open_probability: float = 0.0
    half_open_s: float = 15.0
    """Some sides learn only after this, when keepalive or TCP_MAXRT gives up."""
    cut_breaks_s: float = 15.0
    """Connections across a cut end after this, if it lasts."""
    full_probability: float = 0.0
    """For each message: that it is refused although there is room."""
    send_mark: int = 64
    """Messages under way on one connection before FULL."""
    receive_mark: int = 1_000
    """Messages of one connection that have arrived and are not drained; the next wait."""
    frame_max_bytes: int = HEADER_MAX_BYTES + 4_096
    """A longer frame ends its connection."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = 1.0 if field.name.endswith("_probability") else math.inf
            least = 1 if field.name.endswith("_mark") else 0
            if not least <= value <= most:
                raise ValueError(f"{field.name} cannot be {value}")
        if self.delay_max_s and self.delay_max_s < self.delay_min_s:
            raise ValueError("delay_max_s is less than delay_min_s")


PERFECT = Faults()
"""Everything arrives, at once."""
ROUGH = Faults(
    delay_min_s=0.000_1,
    delay_max_s=0.005,
    slow_probability=0.02,
    slow_max_s=0.5,
    connect_max_s=0.2,
    break_probability=0.005,
    vanish_probability=0.7,
    notice_max_s=0.5,
    half_open_probability=0.1,
    full_probability=0.01,
)
"""A bad day."""
