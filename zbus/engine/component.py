"""The FLComponent: what every executor, controller, filter and widget is made from.

Rules of this room:

* A component finds its engine in the context it is given, and fires events through it.
* Subclasses that forget ``super().__init__()`` work all the same.
* A log line says who and what it is about: site, run, peer, task. Where it fires an event, the
  event's data is a Shareable with ``key``, the ``LogMessageTag``, and ``value``, the line.
* Method and parameter names are contract; components and engines use them as keywords.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, Self

from zbus.engine.constants import EventScope, EventType, FedEventHeader, FLContextKey, LogMessageTag
from zbus.engine.context import FLContext
from zbus.engine.shareable import Shareable

__all__ = ["FLComponent", "Widget"]


class FLComponent:
    """Handles events, fires events, logs."""

    _name: str
    logger: logging.Logger
    _event_handlers: dict[str, list[tuple[Callable[..., Any], dict[str, Any]]]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """All that a component needs, also where its own ``__init__`` calls no other."""
        component = super().__new__(cls)
        component._name = cls.__name__
        component.logger = logging.getLogger(f"{cls.__module__}.{cls.__name__}")
        component._event_handlers = {}
        return component

    def __init__(self) -> None:
        """Nothing is left to do here; subclasses call it by habit."""

    @property
    def name(self) -> str:
        """The name of its class."""
        return self._name

    # -- events ----------------------------------------------------------------------------

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Called for every event; here nothing, to be overridden."""

    def register_event_handler(
        self, event_types: str | list[str], handler: Callable[..., Any], **kwargs: Any
    ) -> None:
        """Let ``handler(event_type, fl_ctx, **kwargs)`` take these events instead.

        Raises:
            ValueError: the types are neither a str nor a list, or the handler is not callable.
        """
        types = [event_types] if isinstance(event_types, str) else event_types
        if not isinstance(types, list):
            raise ValueError(f"event_types must be a str or a list, not {type(event_types)}")
        if not callable(handler):
            raise ValueError(f"an event handler must be callable, not {type(handler)}")
        for event_type in types:
            entries = self._event_handlers.setdefault(event_type, [])
            if all(handler != known for known, _ in entries):
                entries.append((handler, kwargs))

    def get_event_handlers(self) -> dict[str, list[tuple[Callable[..., Any], dict[str, Any]]]]:
        """What was registered, by event type."""
        return self._event_handlers

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Fire an event in this process.

        Raises:
            TypeError: the type is not a str, or the context no FLContext.
            ValueError: the type is empty.
        """
        if not isinstance(event_type, str):
            raise TypeError(f"event_type must be a str, not {type(event_type)}")
        if not event_type:
            raise ValueError("event_type must not be empty")
        _check_context(fl_ctx)
        _set(fl_ctx, FLContextKey.EVENT_SCOPE, EventScope.LOCAL)
        self._fire(event_type, fl_ctx)

    def fire_event_with_data(self, event_type: str, fl_ctx: FLContext, key: str, data: Any) -> None:
        """Fire an event with a property that is set only meanwhile."""
        try:
            _set(fl_ctx, key, data)
            self.fire_event(event_type, fl_ctx)
        finally:
            _set(fl_ctx, key, None)

    def fire_fed_event(
        self, event_type: str, event_data: Shareable, fl_ctx: FLContext, targets: Any = None
    ) -> None:
        """Fire an event here and at other sites: at the targets from a server, else there.

        Raises:
            TypeError: the data is no Shareable, or the context no FLContext.
        """
        _check_context(fl_ctx)
        if not isinstance(event_data, Shareable):
            raise TypeError(f"event_data must be a Shareable, not {type(event_data)}")
        event_data.set_header(FedEventHeader.TARGETS, targets)
        _set(fl_ctx, FLContextKey.EVENT_DATA, event_data)
        _set(fl_ctx, FLContextKey.EVENT_SCOPE, EventScope.FEDERATION)
        self._fire(event_type, fl_ctx)

    def system_panic(self, reason: str, fl_ctx: FLContext) -> None:
        """Say that the run cannot go on."""
        _set(fl_ctx, FLContextKey.EVENT_DATA, reason)
        self.fire_event(EventType.FATAL_SYSTEM_ERROR, fl_ctx)

    def task_panic(self, reason: str, fl_ctx: FLContext) -> None:
        """Say that the task cannot go on."""
        _set(fl_ctx, FLContextKey.EVENT_DATA, reason)
        self.fire_event(EventType.FATAL_TASK_ERROR, fl_ctx)

    def _fire(self, event_type: str, fl_ctx: FLContext) -> None:
        _set(fl_ctx, FLContextKey.EVENT_ORIGIN, self._name)
        engine = fl_ctx.get_engine()
        if engine is None:
            self.log_error(fl_ctx, f"no engine for event {event_type!r}", fire_event=False)
        else:
            engine.fire_event(event_type=event_type, fl_ctx=fl_ctx)

    # -- state -----------------------------------------------------------------------------

    def get_persist_state(self, fl_ctx: FLContext) -> dict[str, Any]:
        """What a snapshot is to keep of this component; here nothing, to be overridden."""
        return {}

    def restore(self, state_data: dict[str, Any], fl_ctx: FLContext) -> None:
        """Take back what ``get_persist_state`` gave; here nothing, to be overridden."""

    # -- logs ------------------------------------------------------------------------------

    def log_debug(self, fl_ctx: FLContext, msg: str, fire_event: bool = False) -> None:
        """Log at level DEBUG, and fire the event if asked."""
        self._log(logging.DEBUG, fl_ctx, msg, fire_event)

    def log_info(self, fl_ctx: FLContext, msg: str, fire_event: bool = False) -> None:
        """Log at level INFO, and fire the event if asked."""
        self._log(logging.INFO, fl_ctx, msg, fire_event)

    def log_warning(self, fl_ctx: FLContext, msg: str, fire_event: bool = True) -> None:
        """Log at level WARNING, and fire the event unless told not to."""
        self._log(logging.WARNING, fl_ctx, msg, fire_event)

    def log_error(self, fl_ctx: FLContext, msg: str, fire_event: bool = True) -> None:
        """Log at level ERROR, and fire the event unless told not to."""
        self._log(logging.ERROR, fl_ctx, msg, fire_event)

    def log_critical(self, fl_ctx: FLContext, msg: str, fire_event: bool = True) -> None:
        """Log at level CRITICAL, and fire the event unless told not to."""
        self._log(logging.CRITICAL, fl_ctx, msg, fire_event)

    def log_exception(self, fl_ctx: FLContext, msg: str, fire_event: bool = False) -> None:
        """Log at level ERROR with the traceback of the exception that is being handled."""
        line = f"{_described(fl_ctx, msg)}\n{traceback.format_exc()}"
        self.logger.error("%s", line)
        if fire_event:
            tag = LogMessageTag.EXCEPTION
            self._fire_log(EventType.EXCEPTION_LOG_AVAILABLE, tag, line, fl_ctx)

    def _log(self, level: int, fl_ctx: FLContext, text: str, fire: bool) -> None:
        if not (fire or self.logger.isEnabledFor(level)):
            return
        line = _described(fl_ctx, text)
        self.logger.log(level, "%s", line)
        if fire:
            event_type, tag = _LOG_EVENTS[level]
            self._fire_log(event_type, tag, line, fl_ctx)

    def _fire_log(self, event_type: str, tag: str, line: str, fl_ctx: FLContext | None) -> None:
        if fl_ctx is not None:
            _set(fl_ctx, FLContextKey.EVENT_DATA, Shareable({"key": tag, "value": line}))
            self.fire_event(event_type, fl_ctx)


class Widget(FLComponent):
    """A component that an engine has once, under an id of its own."""


_LOG_EVENTS = {
    logging.DEBUG: (EventType.DEBUG_LOG_AVAILABLE, LogMessageTag.DEBUG),
    logging.INFO: (EventType.INFO_LOG_AVAILABLE, LogMessageTag.INFO),
    logging.WARNING: (EventType.WARNING_LOG_AVAILABLE, LogMessageTag.WARNING),
    logging.ERROR: (EventType.ERROR_LOG_AVAILABLE, LogMessageTag.ERROR),
    logging.CRITICAL: (EventType.CRITICAL_LOG_AVAILABLE, LogMessageTag.CRITICAL),
}


def _check_context(fl_ctx: object) -> None:
    if not isinstance(fl_ctx, FLContext):
        raise TypeError(f"fl_ctx must be an FLContext, not {type(fl_ctx)}")


def _set(fl_ctx: FLContext, key: str, value: Any) -> None:
    fl_ctx.set_prop(key, value, private=True, sticky=False)


def _described(fl_ctx: FLContext | None, text: str) -> str:
    """The text behind who and what it is about."""
    if not fl_ctx:
        return text
    about = {"identity": fl_ctx.get_identity_name(), "run": fl_ctx.get_job_id() or "?"}
    peer = fl_ctx.get_peer_context()
    if isinstance(peer, FLContext):
        about["peer"] = peer.get_identity_name() or "?"
        about["peer_run"] = peer.get_job_id() or "?"
    for word, key in (("task_name", FLContextKey.TASK_NAME), ("task_id", FLContextKey.TASK_ID)):
        if value := fl_ctx.get_prop(key):
            about[word] = value
    return f"[{', '.join(f'{word}={value}' for word, value in about.items())}]: {text}"
