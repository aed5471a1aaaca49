"""Engines on the bus: the API of FLARE's ``ClientEngineExecutorSpec``, and the server's half.

This is the face: names, and nothing else, imported when they are first used. What differs from
the API on purpose stands in ``docs/engine.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbus.engine.aux_spec import MessageSendStatus, aux_request_handle_func_signature
    from zbus.engine.builder import ComponentBuilder
    from zbus.engine.client_aux_runner import ClientAuxRunner
    from zbus.engine.client_engine import ClientEngine
    from zbus.engine.component import FLComponent, Widget
    from zbus.engine.constants import (
        EventScope,
        EventType,
        FedEventHeader,
        FLContextKey,
        LogMessageTag,
        ProcessType,
        ReservedHeaderKey,
        ReservedKey,
        ReservedTopic,
        ReturnCode,
        SiteType,
    )
    from zbus.engine.context import FLContext, FLContextManager
    from zbus.engine.events import fire_event
    from zbus.engine.job_engine import Equipment
    from zbus.engine.modern import ModernClientEngine, ModernServerEngine
    from zbus.engine.server_engine import ServerEngine
    from zbus.engine.shareable import Shareable, make_copy, make_reply
    from zbus.engine.signal import Signal
    from zbus.engine.spec import ClientEngineExecutorSpec, ClientEngineSpec, ServerEngineSpec
    from zbus.engine.task import Client, TaskAssignment
    from zbus.engine.workspace import Workspace
    from zbus.peer.register import register

__all__ = [
    "Client",
    "ClientAuxRunner",
    "ClientEngine",
    "ClientEngineExecutorSpec",
    "ClientEngineSpec",
    "ComponentBuilder",
    "Equipment",
    "EventScope",
    "EventType",
    "FLComponent",
    "FLContext",
    "FLContextKey",
    "FLContextManager",
    "FedEventHeader",
    "LogMessageTag",
    "MessageSendStatus",
    "ModernClientEngine",
    "ModernServerEngine",
    "ProcessType",
    "ReservedHeaderKey",
    "ReservedKey",
    "ReservedTopic",
    "ReturnCode",
    "ServerEngine",
    "ServerEngineSpec",
    "Shareable",
    "Signal",
    "SiteType",
    "TaskAssignment",
    "Widget",
    "Workspace",
    "aux_request_handle_func_signature",
    "fire_event",
    "make_copy",
    "make_reply",
    "register",
]

_HOMES = {
    "Client": "zbus.engine.task",
    "ClientAuxRunner": "zbus.engine.client_aux_runner",
    "ClientEngine": "zbus.engine.client_engine",
    "ClientEngineExecutorSpec": "zbus.engine.spec",
    "ClientEngineSpec": "zbus.engine.spec",
    "ComponentBuilder": "zbus.engine.builder",
    "Equipment": "zbus.engine.job_engine",
    "FLComponent": "zbus.engine.component",
    "FLContext": "zbus.engine.context",
    "FLContextManager": "zbus.engine.context",
    "MessageSendStatus": "zbus.engine.aux_spec",
    "ModernClientEngine": "zbus.engine.modern",
    "ModernServerEngine": "zbus.engine.modern",
    "ServerEngine": "zbus.engine.server_engine",
    "ServerEngineSpec": "zbus.engine.spec",
    "Shareable": "zbus.engine.shareable",
    "Signal": "zbus.engine.signal",
    "TaskAssignment": "zbus.engine.task",
    "Widget": "zbus.engine.component",
    "Workspace": "zbus.engine.workspace",
    "aux_request_handle_func_signature": "zbus.engine.aux_spec",
    "fire_event": "zbus.engine.events",
    "make_copy": "zbus.engine.shareable",
    "make_reply": "zbus.engine.shareable",
    "register": "zbus.peer.register",
}
"""Where a name lives that is not one of the constants."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'zbus.engine' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "zbus.engine.constants")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
