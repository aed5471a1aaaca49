"""Firing an event: every component hears it, in order, whatever the others do.

Rules of this room (contract section 11):

* Components are told in the order of the list, in the caller's thread.
* An ``Exception`` of one is logged and kept in the context under ``__exceptions__``; the rest
  still hear the event. Anything else, ``SystemExit`` among it, goes through.
* A component may fire further events in its handler, ``DEPTH_MAX`` deep; deeper is refused.
* Event id, data, origin and scope are set anew in the context before each component, since a
  nested event has left its own there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from zbus.engine.component import FLComponent
from zbus.engine.constants import EventScope, FLContextKey
from zbus.engine.context import FLContext

__all__ = ["DEPTH_MAX", "fire_event"]

DEPTH_MAX = 20
"""Events that were fired while an event was handled, within each other."""
_DEPTH = "###event_depth"


def fire_event(event: str, handlers: Iterable[FLComponent] | None, ctx: FLContext) -> None:
    """Tell every component of an event.

    Raises:
        TypeError: something in the list is no FLComponent; those before it were told.
        RuntimeError: the event was fired more than ``DEPTH_MAX`` deep.
    """
    depth = ctx.get_prop(_DEPTH, 0)
    if depth > DEPTH_MAX:
        raise RuntimeError(f"events are fired more than {DEPTH_MAX} deep within each other")
    about = {
        FLContextKey.EVENT_ID: str(uuid.uuid4()),
        FLContextKey.EVENT_DATA: ctx.get_prop(FLContextKey.EVENT_DATA),
        FLContextKey.EVENT_ORIGIN: ctx.get_prop(FLContextKey.EVENT_ORIGIN),
        FLContextKey.EVENT_SCOPE: ctx.get_prop(FLContextKey.EVENT_SCOPE, EventScope.LOCAL),
    }
    _set(ctx, {_DEPTH: depth + 1})
    try:
        for component in tuple(handlers or ()):
            if not isinstance(component, FLComponent):
                raise TypeError(f"an event handler must be an FLComponent, not {type(component)}")
            _set(ctx, about)
            _tell(component, event, ctx)
    finally:
        _set(ctx, {_DEPTH: depth})


def _tell(component: FLComponent, event: str, context: FLContext) -> None:
    try:
        entries = component.get_event_handlers().get(event)
        if not entries:
            component.handle_event(event, context)
        for handler, options in entries or ():
            handler(event, context, **options)
    except Exception as error:  # noqa: BLE001 - whatever a component raises, the rest are told
        component.log_exception(context, f"{component.name} failed at event {event!r}")
        exceptions = dict(context.get_prop(FLContextKey.EXCEPTIONS) or {})
        exceptions[component.name] = error
        _set(context, {FLContextKey.EXCEPTIONS: exceptions})


def _set(context: FLContext, props: dict[str, Any]) -> None:
    for key, value in props.items():
        context.set_prop(key, value, private=True, sticky=False)
