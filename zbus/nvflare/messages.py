"""Shareables as bytes: what nvflare's own FOBS makes of a request and of its reply.

Rules:

* The caller's Shareable is not touched: topic and public props go into a copy of its headers.
* What FOBS cannot encode raises ``UnencodableBody`` at the sender, in its own thread. A public
  prop that it cannot encode is left out with a warning, as nvflare does, and in every direction.
* Decoding is total: any bytes give a Shareable or ``Malformed``. FOBS checks the types it builds
  against its own list; there is no pickle.
* An error of the bus is a reply with a ``ReturnCode`` constant, never a cell's lower-case word.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.app_common.decomposers import common_decomposers
from nvflare.fuel.utils import fobs

from zbus.errors import (
    BrokerUnreachable,
    Cancelled,
    ClosedError,
    Draining,
    HandlerError,
    Malformed,
    NoHandler,
    NoTarget,
    Overloaded,
    Poisoned,
    RequestTimeout,
    TargetLost,
    UnencodableBody,
    ZbusError,
)

__all__ = ["code_of", "decode", "decode_reply", "encode", "encode_reply", "refusal"]

_logger = logging.getLogger("zbus.nvflare")
_CODES: dict[type[ZbusError], Any] = {
    RequestTimeout: ReturnCode.TIMEOUT,
    NoTarget: ReturnCode.COMMUNICATION_ERROR,
    NoHandler: ReturnCode.COMMUNICATION_ERROR,
    TargetLost: ReturnCode.COMMUNICATION_ERROR,
    Poisoned: ReturnCode.EXECUTION_EXCEPTION,
    BrokerUnreachable: ReturnCode.COMMUNICATION_ERROR,
    ClosedError: ReturnCode.COMMUNICATION_ERROR,
    Draining: ReturnCode.SERVICE_UNAVAILABLE,
    Overloaded: ReturnCode.SERVICE_UNAVAILABLE,
    HandlerError: ReturnCode.EXECUTION_EXCEPTION,
    Cancelled: ReturnCode.TASK_ABORTED,
}
"""What an outcome of the bus is in nvflare's words; ERROR for all others."""

flare_decomposers.register()
common_decomposers.register()


def encode(request: Any, headers: dict[str, Any], props: dict[str, Any]) -> bytes:
    """A Shareable with these headers and its sender's public props.

    Raises:
        UnencodableBody: FOBS cannot encode it.
    """
    return _encode(request, headers, ReservedHeaderKey.PEER_PROPS, props)


def encode_reply(reply: Any, props: dict[str, Any]) -> bytes:
    """A reply with the public props of who replies; errors as for ``encode``."""
    return _encode(reply, {}, ReservedHeaderKey.PEER_CTX, props)


def decode(body: object) -> Any:
    """The Shareable that these bytes are.

    Raises:
        Malformed: they are none.
    """
    if not isinstance(body, bytes | memoryview):
        raise Malformed(f"a Shareable is bytes on the bus, not {type(body).__name__}")
    try:
        value = fobs.loads(bytes(body))
    except Exception as error:  # noqa: BLE001 - FOBS raises whatever its decomposers raise
        raise Malformed(f"FOBS cannot decode it: {error!s:.200}") from None
    if not isinstance(value, Shareable) or not isinstance(_headers(value), dict):
        raise Malformed(f"a Shareable is expected, not {type(value).__name__}")
    return value


def decode_reply(body: object) -> Any:
    """A reply, with its sender's public props as peer context; errors as for ``decode``."""
    reply = decode(body)
    props = reply.get_peer_context()
    if isinstance(props, dict):
        context = FLContext()
        context.set_public_props(props)
        reply.set_peer_context(context)
    return reply


def code_of(error: ZbusError) -> Any:
    """The return code for what a request ended with."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return ReturnCode.ERROR


def refusal(code: Any, text: str) -> Any:
    """A reply that nobody sent: the code, and why in the header ``__error__``."""
    return make_reply(code, {ReservedHeaderKey.ERROR: text})


def _encode(value: Any, headers: dict[str, Any], place: Any, props: dict[str, Any]) -> bytes:
    try:
        return _dumps(value, {**headers, place: props})
    except Exception as error:
        kept = {key: each for key, each in props.items() if _can_encode(each)}
        if len(kept) == len(props):
            raise UnencodableBody(f"FOBS cannot encode it: {error!s:.200}") from error
    _logger.warning("public props that FOBS cannot encode: %s", sorted({*props} - {*kept}))
    return _encode(value, headers, place, kept)


def _dumps(value: Any, headers: dict[str, Any]) -> bytes:
    sent = copy.copy(value)
    sent[ReservedHeaderKey.HEADERS] = {**(_headers(value) or {}), **headers}
    return bytes(fobs.dumps(sent))


def _headers(value: Any) -> Any:
    return value.get(ReservedHeaderKey.HEADERS, {})


def _can_encode(value: object) -> bool:
    try:
        fobs.dumps(value)
    except Exception:  # noqa: BLE001 - FOBS raises whatever its decomposers raise
        return False
    return True
