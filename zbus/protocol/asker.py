"""Our own requests, as the session's asking half: send, send again, and end each once.

Rules (spec 6.1, 6.2, 6.5):

* A request ends in exactly one ``Resolve``: its reply, an error, or its own deadline (P1, P2).
* AGAIN and DRAINING are no ends: the same id is sent again while there is time left. Nor is
  "nobody serves it" from a broker that has just taken over from another: the servers are still
  coming back (P6).
* ``executed`` is ``no`` where the request never left, or where each time that it did somebody
  who knows says that it came to nothing (P4). One refusal says nothing of an earlier time.
"""

from __future__ import annotations

from zbus.errors import (
    BrokerUnreachable,
    Cancelled,
    ClosedError,
    Draining,
    Executed,
    NoHandler,
    NoTarget,
    Overloaded,
    RequestTimeout,
    ZbusError,
    error_for,
)
from zbus.protocol.effect import (
    Lane,
    Outcome,
    Progress,
    Resolve,
    Route,
    Send,
    SessionEffect,
    Told,
)
from zbus.protocol.message import (
    AGAIN,
    NO_FRAMES,
    Accept,
    Cancel,
    Chunk,
    Done,
    Fault,
    Flag,
    Key,
    Offer,
    Parcel,
    Reply,
)
from zbus.protocol.objects import Mark, Objects
from zbus.protocol.requests import Ask, OpenRequests

__all__ = ["EXECUTED", "TO_BROKER", "Asker"]

TO_BROKER = Route(Lane.BROKER)
EXECUTED = (Executed.NO, Executed.MAYBE, Executed.YES)
"""``executed`` by its code on the wire."""
_DRAINING_RETRY_S = 0.25
_UNSETTLED_RETRY_S = 0.1
_LARGE = int(Flag.LARGE)
_NOT_YET_THERE = frozenset((NoTarget.number, NoHandler.number))


