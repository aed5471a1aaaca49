"""What a handler of aux messages looks like, and how a send can end.

Rules of this room:

* Handlers are called with keywords, so their parameters have these names (contract 2.4).
"""

from __future__ import annotations

import enum

from zbus.engine.context import FLContext
from zbus.engine.shareable import Shareable

__all__ = ["MessageSendStatus", "aux_request_handle_func_signature"]


class MessageSendStatus(enum.Enum):
    """How the sending of a message ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    FAILURE = "failure"
    REPLY_ERROR = "reply_error"


def aux_request_handle_func_signature(
    topic: str, request: Shareable, fl_ctx: FLContext
) -> Shareable:
    """The form of a handler of aux messages; this one only shows it.

    ``fl_ctx`` is a new context whose peer context has the sender's public properties. What is
    returned is the reply.
    """
    raise NotImplementedError("this only shows the form of a handler")
