"""The AuxRunner of nvflare, whose registration and dispatch stay, on the bus instead of a cell.

Rules:

* Handlers are registered and called by nvflare's code: by keyword, with the sender's context as
  peer context, cookies copied into the reply (contract section 4).
* Whatever a handler does, there is a reply: HANDLER_EXCEPTION for all that it raises, SystemExit
  too (contract 12, row 3), ERROR for what is no Shareable (13, row 10).
* The broker vouches for the sender, so a client that calls itself by another name in its props
  is answered BAD_PEER_CONTEXT, and no handler runs.
* Sending goes through the engine's ``Exchange``; so those who are given this runner need no cell.
"""

from __future__ import annotations

import logging
from typing import Any

from nvflare.apis.fl_constant import ReservedKey, ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.private.aux_runner import AuxMsgTarget, AuxRunner

from zbus.errors import Malformed
from zbus.nvflare.exchange import Exchange
from zbus.nvflare.messages import decode, encode_reply
from zbus.nvflare.targets import Directory, Target
from zbus.peer.dispatcher import Incoming

__all__ = ["BusAuxRunner"]

_logger = logging.getLogger("zbus.nvflare")


class BusAuxRunner(AuxRunner):
    """Handlers of one engine, and the way out for nvflare's own users of an AuxRunner."""

    def __init__(self, engine: Any, directory: Directory) -> None:
        super().__init__(engine)
        self._directory = directory

    def serve(self, body: object, request: Incoming) -> bytes | None:
        """A request, a push, or a batch of fire-and-forget requests from the bus."""
        if isinstance(body, list):
            for letter in body:
                self._answer(letter, request.source)
            return None
        reply, fl_ctx = self._answer(body, request.source)
        if request.is_push:
            return None
        return encode_reply(reply, fl_ctx.get_all_public_props())

    def _answer(self, letter: object, source: str) -> tuple[Any, Any]:
        with self.engine.new_context() as fl_ctx:
            try:
                shareable = decode(letter)
            except Malformed as error:
                _logger.warning("a request of %s: %s", source, error)
                return make_reply(ReturnCode.BAD_REQUEST_DATA), fl_ctx
            props = shareable.get_peer_props()
            if props and not self._is_credible(props, source):
                return make_reply(ReturnCode.BAD_PEER_CONTEXT), fl_ctx
            topic = shareable.get_header(ReservedHeaderKey.TOPIC)
            return self.dispatch(topic=topic, request=shareable, fl_ctx=fl_ctx), fl_ctx

    def _is_credible(self, props: object, source: str) -> bool:
        client = self._directory.client_at(source)
        if not isinstance(props, dict):
            return False
        named = props.get(ReservedKey.IDENTITY_NAME)
        return client is None or named is None or named == client.name

    def _process_request(self, topic: str, request: Any, fl_ctx: Any) -> Any:
        try:
            reply = super()._process_request(topic, request, fl_ctx)
        except BaseException:  # noqa: BLE001 - SystemExit; a handler's end is no end of ours
            self.log_exception(fl_ctx, "a handler wanted to end the process")
            return make_reply(ReturnCode.HANDLER_EXCEPTION)
        if isinstance(reply, Shareable):
            return reply
        self.log_error(fl_ctx, f"the handler of {topic} returned {type(reply)}, no Shareable")
        return make_reply(ReturnCode.ERROR)

    # -- sending -------------------------------------------------------------------------------

    def send_aux_request(
        self, targets: Any, topic: str, request: Any, timeout: float, fl_ctx: Any, **_: bool
    ) -> dict[str, Any]:
        """For nvflare's components that hold the runner, such as its ObjectStreamer."""
        requests = {self._target(each): request for each in targets}
        exchange: Exchange = self.engine.exchange
        return exchange.send(topic, requests, timeout, fl_ctx)

    def multicast_aux_requests(
        self, topic: str, target_requests: Any, timeout: float, fl_ctx: Any, **_: bool
    ) -> dict[str, Any]:
        """The same with a request for each."""
        requests = {self._target(each): request for each, request in target_requests}
        exchange: Exchange = self.engine.exchange
        return exchange.send(topic, requests, timeout, fl_ctx)

    def _target(self, target: AuxMsgTarget) -> Target:
        if not target.job_scoped:
            return Target(target.name, target.fqcn)
        return self._directory.named(target.name)
