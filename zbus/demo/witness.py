"""Engines whose every request is noted in a ledger, and whose handlers note that they start.

Components know nothing of it: they find such an engine behind ``fl_ctx.get_engine()``. What the
bus is judged by is a header of the request, made by whoever asks and seen by the handler.

Rules of this room:

* The key of a request in the ledgers is that header and who is asked, since one request may go to
  many. It begins before anything is sent, and ends with the return code that the caller has.
* What is told and forgotten has no such header; its handler notes what it takes by itself.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, cast

from zbus.demo.ledger import REPLIED, Kind, Ledger
from zbus.demo.plan import REQUEST_S
from zbus.engine.bus import Attach
from zbus.engine.client_engine import ClientEngine
from zbus.engine.constants import ReservedHeaderKey, ReservedKey, ReturnCode
from zbus.engine.context import FLContext
from zbus.engine.job_engine import Equipment, JobEngine
from zbus.engine.outcomes import ERROR_HEADER, EXECUTED_HEADER
from zbus.engine.server_engine import ServerEngine
from zbus.engine.shareable import Shareable
from zbus.peer.peer import Peer

__all__ = ["ID_HEADER", "Witness", "WitnessedClient", "WitnessedServer", "end_of", "key_of"]

ID_HEADER = "__demo_id__"
"""The header of a request that has its id."""


class Witness:
    """What one process notes of the requests of its engines, for any number of threads."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._life = os.urandom(8).hex()
        self._begun = 0
        self._open = 0
        self._changed = threading.Condition()

    def new_id(self) -> str:
        """An id that no other request has."""
        with self._changed:
            self._begun += 1
            return f"{self._life}-{self._begun}"

    def begin(self, key: str, topic: str) -> None:
        """A request is about to be asked."""
        with self._changed:
            self._open += 1
        self.ledger.note(Kind.BEGUN, key, topic)

    def end(self, key: str, how: str) -> None:
        """It has ended."""
        self.ledger.note(Kind.ENDED, key, how)
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until every request has ended; whether all have in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_s)


class _Witnessed(JobEngine):
    """Notes the start of handlers, and what was counted when it leaves."""

    witness: Witness

    def register_aux_message_handler(
        self, topic: str, message_handle_func: Callable[..., Any]
    ) -> None:
        """As the engine does it."""
        site, ledger = self.directory.site, self.witness.ledger

        @functools.wraps(message_handle_func)
        def note(topic: str, request: Shareable, fl_ctx: FLContext) -> Any:
            if (number := request.get_header(ID_HEADER)) is not None:
                asker = request.get_peer_prop(ReservedKey.IDENTITY_NAME, "")
                ledger.note(Kind.STARTED, key_of(number, site), asker)
            return message_handle_func(topic=topic, request=request, fl_ctx=fl_ctx)

        super().register_aux_message_handler(topic, note)

    def leave(self) -> bool:
        """End the run and leave the bus, once every request has ended and what was told is
        settled; note what the peer counted. Whether all was done in time."""
        unsettled = self.end_run(drain=REQUEST_S)
        ended = self.witness.settle(REQUEST_S)
        counted = cast(Peer, self.bus).counters()._asdict()
        self.close()
        self.witness.ledger.note(Kind.COUNTED, self.directory.site, counted)
        return ended and not unsettled


class WitnessedClient(_Witnessed, ClientEngine):
    """The engine of a client; arguments are those of ``ClientEngine``."""

    def __init__(
        self,
        witness: Witness,
        site: str,
        job_id: str,
        *,
        equipment: Equipment | None = None,
        attach: Attach | None = None,
    ) -> None:
        self.witness = witness
        super().__init__(site, job_id, equipment=equipment, attach=attach)

    def send_aux_request(
        self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> Shareable:
        """As ``ClientEngine`` does it."""
        number = self.witness.new_id()
        key = key_of(number, self.directory.server.name)
        self.witness.begin(key, topic)
        how = "raised"
        try:
            reply = super().send_aux_request(topic, _stamped(request, number), timeout, fl_ctx)
            how = end_of(reply)
            return reply
        finally:
            self.witness.end(key, how)


class WitnessedServer(_Witnessed, ServerEngine):
    """The engine of the server; arguments are those of ``ServerEngine``."""

    def __init__(
        self,
        witness: Witness,
        job_id: str,
        clients: tuple[str, ...],
        *,
        equipment: Equipment | None = None,
        attach: Attach | None = None,
    ) -> None:
        self.witness = witness
        super().__init__(job_id, clients, equipment=equipment, attach=attach)

    def send_aux_request(
        self,
        targets: list[str] | None,
        topic: str,
        request: Shareable,
        timeout: float,
        fl_ctx: FLContext,
    ) -> dict[str, Shareable]:
        """As ``ServerEngine`` does it."""
        number = self.witness.new_id()
        names = targets or list(self.directory.clients)
        for name in names:
            self.witness.begin(key_of(number, name), topic)
        replies: dict[str, Shareable] = {}
        try:
            stamped = _stamped(request, number)
            replies = super().send_aux_request(targets, topic, stamped, timeout, fl_ctx)
            return replies
        finally:
            for name in names:
                reply = replies.get(name)
                self.witness.end(key_of(number, name), "raised" if reply is None else end_of(reply))


def key_of(number: str, site: str) -> str:
    """A request in the ledgers: its id, and who is asked."""
    return f"{number} {site}"


def end_of(reply: Shareable) -> str:
    """How a request ended, for a ledger: ``REPLIED``, or the return code. Where the bus gave it,
    its error and whether the handler ran stand behind."""
    code = reply.get_return_code()
    if code == ReturnCode.OK:
        return REPLIED
    error = reply.get_header(ERROR_HEADER)
    return f"{code} {error}, executed={reply.get_header(EXECUTED_HEADER)}" if error else str(code)


def _stamped(request: Shareable, number: str) -> Shareable:
    """The same request with its id; the caller's is left as it is."""
    stamped = Shareable(request)
    stamped[ReservedHeaderKey.HEADERS] = dict(request[ReservedHeaderKey.HEADERS])
    stamped.set_header(ID_HEADER, number)
    return stamped
