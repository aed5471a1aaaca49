"""The server's half of the job that goes astray, in the process of the story: has it aborted.

Rules of this room:

* First it is seen that the handler does not answer; nothing else is worth an abort.
* The job is asked to end by its own engine of the server, over the bus. What follows if that does
  not help is for ``zbus.engine.children``.
"""

from __future__ import annotations

import functools
import time

from zbus.demo.cast import Cast
from zbus.demo.events import Aborted
from zbus.demo.plan import SPIN, STRAY, STRAY_JOB
from zbus.demo.witness import Witness, WitnessedServer, end_of
from zbus.engine.bus import attach_to
from zbus.engine.constants import ReturnCode
from zbus.engine.context import FLContext
from zbus.engine.outcomes import EXECUTED_HEADER
from zbus.engine.shareable import Shareable
from zbus.errors import Executed

__all__ = ["put_an_end_to"]

_PATIENCE_S = 0.25
"""How long the handler may take. It would take for ever."""
_START_S = 20.0
"""How long the engine may take to be there."""
_LOOK_S = 0.02


def put_an_end_to(cast: Cast, witness: Witness) -> Aborted:
    """Ask the stray job's handler, in vain, and abort the job.

    Raises:
        DemoFailed: its engine does not attach, or is still there after the abort.
    """
    pid = cast.parts[STRAY].pid
    server = WitnessedServer(witness, STRAY_JOB, (STRAY,), attach=attach_to(cast.backend, "server"))
    try:
        answer = _asked(cast, server)
        report = cast.abort(STRAY, STRAY_JOB, functools.partial(_ask_to_end, server))
    finally:
        server.close(drain=0.0)
    return Aborted(
        job=STRAY_JOB,
        pid=pid,
        answer=answer,
        step=report.step.value,
        ending=str(report.ending),
        took_ms=round(report.took_ms, 3),
    )


def _asked(cast: Cast, server: WitnessedServer) -> str:
    """How the request to the handler ended, once there was somebody to ask."""
    end, fl_ctx = time.monotonic() + _START_S, server.new_context()
    while True:
        reply = _ask_once(server, fl_ctx)
        if reply.get_header(EXECUTED_HEADER) != Executed.NO.value:
            return end_of(reply)
        cast.look()
        if time.monotonic() > end:
            cast.fail(STRAY, f"is not on the bus after {_START_S:g} s")
        time.sleep(_LOOK_S)


def _ask_once(server: WitnessedServer, fl_ctx: FLContext) -> Shareable:
    replies = server.send_aux_request(
        targets=[STRAY], topic=SPIN, request=Shareable(), timeout=_PATIENCE_S, fl_ctx=fl_ctx
    )
    return replies[STRAY]


def _ask_to_end(server: WitnessedServer, grace_s: float) -> None:
    """Raises ``RuntimeError`` where the engine does not confirm it."""
    reply = server.abort_clients(timeout=grace_s)[STRAY]
    if reply.get_return_code() != ReturnCode.OK:
        raise RuntimeError(end_of(reply))
