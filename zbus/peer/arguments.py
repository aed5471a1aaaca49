"""What callers give, checked before anything is locked or sent.

Rules:

* What the broker would not understand is refused here, with an error that names the argument: a
  malformed message would make the broker send this peer away, with all its other callers.
* A time is a finite number of seconds. A very long one is cut to thirty years, which every clock,
  wait and field of the wire can say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TypedDict, TypeVar

from zbus.errors import ConfigError, InvalidName, InvalidTimeout
from zbus.protocol.effect import Progress
from zbus.protocol.session import SessionLimits

__all__ = [
    "TIMEOUT_MAX_S",
    "TRACE_MAX",
    "RequestOptions",
    "check_limits",
    "check_options",
    "check_trace",
    "deadline_of",
    "one_of",
    "seconds_of",
]

V = TypeVar("V")
TIMEOUT_MAX_S = 1e9
"""What longer times are cut to."""
TRACE_MAX = 64
"""Characters of a trace context (spec 4.5)."""


class RequestOptions(TypedDict, total=False):
    """What a request takes besides: a W3C trace context that travels along, and who is told how
    far a large body of it has come, its own or its reply's."""

    trace: str
    progress: Callable[[Progress], object] | None


def deadline_of(timeout: float) -> float:
    """The instant of this process's clock that is ``timeout`` seconds away."""
    seconds = seconds_of(timeout, "timeout")
    if seconds <= 0.0:
        raise InvalidTimeout(f"timeout {timeout!r:.80} is not above zero")
    return time.monotonic() + seconds


def seconds_of(value: float, what: str) -> float:
    """So many seconds; none at all for less than none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidTimeout(f"{what} {value!r:.80} is not a number of seconds")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidTimeout(f"{what} {value!r} is not a finite number of seconds")
    return float(min(max(value, 0), TIMEOUT_MAX_S))


def check_trace(trace: object) -> None:
    """Refuse what is no trace context; the empty one says that there is none."""
    if not isinstance(trace, str) or len(trace) > TRACE_MAX or not trace.isascii():
        raise InvalidName(
            f"trace {trace!r:.80} is no W3C trace context of at most {TRACE_MAX} characters"
        )


def check_options(options: RequestOptions) -> None:
    """Refuse what is no option of a request, or not what it has to be."""
    for name in options:
        if name not in RequestOptions.__annotations__:
            raise TypeError(f"there is no argument {name!r}")
    check_trace(options.get("trace", ""))
    progress = options.get("progress")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress {progress!r:.80} cannot be called")


def check_limits(limits: SessionLimits) -> None:
    """Refuse a bound that nothing could keep."""
    for field in fields(limits):
        value = getattr(limits, field.name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"limits.{field.name} {value!r:.80} is not a number above zero")


def one_of(values: Mapping[str, V], word: object, what: str) -> V:
    """What this word stands for."""
    if not isinstance(word, str) or word not in values:
        raise InvalidName(f"{what} {word!r:.80} is none of {', '.join(values)}")
    return values[word]
