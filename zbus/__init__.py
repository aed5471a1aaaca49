"""The bus itself: zbus, a message bus over ZeroMQ whose every request ends once and on time.

This is the face: names, and nothing else. ``zbus.aio`` is the same bus awaited, ``zbus.testing``
is for those who test their handlers, and ``zbus.errors`` has every error.

Names are imported when they are first used, so that the pure rooms can be had without sockets,
and a command pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbus.errors import (
        AuthFailed,
        Backpressure,
        BadReply,
        BrokerUnreachable,
        CallerError,
        Cancelled,
        ClosedError,
        Damaged,
        Draining,
        Executed,
        ForkedClientError,
        HandlerError,
        NameTaken,
        NoHandler,
        NoTarget,
        NotAuthorized,
        Overloaded,
        Poisoned,
        RequestError,
        RequestTimeout,
        Superseded,
        TargetLost,
        TooLarge,
        UnencodableBody,
        ZbusError,
    )
    from zbus.peer import aio
    from zbus.peer.dispatcher import Dispatcher, Incoming
    from zbus.peer.peer import Peer, connect
    from zbus.peer.serving import serve
    from zbus.protocol.effect import Progress
    from zbus.protocol.session import SessionLimits

__all__ = [
    "AuthFailed",
    "Backpressure",
    "BadReply",
    "BrokerUnreachable",
    "CallerError",
    "Cancelled",
    "ClosedError",
    "Damaged",
    "Dispatcher",
    "Draining",
    "Executed",
    "ForkedClientError",
    "HandlerError",
    "Incoming",
    "NameTaken",
    "NoHandler",
    "NoTarget",
    "NotAuthorized",
    "Overloaded",
    "Peer",
    "Poisoned",
    "Progress",
    "RequestError",
    "RequestTimeout",
    "SessionLimits",
    "Superseded",
    "TargetLost",
    "TooLarge",
    "UnencodableBody",
    "ZbusError",
    "aio",
    "connect",
    "serve",
]

_HOMES = {
    "Dispatcher": "zbus.peer.dispatcher",
    "Incoming": "zbus.peer.dispatcher",
    "Peer": "zbus.peer.peer",
    "Progress": "zbus.protocol.effect",
    "SessionLimits": "zbus.protocol.session",
    "connect": "zbus.peer.peer",
    "serve": "zbus.peer.serving",
}
"""Where a name lives that is not an error."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'zbus' has no attribute {name!r}")
    if name == "aio":
        value: Any = import_module("zbus.peer.aio")
    else:
        value = getattr(import_module(_HOMES.get(name, "zbus.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
