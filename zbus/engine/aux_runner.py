"""Receiving aux messages: handlers by topic, and one message from the bus to its reply.

Rules of this room (contract sections 2.1 and 4):

* The checks come in one order: topic, Shareable, peer props there, peer props a dict, job, and
  then the handler. Each has its return code; every reply has the request's cookie jar and the
  replier's public props, error replies too.
* Handlers are called by keyword, with a new context whose peer context is the sender's.
  Whatever one raises, ``SystemExit`` too, is HANDLER_EXCEPTION (12.3); what it returns that is
  no Shareable is ERROR (12.2). Nothing goes past the dispatch.
* Who is not ready is not wrong (12.5): until ``open``, a topic that nobody has registered yet is
  waited for, nearly as long as its sender waits, and then answered SERVER_NOT_READY in time for
  the sender to hear it. A push waits too.
* The broker vouches for the sender: whoever calls itself by another site's name is refused.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from zbus.engine.component import FLComponent
from zbus.engine.constants import ReservedHeaderKey, ReservedKey, ReturnCode
from zbus.engine.context import FLContext
from zbus.engine.letters import received, reply_of, unsealed
from zbus.engine.shareable import Shareable, make_reply
from zbus.engine.signal import Signal
from zbus.engine.wire import peer_context_of
from zbus.errors import Malformed
from zbus.peer.dispatcher import Incoming

__all__ = ["BULK_DATA", "BULK_TOPIC", "AuxRunner", "Host"]

BULK_TOPIC = "__runner.bulk__"
"""The reserved topic of a request that holds many."""
BULK_DATA = "bulk_data"
"""Its key: a list of Shareables, each with its topic and its peer props."""
_WAIT_S = 1.0
_WORD_S = 0.5
"""How much of the sender's time is left for the word that nobody is ready; at most a quarter."""
_HEADERS = ReservedHeaderKey.HEADERS
_TOPIC = ReservedHeaderKey.TOPIC
_PEER_PROPS = ReservedHeaderKey.PEER_PROPS
_IDENTITY = ReservedKey.IDENTITY_NAME
_Handler: TypeAlias = Callable[..., Any]


class Host(Protocol):
    """The engine that a runner is part of."""

    @property
    def job_id(self) -> str:
        """The job that it runs."""

    @property
    def abort_signal(self) -> Signal:
        """Triggered once the run is to end."""

    def new_context(self) -> FLContext:
        """A new context of the run."""

    def site_at(self, address: str) -> str | None:
        """The site behind a name of the bus, if it is in this job."""


