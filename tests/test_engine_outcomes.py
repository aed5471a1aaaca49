"""Every error of the bus has a return code, or is the caller's own."""

from __future__ import annotations

import pytest

from zbus import errors
from zbus.engine import ReturnCode
from zbus.engine.outcomes import (
    _CODES,
    ERROR_HEADER,
    EXECUTED_HEADER,
    RAISED,
    code_of,
    codes_of,
    refusal,
)
from zbus.errors import Executed, ZbusError, every_error

MEANT = {
    errors.RequestTimeout: ("COMMUNICATION_ERROR", "TIMEOUT"),
    errors.Cancelled: ("COMMUNICATION_ERROR", "TASK_ABORTED"),
    errors.Backpressure: ("SERVER_NOT_READY", "SERVICE_UNAVAILABLE"),
    errors.NoTarget: ("COMMUNICATION_ERROR", "COMMUNICATION_ERROR"),
    errors.TargetLost: ("COMMUNICATION_ERROR", "COMMUNICATION_ERROR"),
    errors.HandlerError: ("EXECUTION_EXCEPTION", "EXECUTION_EXCEPTION"),
    errors.BadReply: ("EXECUTION_RESULT_ERROR", "EXECUTION_RESULT_ERROR"),
    errors.UnencodableBody: (None, None),
    errors.TooLarge: (None, None),
    errors.ForkedClientError: (None, None),
    errors.ClosedError: ("COMMUNICATION_ERROR", "COMMUNICATION_ERROR"),
}


@pytest.mark.parametrize("kind", list(every_error()))
def test_every_error_is_mapped(kind: type[ZbusError]) -> None:
    """By itself, or as one that is the caller's own; a new error has to be thought of."""
    assert kind in _CODES or issubclass(kind, errors.CallerError)
    codes = codes_of(kind)
    assert codes == RAISED or all(code in vars(ReturnCode).values() for code in codes)
    if issubclass(kind, errors.RequestError):
        assert codes != RAISED


@pytest.mark.parametrize(("kind", "codes"), list(MEANT.items()))
def test_codes(kind: type[ZbusError], codes: tuple[str | None, str | None]) -> None:
    """What the contract says about the ones that matter."""
    assert (code_of(kind()), code_of(kind(), modern=True)) == codes


def test_a_refusal_says_all() -> None:
    """Code, whether it ran, and the text with its remedy."""
    error = errors.TargetLost("it is gone", executed=Executed.MAYBE)
    reply = refusal(error)
    assert reply.get_return_code() == ReturnCode.COMMUNICATION_ERROR
    assert reply.get_header(ERROR_HEADER) == error.code
    assert reply.get_header(EXECUTED_HEADER) == "maybe"
    assert reply.get_header("__error__") == str(error)


def test_the_callers_own_is_raised() -> None:
    """It is no reply in any era."""
    error = errors.UnencodableBody()
    for modern in (False, True):
        with pytest.raises(errors.UnencodableBody):
            refusal(error, modern=modern)