class Asker:
    """The requests this peer asked, from the call to their one end."""

    def __init__(self, source: str, epoch: int, objects: Objects) -> None:
        self.requests = OpenRequests(source, epoch)
        self.late_answers = 0
        self._source = source
        self._epoch = epoch
        self._settled_at = float("-inf")
        self._objects = objects

    def __len__(self) -> int:
        return len(self.requests)

    def ask(self, ask: Ask, open_max: int) -> None:
        """Open a request, or raise ``Overloaded`` at the broker's bound, or ``TooLarge``."""
        if len(self.requests) >= open_max:
            raise Overloaded(f"{len(self.requests)} requests are open", retry_after_s=0.05)
        large = self._objects.is_large(ask.body, ask.frames)
        self.requests.add(ask)
        if large:
            mark = Mark(self._source, self._epoch, ask.number, False)
            ask.body = self._objects.offer(mark, ask.body, ask.frames, None)
            ask.frames, ask.flags, ask.large = NO_FRAMES, ask.flags | _LARGE, True

    def send(self, ask: Ask, now: float, effects: list[SessionEffect]) -> None:
        """Say it, for the first time or again, with the time that is left."""
        parcel = self.requests.parcel(ask, now)
        if parcel is not None:
            effects.append(Send(TO_BROKER, parcel))

    def attached(self, now: float, settled_at: float, effects: list[SessionEffect]) -> None:
        """We are attached (again): say every open request (P6). Until ``settled_at`` others
        may still be coming back to the broker."""
        self._settled_at = settled_at
        self.requests.drop_retries()
        for ask in self.requests:
            self.send(ask, now, effects)

    def send_again(self, now: float, effects: list[SessionEffect]) -> None:
        """Say those whose retry is due."""
        for ask in self.requests.to_retry(now):
            self.send(ask, now, effects)

    def cancel(self, number: int, attached: bool, effects: list[SessionEffect]) -> None:
        """Give a request up; nothing happens if it has ended."""
        ask = self.requests.get(number)
        if ask is None:
            return
        if ask.sent and attached:
            effects.append(Send(TO_BROKER, Parcel(Cancel(self._source, self._epoch, number))))
        self._resolve(number, Cancelled(executed=ask.executed), effects)

    def replied(self, parcel: Parcel, effects: list[SessionEffect]) -> None:
        """A Reply came."""
        item = parcel.item
        if isinstance(item, Reply) and self._is_ours(item):
            self._resolve(item.number, parcel, effects)
        else:
            self.late_answers += 1

    def told_of_large(self, parcel: Parcel, effects: list[SessionEffect]) -> None:
        """Something about a large body that we send, or a Chunk of a large reply."""
        item = parcel.item
        if isinstance(item, Offer):
            self._offered(item, effects)
        elif isinstance(item, Accept):
            self._accepted(item, effects)
        else:
            self._chunked(parcel, effects)

    def _offered(self, item: Offer, effects: list[SessionEffect]) -> None:
        """A large reply is to be had: it is asked for in chunks."""
        ask = self.requests.get(item.number) if self._is_ours(item) else None
        if ask is None:
            self.late_answers += 1
            return
        ask.large = True
        try:
            self._objects.expect(self._mark(ask.number), item.body, None, ask.deadline)
        except ZbusError as error:
            self._refuse_reply(ask.number, error, effects)

    def _accepted(self, item: Accept, effects: list[SessionEffect]) -> None:
        """Whoever has our request, or its large answer, asks for chunks."""
        stream = self._objects.accepted(item)
        ask = self.requests.get(item.number) if not item.reply else None
        if stream is not None and ask is not None and ask.progress is not None:
            progress = Progress("argument", stream.arrived_bytes, stream.size)
            effects.append(Told(ask.progress, progress))

    def _chunked(self, parcel: Parcel, effects: list[SessionEffect]) -> None:
        """A Chunk of a large reply came."""
        item: Chunk = parcel.item  # type: ignore[assignment]
        try:
            stream = self._objects.arrived(parcel)
        except ZbusError as error:
            self._refuse_reply(item.number, error, effects)
            return
        ask = self.requests.get(item.number)
        if stream is None or ask is None:
            return
        if ask.progress is not None:
            progress = Progress("reply", stream.arrived_bytes, stream.size)
            effects.append(Told(ask.progress, progress))
        if stream.is_whole:
            body, frames = stream.whole()
            key = Key(item.source, item.epoch, item.number)
            effects.append(Send(TO_BROKER, Parcel(Done(*key))))
            self._resolve(ask.number, Parcel(Reply(*key, body, len(frames)), frames), effects)

    def _refuse_reply(self, number: int, error: ZbusError, effects: list[SessionEffect]) -> None:
        # Whoever offers or sends it has run the request.
        error.executed = Executed.YES
        effects.append(Send(TO_BROKER, Parcel(Cancel(self._source, self._epoch, number))))
        self._resolve(number, error, effects)

    def faulted(self, item: Fault, now: float, effects: list[SessionEffect]) -> None:
        """A Fault came: an end, or a word to ask again."""
        ask = self.requests.get(item.number) if self._is_ours(item) else None
        if ask is None:
            self.late_answers += 1
            return
        error = _error_of(ask, item)
        if item.code == AGAIN:
            self._put_off(ask, item, now + error.retry_after_s)
        elif item.code == Draining.number:
            # A planned restart is a pause as well: asked again until the deadline (6.5).
            self._put_off(ask, item, now + max(error.retry_after_s, _DRAINING_RETRY_S), error)
        elif item.code in _NOT_YET_THERE and now < self._settled_at:
            self._put_off(ask, item, now + _UNSETTLED_RETRY_S, error)
        elif item.code == RequestTimeout.number:
            # Its time is up by the handler's clock; ours alone ends it (P2).
            ask.pending, ask.reason = bool(item.executed), error
        else:
            self._resolve(item.number, error, effects)

    def _put_off(
        self, ask: Ask, item: Fault, until: float, reason: ZbusError | None = None
    ) -> None:
        if not item.executed:
            ask.pending = False
        ask.reason = reason
        self.requests.retry_at(ask.number, until)

    def end_overdue(self, now: float, effects: list[SessionEffect]) -> None:
        """End what has reached its deadline."""
        for number in self.requests.overdue(now):
            ask = self.requests.get(number)
            if ask is not None:
                self._resolve(number, _overdue(ask, self._source), effects)

    def end_all(self, error: ZbusError, effects: list[SessionEffect]) -> None:
        """The session ends for good, and every open request with it."""
        for ask in self.requests:
            self._resolve(ask.number, _ended(ask, error), effects)

    def _resolve(self, number: int, outcome: Outcome, effects: list[SessionEffect]) -> None:
        ask = self.requests.end(number)
        if ask is None:
            self.late_answers += 1
            return
        if ask.large:
            self._objects.drop_of(Key(self._source, self._epoch, number))
        effects.append(Resolve(number, outcome))

    def _is_ours(self, item: Reply | Fault | Offer) -> bool:
        return item.source == self._source and item.epoch == self._epoch

    def _mark(self, number: int) -> Mark:
        return Mark(self._source, self._epoch, number, True)


def _error_of(ask: Ask, item: Fault) -> ZbusError:
    executed = EXECUTED[item.executed]
    if executed is Executed.NO and ask.doubt:
        executed = Executed.MAYBE
    error = error_for(item.code)
    return error(item.text, executed=executed, retry_after_s=item.retry_after_ms / 1000.0)


def _overdue(ask: Ask, name: str) -> ZbusError:
    if not ask.sent:
        return BrokerUnreachable(f'no broker answered while {name} asked for "{ask.topic}"')
    if ask.reason is not None and not ask.pending:
        return ask.reason
    asked = f'no reply from "{ask.target}" to' if ask.target else "no reply to"
    return RequestTimeout(f'{asked} "{ask.topic}" in time', executed=ask.executed)


def _ended(ask: Ask, error: ZbusError) -> ZbusError:
    if isinstance(error, ClosedError):
        return Cancelled("the bus was closed", executed=ask.executed)
    return type(error)(error.what, executed=ask.executed)
