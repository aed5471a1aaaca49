"""One process with nvflare's own Cell and AuxRunner, told by lines of JSON what to do.

Started by ``python flare_cell.py FQCN ROOT_URL [PARENT_URL]`` in a directory that holds nothing
else, because nvflare searches it for configuration. It serves the aux topic ``echo``.

Each line it reads is answered by one line: ``{"ask": N}`` and ``{"fire": N}`` send to the job's
server, ``{"flood": S}`` fires for so long, ``{"count": true}`` says how many requests were
handled, ``{"time": {...}}`` measures. ``{"event": "lost", "fqcn": ...}`` comes by itself. It ends
with its input.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import threading
import time
from typing import Any

from nvflare.apis.fl_constant import ProcessType
from nvflare.apis.fl_context import FLContextManager
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
from nvflare.fuel.f3.message import Message
from nvflare.private.aux_runner import AuxMsgTarget, AuxRunner
from nvflare.private.defs import CellChannel

__all__ = ["FlareCell"]

_TIMEOUT_S = 10.0
_BODY = os.urandom(128)
_WARM_UP = 50
_KINDS = {
    (True, True): ProcessType.SERVER_JOB,
    (True, False): ProcessType.SERVER_PARENT,
    (False, True): ProcessType.CLIENT_JOB,
    (False, False): ProcessType.CLIENT_PARENT,
}
"""By whether it is the server's, and whether it is a job's."""


class FlareCell:
    """What AuxRunner needs of an engine, over a real cell."""

    def __init__(self, fqcn: str, root_url: str, parent_url: str | None) -> None:
        site, _, job = fqcn.partition(".")
        kind = _KINDS[site == "server", bool(job)]
        self.handled = 0
        self.aux_runner = AuxRunner(self)
        self.aux_runner.register_aux_message_handler("echo", self._echo)
        self._contexts = FLContextManager(self, site, job, None, {"__process_type__": kind})
        self.cell = Cell(fqcn, root_url, False, {}, not job, parent_url)
        self.cell.core_cell.set_cell_connected_cb(lambda agent: _tell("found", agent.get_fqcn()))
        self.cell.core_cell.set_cell_disconnected_cb(lambda agent: _tell("lost", agent.get_fqcn()))
        # By keyword: Cell looks there for the channel.
        self.cell.register_request_cb(
            channel=CellChannel.AUX_COMMUNICATION, topic="*", cb=self._received
        )
        self.cell.start()

    def get_cell(self) -> Any:
        """For AuxRunner."""
        return self.cell

    def new_context(self) -> Any:
        """For AuxRunner."""
        return self._contexts.new_context()

    def fire_event(self, event_type: str, fl_ctx: Any) -> None:
        """For AuxRunner, which tells of what it logs."""

    def send(self, timeout_s: float, fl_ctx: Any) -> Any:
        """One aux request to the job's server; its return code, None where nobody replied."""
        request = Shareable()
        request["body"] = _BODY
        targets = [AuxMsgTarget.server_target()]
        replies = self.aux_runner.send_aux_request(targets, "echo", request, timeout_s, fl_ctx)
        return {name: str(reply.get_return_code()) for name, reply in replies.items()}

    def _echo(self, topic: str, request: Any, fl_ctx: Any) -> Any:
        self.handled += 1
        return make_reply("OK")

    def _received(self, request: Any) -> Any:
        topic = request.get_header(MessageHeaderKey.TOPIC)
        with self.new_context() as fl_ctx:
            reply = self.aux_runner.dispatch(topic, request.payload, fl_ctx)
        return Message(payload=reply)

    # -- what it is told to do -----------------------------------------------------------------

    def obey(self, order: dict[str, Any]) -> Any:
        """The answer to one line."""
        with self.new_context() as fl_ctx:
            if "ask" in order:
                return [self.send(_TIMEOUT_S, fl_ctx) for _ in range(order["ask"])]
            if "fire" in order:
                return [self.send(0.0, fl_ctx) for _ in range(order["fire"])]
            if "flood" in order:
                return self._flood(time.monotonic() + order["flood"], fl_ctx)
            if "time" in order:
                return self._measured(**order["time"])
        return {"handled": self.handled, "listener": self.cell.get_internal_listener_url()}

    def _flood(self, until: float, fl_ctx: Any) -> int:
        sent = 0
        while time.monotonic() < until:
            self.send(0.0, fl_ctx)
            sent += 1
        return sent

    def _measured(self, requests: int, window_s: float) -> dict[str, float]:
        with self.new_context() as fl_ctx:
            for _ in range(_WARM_UP):
                self._timed(fl_ctx)
            every = sorted(self._timed(fl_ctx) for _ in range(requests))
        return {
            "p50_us": round(statistics.median(every) * 1e6),
            "p99_us": round(every[int(len(every) * 0.99)] * 1e6),
            "requests_per_s_1_thread": self._rate(1, window_s),
            "requests_per_s_8_threads": self._rate(8, window_s),
        }

    def _timed(self, fl_ctx: Any) -> float:
        began = time.perf_counter()
        codes = self.send(_TIMEOUT_S, fl_ctx)
        assert codes == {"server": "OK"}, codes
        return time.perf_counter() - began

    def _rate(self, threads: int, window_s: float) -> float:
        done = [0] * threads
        until = time.monotonic() + window_s

        def ask(number: int) -> None:
            with self.new_context() as fl_ctx:
                while time.monotonic() < until:
                    self._timed(fl_ctx)
                    done[number] += 1

        workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return round(sum(done) / window_s, 1)


def _tell(event: str, fqcn: str) -> None:
    _say({"event": event, "fqcn": fqcn})


def _say(line: dict[str, Any]) -> None:
    # In one piece, since events come from other threads.
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Serve, and obey the lines on the standard input."""
    logging.disable(logging.CRITICAL)
    flare_decomposers.register()
    fqcn, root_url, *parent = sys.argv[1:]
    site = FlareCell(fqcn, root_url, parent[0] if parent else None)
    _say(site.obey({}))
    for line in sys.stdin:
        _say({"answer": site.obey(json.loads(line))})
    site.cell.stop()
    # nvflare leaves threads behind that would keep the process.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
