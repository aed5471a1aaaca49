"""A server and two clients of one job, on the bus or on nvflare's own cells, behind one shape.

Rules of this room:

* On the bus the engines are ours, with the face of 2.3 and later, on a real broker in this process,
  in a job of their own for each case.
* On nvflare every line that sends, dispatches and receives is the released code's: its client's
  and server's engines, ``AuxRunner`` and cells. Left out is what starts a job around them.
* Each package is imported only when it is asked for, in an interpreter that has it.
"""

from __future__ import annotations

import functools
import itertools
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__all__ = ["CLIENTS", "Sites", "bus_sites", "cell_sites", "flare_sites", "here_broker"]

CLIENTS = ("site-1", "site-2")
BOUND_S = 20.0
_numbers = itertools.count(1)
_made: list[Sites] = []


class Sites:
    """The engines of one job, and how to use them whichever package they are of."""

    def __init__(self, api: Any, job: str, server: Any, clients: dict[str, Any]) -> None:
        self.api = api
        self.job = job
        self.server = server
        self.clients = clients
        self.client = clients["site-1"]
        self.heard: list[Any] = []

    @property
    def runner(self) -> Any:
        """What dispatches at the server."""
        return getattr(self.server, "run_manager", self.server).aux_runner

    def serve(self, topic: str, handler: Any = None, at: Any = None) -> None:
        """Register a handler at the server, or at another engine; by default one that notes the
        topic and ``n`` of what comes, and says OK."""
        (at or self.server).register_aux_message_handler(topic, handler or self.note)

    def note(self, topic: str, request: Any, fl_ctx: Any) -> Any:
        """A handler."""
        self.heard.append((topic, request.get("n")))
        return self.api.make_reply("OK")

    def request(self, number: Any = 1) -> Any:
        """One that ``note`` can tell from others."""
        request = self.api.Shareable()
        request["n"] = number
        return request

    def ask(self, **changed: Any) -> Any:
        """Send from site-1; what came back, with the codes where it is a dict."""
        return self.codes(self.replies(**changed))

    def replies(self, **changed: Any) -> Any:
        """The same as it is."""
        sender = changed.pop("sender", self.client)
        whole = {
            "targets": None,
            "topic": "t",
            "request": self.request(),
            "timeout": BOUND_S,
            "fl_ctx": sender.new_context(),
        }
        return sender.send_aux_request(**{**whole, **changed})

    def codes(self, replies: Any) -> Any:
        """The return code of each entry."""
        if not isinstance(replies, dict):
            return replies
        return {name: reply.get_return_code() for name, reply in sorted(replies.items())}

    def dispatched(self, topic: str, request: Any) -> Any:
        """The reply to what comes in at the server."""
        return self.runner.dispatch(topic=topic, request=request, fl_ctx=self.server.new_context())

    def letter(self, **props: Any) -> Any:
        """A request as it comes in from site-1, or with other public props."""
        request = self.request()
        request.set_peer_props({"__identity_name__": "site-1", "__run_num__": self.job, **props})
        return request

    def listen(self, component: Any) -> None:
        """Let a component hear the events of site-1."""
        client = self.client
        if hasattr(client, "handlers"):
            client.handlers = [component]
        else:
            client.add_component("listener", component)

    def of_one_not_ready(self) -> Any:
        """What site-2 answers before its run has started."""
        raise NotImplementedError

    def hears(self, count: int) -> list[Any]:
        """What ``note`` has noted, once it is so many."""
        until(lambda: len(self.heard) >= count)
        return self.heard


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it has not come")
        time.sleep(0.005)


# -- on the bus ----------------------------------------------------------------------------


class _OnTheBus(Sites):
    def of_one_not_ready(self) -> Any:
        late = self.clients["site-2"]
        late.close(drain=0.0)
        fresh = type(late)("site-2", self.job, CLIENTS, endpoint=here_broker().frontend)
        self.clients["site-2"] = fresh
        return self.replies(targets="site-2", timeout=0.3)["site-2"]


@functools.cache
def here_broker() -> Any:
    """A broker in this process."""
    place = Path(tempfile.mkdtemp(prefix="zb"))
    return import_module("brokers").HereBroker(place).start()


@contextmanager
def bus_sites(api: Any, **options: Any) -> Iterator[Sites]:
    """On the bus; the server's and the clients' runs have started."""
    engine = import_module("zbus.engine")
    here, job = here_broker(), f"job-{next(_numbers)}"
    server = engine.ModernServerEngine(job, CLIENTS, endpoint=here.backend)
    clients = {
        name: engine.ModernClientEngine(name, job, CLIENTS, endpoint=here.frontend, **options)
        for name in CLIENTS
    }
    for each in (server, *clients.values()):
        each.start_run()
    try:
        yield _OnTheBus(api, job, server, clients)
    finally:
        for each in (*clients.values(), server):
            each.close(drain=0.0)


@contextmanager
def flare_sites(api: Any) -> Iterator[Sites]:
    """On the bus, with the engines that are subclasses of nvflare's own."""
    room = import_module("zbus.nvflare")
    here, job = here_broker(), f"flare-{next(_numbers)}"
    server = room.ServerEngine(job, CLIENTS, endpoint=here.backend)
    clients = {
        name: room.ClientEngine(name, job, CLIENTS, endpoint=here.frontend) for name in CLIENTS
    }
    try:
        yield _OnTheBus(api, job, server, clients)
    finally:
        for each in (*clients.values(), server):
            each.close(drain=0.0)


