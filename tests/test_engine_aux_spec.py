"""The form of handlers is what handlers are called with."""

from __future__ import annotations

import inspect

import pytest

from zbus.engine.aux_spec import MessageSendStatus, aux_request_handle_func_signature
from zbus.engine.context import FLContext
from zbus.engine.shareable import Shareable


def test_the_parameters_are_the_keywords() -> None:
    """Names and order are contract."""
    names = list(inspect.signature(aux_request_handle_func_signature).parameters)
    assert names == ["topic", "request", "fl_ctx"]


def test_it_is_no_handler_itself() -> None:
    """Whoever registers it by mistake hears of it."""
    with pytest.raises(NotImplementedError):
        aux_request_handle_func_signature(topic="a", request=Shareable(), fl_ctx=FLContext())


def test_the_ways_a_send_can_end() -> None:
    """Four, with these values."""
    assert [one.value for one in MessageSendStatus] == ["ok", "timeout", "failure", "reply_error"]
