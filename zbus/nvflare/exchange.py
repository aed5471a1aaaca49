"""Targets to outcomes: the one call under every way to send that nvflare has.

Rules:

* The answer has an entry for every target, whatever happened to it (contract 13, rows 3 and 12);
  why nobody replied stands in the header ``__error__``.
* ``timeout`` is one deadline for the whole call (contract 13, row 5). A run's abort signal ends
  it earlier: what is open is cancelled, and its code is TASK_ABORTED.
* Arguments that cannot be meant raise, as does what cannot be encoded; the caller's Shareable is
  encoded before anything is sent, and not kept.
* Fire-and-forget is answered at once: OK is "accepted", SERVICE_UNAVAILABLE "the bound is
  reached". To the server it takes the push lane, to all others the ``Courier``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, wait
from typing import Any

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply

from zbus.engine.courier import Courier
from zbus.errors import Backpressure, ZbusError
from zbus.nvflare.messages import code_of, decode_reply, encode, refusal
from zbus.nvflare.targets import Target
from zbus.peer.peer import Peer, Reply

__all__ = ["Exchange"]

_logger = logging.getLogger("zbus.nvflare")
_LOOK_S = 0.05
"""How often to look at the abort signal, which cannot be waited for."""


class Exchange:
    """Sends aux requests of one job, for any number of threads."""

    def __init__(self, peer: Peer, topic: str, server: str) -> None:
        self._peer = peer
        self._topic = topic
        self._server = server
        self._courier: Courier[bytes] = Courier(peer, topic, len, log=_logger)

    @property
    def dropped(self) -> int:
        """Fire-and-forget requests to peers other than the server that were not delivered."""
        return self._courier.dropped

    def send(
        self, topic: str, requests: Mapping[Target, Any], timeout: float, fl_ctx: Any
    ) -> dict[str, Any]:
        """Send each target its request: ``{name: reply}``, with an entry for each.

        Raises:
            TypeError, ValueError: the arguments are no request.
            CallerError: it could not be sent at all; ``UnencodableBody`` and ``TooLarge`` here.
        """
        _check(topic, timeout, fl_ctx)
        props = fl_ctx.get_all_public_props()
        headers = {ReservedHeaderKey.TOPIC: topic}
        letters: dict[int, bytes] = {}
        for name, request in requests.items():
            if not isinstance(request, Shareable):
                raise TypeError(f"request of {name.name} must be Shareable but got {type(request)}")
            if id(request) not in letters:
                letters[id(request)] = encode(request, headers, props)
        mail = {target: letters[id(request)] for target, request in requests.items()}
        if timeout == 0:
            return {target.name: self._fire(target, letter) for target, letter in mail.items()}
        return self._ask(mail, timeout, fl_ctx.get_run_abort_signal())

    def flush(self, timeout_s: float) -> int:
        """Wait until all fire-and-forget requests are settled; how many are not."""
        deadline = time.monotonic() + timeout_s
        left = self._courier.flush(timeout_s)
        return left + self._peer.flush(timeout=max(deadline - time.monotonic(), 0.001))

    def _fire(self, target: Target, letter: bytes) -> Any:
        if target.address is None:
            return _unknown(target)
        try:
            if target.address == self._server:
                self._peer.push(self._topic, letter)
            else:
                self._courier.accept(target.address, letter)
        except Backpressure as error:
            return refusal(ReturnCode.SERVICE_UNAVAILABLE, str(error))
        return make_reply(ReturnCode.OK)

    def _ask(self, mail: Mapping[Target, bytes], timeout: float, signal: Any) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        asked: dict[Target, Reply | None] = {}
        try:
            for target, letter in mail.items():
                asked[target] = self._submit(target, letter, deadline)
            _wait([reply for reply in asked.values() if reply is not None], signal)
        except BaseException:
            for reply in asked.values():
                if reply is not None:
                    reply.cancel()
            raise
        return {target.name: _outcome(target, reply) for target, reply in asked.items()}

    def _submit(self, target: Target, letter: bytes, deadline: float) -> Reply | None:
        if target.address is None:
            return None
        left_s = max(deadline - time.monotonic(), 0.001)
        return self._peer.submit(self._topic, letter, timeout=left_s, to=target.address)


def _wait(replies: list[Reply], signal: Any) -> None:
    pending = set(replies)
    while pending:
        if signal is not None and signal.triggered:
            for reply in pending:
                reply.cancel()
            return
        done, _ = wait(pending, None if signal is None else _LOOK_S)
        pending = {reply for reply in pending if reply not in done}


def _outcome(target: Target, reply: Reply | None) -> Any:
    if reply is None:
        return _unknown(target)
    try:
        return decode_reply(reply.result())
    except CancelledError:
        return refusal(ReturnCode.TASK_ABORTED, "the run was aborted")
    except ZbusError as error:
        return refusal(code_of(error), str(error))


def _unknown(target: Target) -> Any:
    return refusal(ReturnCode.COMMUNICATION_ERROR, f"no site of this job is called {target.name!r}")


def _check(topic: object, timeout: object, fl_ctx: object) -> None:
    if not isinstance(topic, str):
        raise TypeError(f"topic must be str but got {type(topic)}")
    if not topic:
        raise ValueError("topic must not be empty")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds but got {type(timeout)}")
    if not (timeout >= 0 and math.isfinite(timeout)):
        raise ValueError(f"timeout must be finite and not negative but got {timeout}")
    if not isinstance(fl_ctx, FLContext):
        raise TypeError(f"fl_ctx must be FLContext but got {type(fl_ctx)}")
