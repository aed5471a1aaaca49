"""How much may wait in the broker: for one peer, and for all of them together (promise P8).

What a broker has said on a connection waits in its memory until the other end reads it, and no
socket tells how much of it has been read. So this room counts what was *given*, and takes off
what is *proved to be read*. Rules:

* A connection keeps order. An answer to a request, or a Credit for a push, proves that everything
  given up to that request or push has been read.
* Where that could take long, because a handler does or because nobody waits for the answer any
  more, the broker asks for a *receipt*: whether the peer knows an id of nobody (spec 5.7). It does
  not, and its saying so is the proof. So a handler that works for an hour uses nothing up.
* Answers have no such proof. They count while they wait in an outbox, which the shell reports.
* A peer may have at most ``target_bytes`` waiting, and at most an eighth of what is left free of
  ``memory_bytes``. So the whole is never exceeded, those that do not read share it evenly as they
  drain, and each of them leaves the others eight times what it takes.
* One for whom nothing waits is only bounded by what is free: what the bus allows can pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from zbus.protocol.limits import Limits
from zbus.protocol.message import Flag, Parcel, Push, Request

__all__ = ["ITEM_BYTES", "Backlog", "Budget", "weigh"]

_SHARE = 8
"""One peer may take this part of what is free."""
ITEM_BYTES = 256
"""What an item costs beside its body, so that a flood of empty ones is bounded, too."""
_ASK_BYTES = 65_536
"""So much unread is worth a receipt."""
_ASK = int(Flag.ASK)
_RECEIPT_MS = 3_600_000
"""A receipt does not grow old: it waits as long as what is before it."""
_DEFAULTS = Limits()


@dataclass(slots=True, eq=False)
class Backlog:
    """What waits for one peer on its connection, in bytes. ``given`` only grows, and a *mark* is
    its value after something was given; everything up to ``read`` is proved to be read.
    ``outbox`` is what its outbox holds beyond that; ``asked`` is the mark of the newest receipt
    that the peer was asked for."""

    given: int = 0
    read: int = 0
    outbox: int = 0
    asked: int = 0

    @property
    def waiting(self) -> int:
        """Bytes that may still be in the broker's memory."""
        return self.given - self.read + self.outbox


class Budget:
    """The sum of all backlogs, and who may add to it."""

    def __init__(
        self,
        target_bytes: int = _DEFAULTS.target_bytes,
        memory_bytes: int = _DEFAULTS.memory_bytes,
    ) -> None:
        self.used = 0
        self.used_most = 0
        self._target_bytes = target_bytes
        self._memory_bytes = memory_bytes

    @property
    def excess(self) -> int:
        """Bytes beyond the whole budget; answers alone can bring that about."""
        return max(self.used - self._memory_bytes, 0)

    def admits(self, backlog: Backlog, size: int) -> bool:
        """Whether so much more may wait for this peer."""
        waiting, free = backlog.waiting, self._memory_bytes - self.used
        if not waiting:
            return size <= free
        wanted = waiting + size
        return wanted <= self._target_bytes and _SHARE * wanted <= free

    def is_roomy(self, backlog: Backlog) -> bool:
        """Whether there is room again, and not just for one item."""
        waiting, free = 2 * backlog.waiting, self._memory_bytes - self.used
        return waiting <= self._target_bytes and _SHARE * waiting <= free

    def give(self, backlog: Backlog, size: int) -> int:
        """So much more is said to this peer; the mark to prove it by."""
        backlog.given += size
        self._add(size)
        return backlog.given

    def prove(self, backlog: Backlog, mark: int) -> None:
        """The peer has read everything up to this mark."""
        if mark > backlog.read:
            self.used -= mark - backlog.read
            backlog.read = mark

    def receipt(self, backlog: Backlog, least: int = _ASK_BYTES) -> Request | None:
        """What asks this peer how far it has read, if at least so much may be unread, and it
        has not been asked already."""
        unread = backlog.given - backlog.read
        if unread < max(least, 1) or backlog.asked > backlog.read:
            return None
        mark = backlog.asked = backlog.given
        return Request("", 0, mark, "", "", _RECEIPT_MS, _ASK, mark, (), "", b"", 0)

    def received(self, backlog: Backlog, mark: int) -> None:
        """The peer says how far it has read; further than it was asked about it does not know."""
        if mark <= backlog.asked:
            self.prove(backlog, mark)

    def report(self, backlog: Backlog, outbox: int) -> None:
        """So much waits in the peer's outbox, requests and pushes among it."""
        beyond = max(outbox - (backlog.given - backlog.read), 0)
        self._add(beyond - backlog.outbox)
        backlog.outbox = beyond

    def clear(self, backlog: Backlog) -> None:
        """The connection is no more, and what waited in it neither."""
        self.used -= backlog.waiting
        backlog.read, backlog.outbox = backlog.given, 0

    def _add(self, size: int) -> None:
        self.used += size
        if self.used > self.used_most:
            self.used_most = self.used


def weigh(parcel: Parcel) -> int:
    """Bytes that this parcel keeps in memory while it waits: a request or pushes."""
    item = parcel.item
    if isinstance(item, Request):
        size = ITEM_BYTES + len(item.body)
    elif isinstance(item, Push):
        size = ITEM_BYTES * len(item.bodies) + sum(map(len, item.bodies))
    else:
        size = ITEM_BYTES
    return size + sum(map(len, parcel.frames)) if parcel.frames else size
