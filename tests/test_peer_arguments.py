"""What callers give is taken, cut or refused before anything is sent: zbus/peer/arguments.py."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import ConfigError, InvalidName, InvalidTimeout
from zbus.peer.arguments import (
    TIMEOUT_MAX_S,
    TRACE_MAX,
    check_limits,
    check_options,
    check_trace,
    deadline_of,
    one_of,
    seconds_of,
)
from zbus.protocol.codec import decode, encode
from zbus.protocol.message import Parcel, Request
from zbus.protocol.session import SessionLimits

NO_NUMBERS: list[Any] = [True, False, None, "1", b"1", [1], 1j, Decimal(1), object()]


@given(timeout=st.floats(min_value=1e-6, max_value=1e8) | st.integers(1, 10**8))
def test_a_timeout_is_an_instant_so_far_away(timeout: float) -> None:
    """By the monotonic clock, and counted from now."""
    before = time.monotonic()
    deadline = deadline_of(timeout)
    assert before + timeout <= deadline <= time.monotonic() + timeout


@given(timeout=st.floats(min_value=1e9, allow_infinity=False) | st.integers(min_value=10**9))
def test_a_very_long_timeout_is_cut(timeout: float) -> None:
    """Thirty years are enough, and a float or the kernel can say them."""
    assert deadline_of(timeout) <= time.monotonic() + TIMEOUT_MAX_S


@pytest.mark.parametrize("timeout", [*NO_NUMBERS, math.nan, math.inf, -math.inf, 0, 0.0, -1, -1e-9])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    """Nothing is sent, and the error names the value."""
    with pytest.raises(InvalidTimeout, match="timeout"):
        deadline_of(timeout)


def test_an_endless_value_is_not_quoted_whole() -> None:
    """An error stays short."""
    with pytest.raises(InvalidTimeout) as caught:
        deadline_of("1" * 10_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_seconds_are_never_less_than_none(value: float) -> None:
    """A drain may be zero; what is below that is zero, too."""
    assert seconds_of(value, "drain") == min(max(value, 0), TIMEOUT_MAX_S)


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan, math.inf, -math.inf])
def test_seconds_are_a_finite_number(value: Any) -> None:
    """The error says of what."""
    with pytest.raises(InvalidTimeout, match="drain"):
        seconds_of(value, "drain")


@given(trace=st.one_of(st.text(max_size=80), st.none(), st.integers(), st.binary(max_size=10)))
def test_a_trace_is_what_a_request_can_say(trace: Any) -> None:
    """What is not refused travels; the broker would send the whole peer away for the rest."""
    try:
        check_trace(trace)
    except InvalidName:
        assert not isinstance(trace, str) or len(trace) > TRACE_MAX or not trace.isascii()
        return
    request = Request("a", 1, 1, "b", "", 1, 0, 1, (), trace, b"", 0)
    assert decode(encode([Parcel(request)])) == [Parcel(request)]


@pytest.mark.parametrize("name", [field.name for field in fields(SessionLimits)])
@pytest.mark.parametrize("value", [0, -1, True, "8", 1.5, None])
def test_a_limit_that_nothing_could_keep_is_refused(name: str, value: Any) -> None:
    """By its name; one and more are taken."""
    check_limits(replace(SessionLimits(), **{name: 1}))
    with pytest.raises(ConfigError, match=rf"limits\.{name}"):
        check_limits(replace(SessionLimits(), **{name: value}))


@given(word=st.text(max_size=8) | st.none() | st.integers() | st.lists(st.none(), max_size=1))
def test_a_word_is_one_of_those_it_may_be(word: Any) -> None:
    """A slip of the pen is an error that lists them, and never the other meaning."""
    values = {"raise": 0, "wait": 4}
    if isinstance(word, str) and word in values:
        assert one_of(values, word, "unserved") == values[word]
        return
    with pytest.raises(InvalidName, match=r"unserved .* is none of raise, wait"):
        one_of(values, word, "unserved")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, None),
        ({"trace": "00-abc-def-01", "progress": print}, None),
        ({"progress": None}, None),
        ({"trace": 7}, InvalidName),
        ({"progress": 7}, TypeError),
        ({"hurry": True}, TypeError),
    ],
)
def test_options_of_a_request_are_few(options: Any, error: type[Exception] | None) -> None:
    """A trace context, and who is told how far it is; all else is no argument."""
    with nullcontext() if error is None else pytest.raises(error):
        check_options(options)
