"""Requests of others, as the session's answering half: start each once, answer repeats.

Rules (spec 6.2, 6.4, 6.6):

* A request starts at most once per id; a repeat is answered from memory, or joins the run (P5).
* What is refused here never started: every refusal is a provable ``no`` (P4).
* Nothing starts that may be too late: time that this process slept counts against it (P2). It
  does not count for the memory, which must rather keep an id for too long.
"""

from __future__ import annotations

from collections.abc import Container

from zbus.errors import (
    Cancelled,
    Draining,
    Executed,
    NoHandler,
    Overloaded,
    RequestTimeout,
    Superseded,
    ZbusError,
)
from zbus.protocol.asker import EXECUTED, TO_BROKER
from zbus.protocol.effect import Abandon, Send, SessionEffect, Start
from zbus.protocol.memory import Memory, Started
from zbus.protocol.message import (
    AGAIN,
    UNKNOWN_ID,
    Accept,
    Cancel,
    Chunk,
    Done,
    Fault,
    Flag,
    Frames,
    Key,
    Offer,
    Parcel,
    Request,
    as_text,
    with_body,
)
from zbus.protocol.objects import Mark, Objects
from zbus.protocol.streams import InStream

__all__ = ["Answerer", "fault_item"]

_ASK = int(Flag.ASK)
_LARGE = int(Flag.LARGE)
_STALLED_RETRY_MS = 50
_MILLIS_MAX = 2**53


class Answerer:
    """The requests this peer was asked, from their arrival to their settlement."""

    def __init__(self, memory: Memory, window: int, objects: Objects) -> None:
        self.memory = memory
        self._objects = objects
        memory.on_forgotten = objects.drop_of
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
        deadline = now + item.ttl_ms / 1000.0
        refusal = self._refusal(item, key, topics, waited_s)
        if refusal is None and item.flags & _LARGE:
            refusal = self._expect(item, key, deadline - waited_s)
        if refusal is not None:
            self.refused += 1
            self.memory.drop_empty(key.source)
            effects.append(Send(TO_BROKER, Parcel(refusal)))
            return
        known = self.memory.begin(key, deadline)
        if item.flags & _LARGE:
            known.large = True  # it begins once all of its argument is here
            return
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
        if known is None:
            return
        if known.large:
            self._end_chunks(known, Cancelled(executed=Executed.NO))
        elif known.answer is None:
            effects.append(Abandon(key))

    # -- large bodies ------------------------------------------------------------------------

    def offer(
        self, key: Key, body: bytes, frames: Frames, attached: bool, effects: list[SessionEffect]
    ) -> None:
        """The run of ``key`` ended with a reply that travels in chunks."""
        known = self.memory.get(key)
        if known is None or known.answer is not None:
            return
        mark = Mark(*key, True)
        manifest = self._objects.offer(mark, body, frames, known.deadline)
        known.large = True
        self.answer(key, Parcel(Offer(*key, manifest)), attached, effects)
        if self.memory.get(key) is not known:
            self._objects.drop(mark)  # nobody waits for it any more

    def told_of_large(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        """A Chunk of a large argument came, or the source has all of a large answer."""
        if isinstance(parcel.item, Done):
            self._done(parcel.item)
        else:
            self._chunked(parcel, now, effects)

    def _chunked(self, parcel: Parcel, now: float, effects: list[SessionEffect]) -> None:
        """A Chunk of the large argument of a request came."""
        item: Chunk = parcel.item  # type: ignore[assignment]
        key = Key(item.source, item.epoch, item.number)
        known = self.memory.get(key)
        try:
            stream = self._objects.arrived(parcel)
        except ZbusError as error:
            error.executed = Executed.NO
            if known is not None:
                effects.append(Send(TO_BROKER, self._end_chunks(known, error)))
            return
        if stream is not None and stream.is_whole and known is not None:
            self._begin(known, stream, now, effects)

    def _done(self, item: Done) -> None:
        """The source has the whole of a large answer. Its id is still remembered, for it was
        run; what it was answered is kept no longer."""
        known = self.memory.get(Key(item.source, item.epoch, item.number))
        if known is not None and known.large and known.answer is not None:
            known.large = False
            self._objects.drop_of(known.key)

    def end_overdue(self, now: float) -> None:
        """Throw away the large bodies whose time is up."""
        for mark in self._objects.due(now):
            known = self.memory.get(mark.key)
            if known is not None and known.large:
                self._end_chunks(known, RequestTimeout(executed=Executed.NO))

    def _expect(self, item: Request, key: Key, deadline: float) -> Fault | None:
        try:
            self._objects.expect(Mark(*key, False), item.body, item, deadline)
        except ZbusError as error:
            error.executed = Executed.NO
            return fault_item(key, error)
        return None

    def _begin(
        self, known: Started, stream: InStream, now: float, effects: list[SessionEffect]
    ) -> None:
        assert stream.request is not None
        key = known.key
        if now >= stream.deadline:
            self._end_chunks(known, RequestTimeout(executed=Executed.NO))
            return
        known.large = False
        self._objects.drop_of(key)
        body, frames = stream.whole()
        # Whoever sent it learns that nothing of it is under way any more.
        accept = Accept(*key, False, stream.next, 0, False)
        effects.append(Send(TO_BROKER, Parcel(accept)))
        self.started += 1
        request = with_body(stream.request, body, len(frames))
        effects.append(Start(key, request, frames, stream.deadline))

    def _end_chunks(self, known: Started, error: ZbusError) -> Parcel:
        """No more chunks of this request, in either direction. If it has not begun, it never
        does, and this is its answer."""
        known.large = False
        self._objects.drop_of(known.key)
        fault = Parcel(fault_item(known.key, error))
        if known.answer is None:
            self.memory.finish(known, fault)
        return fault

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
        elif known.large:
            self._objects.again(Mark(*known.key, False))


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
