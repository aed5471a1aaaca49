"""Requests of others, as the session's answering half: start each once, answer repeats.

Rules (spec 6.2, 6.4, 6.6):

* A request starts at most once per id; a repeat is answered from memory, or joins the run (P5).
* What is refused here never started: every refusal is a provable ``no`` (P4).
* Nothing starts that may be too late: time that this process slept counts against it (P2). It
  does not count for the memory, which must rather keep an id for too long.
"""

from __future__ import annotations

from collections.abc import Container

from zbus.errors import Draining, NoHandler, Overloaded, Superseded, ZbusError
from zbus.protocol.asker import EXECUTED, TO_BROKER
from zbus.protocol.effect import Abandon, Send, SessionEffect, Start
from zbus.protocol.memory import Memory, Started
from zbus.protocol.message import (
    AGAIN,
    UNKNOWN_ID,
    Cancel,
    Fault,
    Flag,
    Key,
    Parcel,
    Request,
    as_text,
)

__all__ = ["Answerer", "fault_item"]

_ASK = int(Flag.ASK)
_STALLED_RETRY_MS = 50
_MILLIS_MAX = 2**53


class Answerer:
    """The requests this peer was asked, from their arrival to their settlement."""

    def __init__(self, memory: Memory, window: int) -> None:
        self.memory = memory
        self.started = 0
        self.repeats = 0
        self.refused = 0
        self.withdrawn: frozenset[str] = frozenset()
        self._window = window

    def asked(
        self,
        parcel: Parcel,
        topics: Container[str],
        waited_s: float,
        now: float,
        effects: list[SessionEffect],
    ) -> None:
        """A Request came; it may have waited here for ``waited_s``, because we were stalled."""
        item = parcel.item
        assert isinstance(item, Request)
        key = Key(item.source, item.epoch, item.number)
        self.memory.settle(item)
        known = self.memory.get(key)
        if known is not None:
            self._repeat(known, item, now, effects)
            return
        refusal = self._refusal(item, key, topics, waited_s)
        if refusal is not None:
            self.refused += 1
            self.memory.drop_empty(key.source)
            effects.append(Send(TO_BROKER, Parcel(refusal)))
            return
        deadline = now + item.ttl_ms / 1000.0
        self.memory.begin(key, deadline)
        self.started += 1
        effects.append(Start(key, item, parcel.frames, deadline - waited_s))

    def answer(
        self, key: Key, answer: Parcel, attached: bool, effects: list[SessionEffect]
    ) -> None:
        """The run of ``key`` ended. While detached the answer waits in memory for a repeat."""
        known = self.memory.get(key)
        if known is None or known.answer is not None:
            return
        self.memory.finish(known, answer)
        if _asks_again(answer):
            self.memory.forget(known)  # it did not run, and whoever gets the repeat may run it
        if attached:
            effects.append(Send(TO_BROKER, answer))

    def cancelled(self, item: Cancel, effects: list[SessionEffect]) -> None:
        """The caller gave up."""
        key = Key(item.source, item.epoch, item.number)
        known = self.memory.get(key)
        if known is not None and known.answer is None:
            effects.append(Abandon(key))

    def _refusal(
        self, item: Request, key: Key, topics: Container[str], waited_s: float
    ) -> Fault | None:
        if item.flags & _ASK:
            return _bare_fault(key, UNKNOWN_ID)
        if item.topic in self.withdrawn:
            # It was on its way when we said that we serve this no longer; the broker knows by
            # now, and gives it to another, or says itself that there is none.
            return _bare_fault(key, AGAIN)
        if item.topic not in topics:
            return fault_item(key, NoHandler(f'no handler for "{item.topic}" here'))
        if self.memory.outdated(key):
            return fault_item(key, Superseded())
        if waited_s * 1000.0 >= item.ttl_ms:
            # It may be too late by now; its source knows.
            return _bare_fault(key, AGAIN, _STALLED_RETRY_MS)
        if self.memory.running >= self._window or not self.memory.has_room():
            text = f"{self.memory.running} requests run, {self.memory.count} are remembered"
            return fault_item(key, Overloaded(text, retry_after_s=0.05))
        return None

    def _repeat(
        self, known: Started, item: Request, now: float, effects: list[SessionEffect]
    ) -> None:
        self.repeats += 1
        self.memory.extend(known, now + item.ttl_ms / 1000.0)
        if known.answer is not None:
            effects.append(Send(TO_BROKER, known.answer))


def fault_item(key: Key, error: ZbusError) -> Fault:
    """The Fault that says this error about this request."""
    return Fault(
        key.source,
        key.epoch,
        key.number,
        error.number,
        EXECUTED.index(error.executed),
        int(min(max(error.retry_after_s * 1000.0, 0.0), _MILLIS_MAX)),
        as_text(error.what),
    )


def _bare_fault(key: Key, code: int, retry_after_ms: int = 0) -> Fault:
    return Fault(key.source, key.epoch, key.number, code, 0, retry_after_ms, "")


def _asks_again(answer: Parcel) -> bool:
    item = answer.item
    return isinstance(item, Fault) and item.code == Draining.number and not item.executed
