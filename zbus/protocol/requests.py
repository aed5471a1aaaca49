"""Our own open requests: what we asked, until when, and which older numbers are settled.

Rules:

* Numbers grow and are never used twice; a number is open until its one end (spec 6.1).
* Each Request names a ``floor``: all numbers below it are settled, but for a few stragglers
  that it lists (spec 6.4). So the handler's side can forget in step with us, also beside a
  request that stays open for an hour.
* A request knows whether it was ever handed to a socket, and whether each time it was is known
  to have come to nothing, which is what makes a provable ``no`` out of a timeout (promise P4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from zbus.errors import Executed, ZbusError
from zbus.protocol.deadlines import Deadlines
from zbus.protocol.effect import Progress
from zbus.protocol.limits import STRAGGLERS_MAX
from zbus.protocol.message import NO_FRAMES, Flag, Frames, Parcel, Request

__all__ = ["Ask", "OpenRequests"]

_LAG_MAX = 4_096
"""A request this far below the newest number is a straggler."""
_TTL_MAX_MS = 2**53
_REPEAT = int(Flag.REPEAT)
_KEPT_FLAGS = int(Flag.WAIT | Flag.PROBE | Flag.LARGE)


@dataclass(slots=True, eq=False)
class Ask:
    """One request as its caller gave it. ``flags`` may be WAIT and PROBE; ``target`` is empty
    for "whoever serves it"; ``deadline`` is an instant of this process's monotonic clock.

    ``sent``: it was, at least once. ``pending``: the last time is not known to have come to
    nothing. ``doubt``: an earlier time is not. ``reason`` is why it was put off the last time.
    ``large``: its body or its reply travels in chunks; ``progress`` is told how far they are.
    """

    topic: str
    body: bytes = field(repr=False)
    deadline: float
    frames: Frames = field(default=NO_FRAMES, repr=False)
    target: str = ""
    flags: int = 0
    trace: str = ""
    number: int = 0
    sent: bool = False
    pending: bool = False
    doubt: bool = False
    reason: ZbusError | None = None
    large: bool = False
    progress: Callable[[Progress], None] | None = None

    @property
    def executed(self) -> Executed:
        """Whether it may have run, if it ends without a word from its handler (P4)."""
        return Executed.MAYBE if self.pending or self.doubt else Executed.NO


class OpenRequests:
    """The requests of one session that have not ended yet."""

    def __init__(self, source: str, epoch: int) -> None:
        self._source = source
        self._epoch = epoch
        self._newest = 0
        self._open: dict[int, Ask] = {}
        self._order: deque[int] = deque()
        self._stragglers: dict[int, None] = {}
        self._deadlines: Deadlines[int] = Deadlines()
        self._retries: Deadlines[int] = Deadlines()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Ask]:
        return iter(list(self._open.values()))

    def get(self, number: int) -> Ask | None:
        """The open request of this number."""
        return self._open.get(number)

    def add(self, ask: Ask) -> int:
        """Open a request; its number."""
        self._newest = number = self._newest + 1
        ask.number = number
        self._open[number] = ask
        self._order.append(number)
        self._deadlines.set(number, ask.deadline)
        return number

    def end(self, number: int) -> Ask | None:
        """The request ends; None if it has ended before."""
        ask = self._open.pop(number, None)
        if ask is not None:
            self._deadlines.remove(number)
            self._retries.remove(number)
            self._stragglers.pop(number, None)
        return ask

    def retry_at(self, number: int, at: float) -> None:
        """Send it again at ``at``."""
        self._retries.set(number, at)

    def drop_retries(self) -> None:
        """Everything is sent again now."""
        self._retries = Deadlines()

    def overdue(self, now: float) -> list[int]:
        """The numbers whose deadline has come."""
        return self._deadlines.due(now)

    def to_retry(self, now: float) -> list[Ask]:
        """The requests that are to be sent again now."""
        return [self._open[number] for number in self._retries.due(now)]

    def next_at(self, attached: bool) -> float | None:
        """When a deadline is next due or, while something can be sent, a retry."""
        first = self._deadlines.next_at()
        second = self._retries.next_at() if attached else None
        if first is None or second is None:
            return first if second is None else second
        return min(first, second)

    def parcel(self, ask: Ask, now: float) -> Parcel | None:
        """What to send for it now; None when less than a millisecond is left (spec 6.2)."""
        ttl_ms = int((ask.deadline - now) * 1000.0)
        if ttl_ms <= 0:
            return None
        self._lower()
        flags = ask.flags & _KEPT_FLAGS
        if ask.sent:
            flags |= _REPEAT
            ask.doubt = ask.doubt or ask.pending
        ask.sent = ask.pending = True
        request = Request(
            self._source,
            self._epoch,
            ask.number,
            ask.topic,
            ask.target,
            ttl_ms if ttl_ms < _TTL_MAX_MS else _TTL_MAX_MS,
            flags,
            self._floor(),
            tuple(self._stragglers),
            ask.trace,
            ask.body,
            len(ask.frames),
        )
        return Parcel(request, ask.frames)

    def _floor(self) -> int:
        return self._order[0] if self._order else self._newest + 1

    def _lower(self) -> None:
        # Amortised O(1): every number is appended and popped once.
        order, live = self._order, self._open
        while order:
            oldest = order[0]
            if oldest in live:
                if self._newest - oldest < _LAG_MAX or len(self._stragglers) >= STRAGGLERS_MAX:
                    return
                self._stragglers[oldest] = None
            order.popleft()