class AuxRunner(FLComponent):
    """The handlers of one engine. ``defaults`` are those that hold until others are registered."""

    def __init__(self, engine: Host, defaults: Mapping[str, _Handler] | None = None) -> None:
        super().__init__()
        self.engine = engine
        self._handlers: dict[str, _Handler] = {}
        self._defaults = {BULK_TOPIC: self._handle_bulk, **(defaults or {})}
        self._changed = threading.Condition()
        self._is_open = False

    def register_aux_message_handler(self, topic: str, message_handle_func: _Handler) -> None:
        """Serve a topic.

        Raises:
            TypeError: the topic is not a str, or the function not callable.
            ValueError: the topic is empty, reserved or taken, or the function None.
        """
        if not isinstance(topic, str):
            raise TypeError(f"topic must be a str, not {type(topic)}")
        if topic == BULK_TOPIC:
            raise ValueError(f"topic {topic!r} is reserved")
        if not topic:
            raise ValueError("topic must not be empty")
        if message_handle_func is None:
            raise ValueError("message_handle_func must not be None")
        if not callable(message_handle_func):
            raise TypeError(
                f"message_handle_func must be callable, not {message_handle_func!r:.80}"
            )
        with self._changed:
            if topic in self._handlers:
                raise ValueError(f"topic {topic!r} has a handler already")
            self._handlers[topic] = message_handle_func
            self._changed.notify_all()

    def open(self) -> None:
        """Everything that will be registered at the start is: unknown topics are unknown now."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    # -- from the bus ----------------------------------------------------------------------

    def serve(self, body: Any, request: Incoming) -> list[Any] | None:
        """A request or a push from the bus, and its reply's body; for a ``Dispatcher``."""
        reply, asked, fl_ctx = self._answer(body, request)
        if request.is_push:
            return None
        try:
            return reply_of(reply, asked, fl_ctx.get_all_public_props())
        except ValueError as error:
            reply = self._refuse(ReturnCode.ERROR, fl_ctx, str(error))
            return reply_of(reply, asked, fl_ctx.get_all_public_props())

    def serve_batch(self, body: Any, request: Incoming) -> None:
        """A batch of sealed letters, which nobody waits for; for a ``Dispatcher``."""
        if type(body) is not list:
            self.logger.warning("%s sent no batch", request.source)
            return
        for parts in body:
            try:
                self._answer(unsealed(parts), request)
            except Malformed as error:
                self.logger.warning("in a batch of %s: %s", request.source, error)

    def _answer(
        self, body: Any, incoming: Incoming
    ) -> tuple[Shareable, Shareable | None, FLContext]:
        """The reply to a letter, what it asked, and the context that it was handled in."""
        fl_ctx = self.engine.new_context()
        try:
            request, props = received(body)
        except Malformed as error:
            self.logger.warning("%s sent no letter: %s", incoming.source, error)
            return _refused(ReturnCode.BAD_REQUEST_DATA, str(error)), None, fl_ctx
        topic = request[_HEADERS].get(_TOPIC)
        if not self._is_open and self._handler(topic) is None:
            self._await(topic, incoming)
        identity = props.get(_IDENTITY)
        if not identity or identity == self.engine.site_at(incoming.source):
            reply = self._handled(topic, request, fl_ctx)
        else:
            reply = self._refuse(ReturnCode.BAD_PEER_CONTEXT, fl_ctx, _posing(incoming.source))
        return reply, request, fl_ctx

    def _await(self, topic: object, incoming: Incoming) -> None:
        word_s = min(_WORD_S, incoming.remaining() / 4)
        with self._changed:
            while not (self._is_open or self._handler(topic) is not None or incoming.cancelled):
                left_s = incoming.remaining() - word_s
                if left_s <= 0:
                    return
                self._changed.wait(None if math.isinf(left_s) else min(left_s, _WAIT_S))

    # -- dispatch --------------------------------------------------------------------------

    def dispatch(self, topic: str, request: Any, fl_ctx: FLContext) -> Shareable:
        """The reply to one message. Raises nothing."""
        reply = self._handled(topic, request, fl_ctx)
        sealed = Shareable(reply)
        if _is_sound(reply):
            sealed[_HEADERS] = dict(reply.get(_HEADERS) or ())
        if _is_sound(request) and request.get_cookie_jar():
            sealed.set_cookie_jar(request.get_cookie_jar())
        sealed.set_peer_props(fl_ctx.get_all_public_props())
        return sealed

    def _handled(self, topic: Any, request: Any, fl_ctx: FLContext) -> Shareable:
        handler = self._handler(topic)
        if handler is None:
            return self._unknown(topic, fl_ctx)
        headers = request.get(_HEADERS) if type(request) is Shareable else None
        if type(headers) is not dict:
            if not _is_sound(request):
                why = f"a request is a Shareable with headers, not {type(request)}"
                return self._refuse(ReturnCode.BAD_REQUEST_DATA, fl_ctx, why)
            headers = request.get(_HEADERS) or {}
        if refused := self._check_peer(headers.get(_PEER_PROPS), fl_ctx):
            return refused
        try:
            reply = handler(topic=topic, request=request, fl_ctx=fl_ctx)
        except BaseException as error:  # noqa: BLE001 - a handler's end is no end of ours
            self.log_exception(fl_ctx, f"the handler of {topic!r} raised")
            return _refused(ReturnCode.HANDLER_EXCEPTION, f"{type(error).__name__}: {error!s:.200}")
        if isinstance(reply, Shareable):
            return reply
        why = f"the handler of {topic!r} returned {type(reply)}, not a Shareable"
        return self._refuse(ReturnCode.ERROR, fl_ctx, why)

    def _check_peer(self, props: Any, fl_ctx: FLContext) -> Shareable | None:
        if not props:
            why = "the sender's public properties are missing"
            return self._refuse(ReturnCode.MISSING_PEER_CONTEXT, fl_ctx, why)
        if not isinstance(props, dict):
            why = f"the sender's public properties are {type(props)}, not a dict"
            return self._refuse(ReturnCode.BAD_PEER_CONTEXT, fl_ctx, why)
        job_id = props.get(ReservedKey.RUN_NUM)
        if job_id != self.engine.job_id:
            why = f"the sender runs job {job_id!r:.80}, and this is {self.engine.job_id!r:.80}"
            return self._refuse(ReturnCode.RUN_MISMATCH, fl_ctx, why)
        try:
            fl_ctx.set_peer_context(peer_context_of(props))
        except ValueError as error:
            return self._refuse(ReturnCode.BAD_PEER_CONTEXT, fl_ctx, str(error))
        return None

    def _unknown(self, topic: object, fl_ctx: FLContext) -> Shareable:
        if self._is_open:
            return self._refuse(ReturnCode.TOPIC_UNKNOWN, fl_ctx, f"topic {topic!r:.80} is unknown")
        why = f"topic {topic!r:.80} is not served yet"
        return self._refuse(ReturnCode.SERVER_NOT_READY, fl_ctx, why)

    def _handler(self, topic: Any) -> _Handler | None:
        if not isinstance(topic, str):
            return None
        handler = self._handlers.get(topic)
        return self._defaults.get(topic) if handler is None else handler

    def _handle_bulk(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        bulk = request.get(BULK_DATA)
        if not isinstance(bulk, list):
            why = f"a bulk is a list, not {type(bulk)}"
            return self._refuse(ReturnCode.BAD_REQUEST_DATA, fl_ctx, why)
        sender = request.get_peer_prop(_IDENTITY, "")
        for item in bulk:
            if self.engine.abort_signal.triggered:
                self.log_warning(fl_ctx, "the run was aborted within a bulk")
                break
            self._handle_item(item, sender)
        return make_reply(ReturnCode.OK)

    def _handle_item(self, item: Any, sender: str) -> None:
        """One of a bulk; what comes of it is logged where it fails, and its reply dropped."""
        fl_ctx = self.engine.new_context()
        if not _is_sound(item):
            self.log_error(fl_ctx, f"in a bulk: {type(item)}, not a Shareable with headers")
            return
        topic = item.get_header(_TOPIC)
        if topic == BULK_TOPIC:
            self.log_error(fl_ctx, "in a bulk: another bulk")
        elif item.get_peer_prop(_IDENTITY, sender) != sender:
            self.log_error(fl_ctx, f"in a bulk: {_posing(sender)}")
        else:
            self._handled(topic, item, fl_ctx)

    def _refuse(self, code: str, fl_ctx: FLContext, why: str) -> Shareable:
        self.log_error(fl_ctx, why)
        return _refused(code, why)


def _is_sound(value: Any) -> bool:
    """Whether it is a Shareable whose headers, if any, can be read."""
    if not isinstance(value, Shareable):
        return False
    headers = value.get(_HEADERS)
    return headers is None or isinstance(headers, dict)


def _refused(code: str, why: str) -> Shareable:
    return make_reply(code, {ReservedHeaderKey.ERROR: why})


def _posing(source: str) -> str:
    return f"{source!r:.80} calls itself by another name"
