"""A job on a broker of this process: nvflare engines over the bus, for the tests of each room.

Rules of this room:

* It is imported only where nvflare is; a test file says so with ``pytest.importorskip``.
* Components that are shown to run are nvflare's own, unmodified.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from brokers import HereBroker, broker, until
from nvflare.apis.shareable import make_reply

from zbus.nvflare.client_engine import ClientEngine
from zbus.nvflare.job_engine import Equipment
from zbus.nvflare.server_engine import ServerEngine

JOB = "job-1"
SITES = ("site-1", "site-2", "site-3")


class Job:
    """A server and clients, all attached."""

    def __init__(self, here: HereBroker, stack: ExitStack) -> None:
        self.here = here
        self._stack = stack
        self.server: ServerEngine = None  # type: ignore[assignment]
        self.clients: dict[str, ClientEngine] = {}

    def add_server(self, equipment: Equipment | None = None) -> ServerEngine:
        """The server, with this equipment."""
        self.server = ServerEngine(JOB, SITES, endpoint=self.here.backend, equipment=equipment)
        self._stack.callback(self.server.close, drain=0.0)
        until(lambda: self.here.see(lambda daemon: daemon.broker.roster.topics()), "the topics")
        return self.server

    def add_client(self, site: str, equipment: Equipment | None = None) -> ClientEngine:
        """One client, with this equipment."""
        client = ClientEngine(site, JOB, SITES, endpoint=self.here.frontend, equipment=equipment)
        self._stack.callback(client.close, drain=0.0)
        self.clients[site] = client
        return client


@contextmanager
def bare_job(place: Path) -> Iterator[Job]:
    """A broker, to which engines are to be added."""
    with broker(place) as here, ExitStack() as stack:
        yield Job(here, stack)


@contextmanager
def job(place: Path) -> Iterator[Job]:
    """A job with a server and all clients, without components."""
    with bare_job(place) as made:
        made.add_server()
        for site in SITES:
            made.add_client(site)
        yield made


def noting(taken: list[Any]) -> Any:
    """A handler that keeps each request."""

    def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
        taken.append(request)
        return make_reply("OK")

    return handle


def sync_executor() -> Any:
    """The module of nvflare's SyncAlgorithmExecutor, which needs no torch; its package's
    ``__init__`` does, for its neighbours, so that is not run."""
    package = "nvflare.app_opt.p2p.executors"
    place = Path(import_module("nvflare.app_opt").__path__[0]) / "p2p" / "executors"
    bare = ModuleType(package)
    bare.__path__ = [str(place)]
    with mock.patch.dict(sys.modules, {package: bare}):
        return import_module(f"{package}.sync_executor")


def codes(replies: dict[str, Any]) -> dict[str, str]:
    """The return code of every entry."""
    return {name: str(reply.get_return_code()) for name, reply in replies.items()}
