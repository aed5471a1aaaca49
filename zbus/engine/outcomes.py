"""What an error of the bus is as a return code, in the words of the seed era and of 2.3+.

Rules of this room:

* One table has every error. Where it has no code, the error is the caller's own, and raised.
* The seed era has no code for a timeout or for "not now": they are COMMUNICATION_ERROR and
  SERVER_NOT_READY (contract 12.16). What it was in truth stands in headers of the reply: the
  error's code, whether the handler ran, and the text.
"""

from __future__ import annotations

from typing import NamedTuple

from zbus import errors
from zbus.engine.constants import ReservedHeaderKey, ReturnCode
from zbus.engine.shareable import Shareable, make_reply
from zbus.errors import ZbusError

__all__ = ["ERROR_HEADER", "EXECUTED_HEADER", "RAISED", "Codes", "code_of", "codes_of", "refusal"]

ERROR_HEADER = "__zbus_error__"
"""The header of a reply that nobody sent: the code of the error, such as ``ZB-301``."""
EXECUTED_HEADER = "__executed__"
"""And whether the handler ran: ``no``, ``maybe`` or ``yes``."""


class Codes(NamedTuple):
    """A return code for each era; None where the error is raised."""

    seed: str | None
    modern: str | None


def _both(code: str) -> Codes:
    return Codes(code, code)


RAISED = Codes(None, None)
_NOT_NOW = Codes(ReturnCode.SERVER_NOT_READY, ReturnCode.SERVICE_UNAVAILABLE)
_LOST = _both(ReturnCode.COMMUNICATION_ERROR)
_CODES: dict[type[ZbusError], Codes] = {
    ZbusError: _both(ReturnCode.ERROR),
    errors.CallerError: RAISED,
    errors.RefusedError: _LOST,
    errors.TargetError: _LOST,
    errors.RequestError: _LOST,
    errors.ProtocolError: _both(ReturnCode.ERROR),
    errors.RequestTimeout: Codes(ReturnCode.COMMUNICATION_ERROR, ReturnCode.TIMEOUT),
    errors.Cancelled: Codes(ReturnCode.COMMUNICATION_ERROR, ReturnCode.TASK_ABORTED),
    errors.ClosedError: _LOST,
    errors.BrokerUnreachable: _LOST,
    errors.NoTarget: _LOST,
    errors.NoHandler: _LOST,
    errors.TargetLost: _LOST,
    errors.Poisoned: _both(ReturnCode.EXECUTION_EXCEPTION),
    errors.NameTaken: _LOST,
    errors.Superseded: _LOST,
    errors.VersionMismatch: _LOST,
    errors.NotAuthorized: _both(ReturnCode.ERROR),
    errors.AuthFailed: _both(ReturnCode.ERROR),
    errors.Backpressure: _NOT_NOW,
    errors.Overloaded: _NOT_NOW,
    errors.Draining: _NOT_NOW,
    errors.HandlerError: _both(ReturnCode.EXECUTION_EXCEPTION),
    errors.BadReply: _both(ReturnCode.EXECUTION_RESULT_ERROR),
    errors.Malformed: _both(ReturnCode.ERROR),
    errors.Damaged: _LOST,
    errors.InternalError: _both(ReturnCode.ERROR),
}
"""By class; a class that is not here is what its nearest ancestor here is."""


def codes_of(kind: type[ZbusError]) -> Codes:
    """The codes of an error's class."""
    return next(_CODES[each] for each in kind.__mro__ if each in _CODES)


def code_of(error: ZbusError, *, modern: bool = False) -> str | None:
    """The return code of an error in one era; None where it is to be raised."""
    codes = codes_of(type(error))
    return codes.modern if modern else codes.seed


def refusal(error: ZbusError, *, modern: bool = False) -> Shareable:
    """The reply that stands for an error.

    Raises:
        ZbusError: the error itself, where it is the caller's own.
    """
    code = code_of(error, modern=modern)
    if code is None:
        raise error
    headers = {
        ReservedHeaderKey.ERROR: str(error),
        ERROR_HEADER: error.code,
        EXECUTED_HEADER: error.executed.value,
    }
    return make_reply(code, headers)