# -- on nvflare's cells --------------------------------------------------------------------


class _OnCells(Sites):
    def of_one_not_ready(self) -> Any:
        agent = self.clients["site-2"].agent
        admission = agent._callback_admission
        agent._callback_admission = SimpleNamespace(enter=lambda: False)
        try:
            return self.replies(targets="site-2")["site-2"]
        finally:
            agent._callback_admission = admission


@contextmanager
def cell_sites(api: Any) -> Iterator[Sites]:
    """On cells, which stay from case to case without their handlers."""
    if not _made:
        _made.append(_cells(api))
    (sites,) = _made
    sites.heard.clear()
    for each in (sites.runner, *(client.aux_runner for client in sites.clients.values())):
        each.topic_table.clear()
    yield sites


def _cells(api: Any) -> Sites:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    import_module("nvflare.apis.utils.decomposers.flare_decomposers").register()
    import_module("nvflare.app_common.decomposers.common_decomposers").register()
    root = _cell("server", url)
    server = _server("job-0", _cell("server.job-0", url, root.get_internal_listener_url()))
    clients = {name: _client(name, "job-0", _cell(f"{name}.job-0", url)) for name in CLIENTS}
    sites = _OnCells(api, "job-0", server, clients)
    for each in (server, *clients.values()):
        sites.serve("ready", at=each)
    everybody = dict.fromkeys(("server", *CLIENTS), "OK")
    for name, sender in {"server": server, **clients}.items():
        others = {each: said for each, said in everybody.items() if each != name}
        who = {"sender": sender, "targets": None if sender is server else "@ALL"}
        until(lambda: sites.ask(**who, topic="ready", timeout=1.0) == others)  # noqa: B023
    return sites


def _cell(fqcn: str, root: str, parent: str | None = None) -> Any:
    is_job = "." in fqcn
    cell = import_module("nvflare.fuel.f3.cellnet.cell").Cell(
        fqcn, root, False, {}, not is_job, parent
    )
    cell.start()
    return cell


def _contexts(engine: Any, name: str, job: str, kind: str) -> Any:
    constants = import_module("nvflare.apis.fl_constant")
    signal = import_module("nvflare.apis.signal").Signal()
    private = {
        constants.FLContextKey.PROCESS_TYPE: getattr(constants.ProcessType, kind),
        constants.FLContextKey.RUN_ABORT_SIGNAL: signal,
    }
    manager = import_module("nvflare.apis.fl_context").FLContextManager
    return manager(engine, name, job, {}, private)


def _roster() -> list[Any]:
    client = import_module("nvflare.apis.client").Client
    roster = [client(name, f"token-{name}") for name in CLIENTS]
    for each in roster:
        each.set_fqcn(each.name)
    return roster


def _client(name: str, job: str, cell: Any) -> Any:
    """nvflare's ClientRunManager, without the parent that makes one, and its command agent."""
    manager = import_module("nvflare.private.fed.client.client_run_manager").ClientRunManager
    engine = manager.__new__(manager)
    engine.cell, engine.handlers, engine.components, engine.conf = cell, [], {}, None
    engine.client = SimpleNamespace(client_name=name, cell=cell, push_results=_pushed)
    engine.all_clients = _roster()
    engine.name_to_clients = {each.name: each for each in engine.all_clients}
    engine.aux_runner = _aux_runner(engine)
    engine.fl_ctx_mgr = _contexts(engine, name, job, "CLIENT_JOB")
    engine.logger = engine.aux_runner.logger
    agent = import_module("nvflare.private.fed.client.command_agent").CommandAgent(engine.client)
    agent.start(engine.new_context())
    engine.agent = agent
    return engine


def _pushed(result: Any, fl_ctx: Any, timeout: float | None) -> str:
    """What the server's command makes of a result, and the code of the cell's reply to it."""
    room = import_module("nvflare.private.fed.server.server_commands")
    keys = import_module("nvflare.apis.fl_constant")
    result.set_header(keys.ServerCommandKey.FL_CLIENT, _roster()[0])
    result.set_peer_context(import_module("nvflare.apis.fl_context").FLContext())
    unknown = SimpleNamespace(process_submission=lambda *_: None)
    fl_ctx.set_prop(keys.FLContextKey.RUNNER, unknown, private=True, sticky=False)
    said = room.SubmitUpdateCommand().process(result, fl_ctx)
    return "ok" if said == "" else "error"


def _server(job: str, cell: Any) -> Any:
    """nvflare's ServerEngine, with what it needs of its run manager and its clients."""
    room = import_module("nvflare.private.fed.server.server_engine")
    engine = room.ServerEngine.__new__(room.ServerEngine)
    fire = import_module("nvflare.private.event").fire_event
    contexts = _contexts(engine, "server", job, "SERVER_JOB")
    roster = _roster()
    engine.run_manager = SimpleNamespace(
        new_context=contexts.new_context,
        fire_event=lambda event_type, fl_ctx: fire(event_type, [], fl_ctx),
        cell=cell,
    )
    engine.run_manager.aux_runner = _aux_runner(engine)
    manager = import_module("nvflare.private.fed.server.client_manager").ClientManager()
    manager.clients = {each.token: each for each in roster}
    manager.name_to_clients = {each.name: each for each in roster}
    engine.client_manager = manager
    engine.logger = engine.run_manager.aux_runner.logger
    engine.initialize_comm(cell)
    return engine


def _aux_runner(engine: Any) -> Any:
    return import_module("nvflare.private.aux_runner").AuxRunner(engine)
