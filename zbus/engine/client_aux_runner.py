"""Sending aux messages, as a client of the seed era does it.

Rules of this room (contract section 5):

* Arguments are looked at in one order, and wrong ones raise: topic, timeout, context, the
  context's engine, and last the request. What cannot be encoded raises at the caller, with and
  without a timeout (12.15).
* All that can happen on the way is a reply with a return code.
* A timeout is a finite number of seconds, not negative; an int will do, a bool will not (12.1).
  It is one deadline for the whole call (12.20). With 0 nobody waits, and OK is "accepted".
* Whoever is told RUN_MISMATCH about its own job aborts that job, and has the reply (12.6).
"""

from __future__ import annotations

import math
from typing import Any

from zbus.engine.aux_runner import BULK_TOPIC, AuxRunner
from zbus.engine.constants import ReturnCode
from zbus.engine.context import FLContext
from zbus.engine.letters import letter_of
from zbus.engine.outcomes import refusal
from zbus.engine.shareable import Shareable
from zbus.engine.spec import ClientEngineExecutorSpec
from zbus.engine.targets import Exchange
from zbus.errors import ZbusError

__all__ = ["ClientAuxRunner", "check_arguments", "check_request"]


class ClientAuxRunner(AuxRunner):
    """The handlers of a client's engine, and its way to the server."""

    _known: ClientEngineExecutorSpec | None = None
    """The engine that was looked at last; asking an ABC takes as long as all other checks."""

    def send_aux_request(
        self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> Shareable:
        """Ask the server through the context's engine, or tell it where the timeout is 0.

        Raises:
            TypeError, ValueError: the arguments are no request.
            CallerError: it could not be sent at all; ``UnencodableBody`` and ``TooLarge`` here.
        """
        check_arguments(topic, timeout, fl_ctx)
        if not timeout:
            check_request(request)
            return self._tell(topic, request, fl_ctx)
        engine = fl_ctx.get_engine()
        if engine is None or engine is not self._known:
            if not isinstance(engine, ClientEngineExecutorSpec):
                raise TypeError(
                    f"the engine must be a ClientEngineExecutorSpec, not {type(engine)}"
                )
            self._known = engine
        check_request(request)
        reply: Shareable = engine.aux_send(
            topic=topic, request=request, timeout=timeout, fl_ctx=fl_ctx
        )
        if reply.get_return_code() == ReturnCode.RUN_MISMATCH:
            self._leave(engine, fl_ctx)
        return reply

    def _tell(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        exchange: Exchange = self.engine.exchange  # type: ignore[attr-defined]
        letter = letter_of(request, topic, fl_ctx.get_all_public_props())
        outcome = exchange.tell_server(letter)
        return refusal(outcome) if isinstance(outcome, ZbusError) else outcome

    def _leave(self, engine: ClientEngineExecutorSpec, fl_ctx: FLContext) -> None:
        job_id = fl_ctx.get_job_id()
        self.log_error(fl_ctx, f"the server runs another job than {job_id!r}")
        if job_id == self.engine.job_id:
            engine.abort_app(job_id=job_id, fl_ctx=fl_ctx)


def check_arguments(topic: object, timeout: object, fl_ctx: object) -> None:
    """Refuse what is no topic, timeout or context, in this order.

    Raises:
        TypeError: the topic is no str, the timeout no number, the context no FLContext.
        ValueError: the topic is empty or reserved, the timeout not finite or negative.
    """
    if type(topic) is not str or not topic or topic == BULK_TOPIC:
        _check_topic(topic)
    if type(timeout) is not float or not 0.0 <= timeout < math.inf:
        _check_timeout(timeout)
    if not isinstance(fl_ctx, FLContext):
        raise TypeError(f"fl_ctx must be an FLContext, not {type(fl_ctx)}")


def check_request(request: object) -> None:
    """Refuse what is no request, with a TypeError (12.7)."""
    if not isinstance(request, Shareable):
        raise TypeError(f"request must be a Shareable, not {type(request)}")


def _check_topic(topic: object) -> None:
    """Refuse what is no topic: TypeError where it is no str, ValueError where it cannot be."""
    if not isinstance(topic, str):
        raise TypeError(f"topic must be a str, not {type(topic)}")
    if not topic:
        raise ValueError("topic must not be empty")
    if topic == BULK_TOPIC:
        raise ValueError(f"topic {topic!r} is reserved")


def _check_timeout(timeout: Any) -> None:
    """Refuse what is no timeout: TypeError for what is no number, ValueError for a wrong one."""
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r:.80}")
    if not timeout >= 0 or (isinstance(timeout, float) and math.isinf(timeout)):
        raise ValueError(f"timeout must be finite and not negative, not {timeout!r:.80}")
