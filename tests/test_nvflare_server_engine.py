"""The server's engine, nvflare's ServerEngineSpec over the bus: all of it, with its own names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from flare_job import SITES, Job, bare_job, codes
from nvflare.apis.client import Client
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_snapshot import RunSnapshot
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.apis.shareable import Shareable, make_reply

from zbus.nvflare.job_engine import Equipment
from zbus.nvflare.server_engine import ServerEngine

pytestmark = pytest.mark.real


@pytest.fixture
def flare(tmp_path: Path) -> Iterator[Job]:
    with bare_job(tmp_path) as made:
        yield made


def test_it_is_the_spec_whole() -> None:
    """A real subclass with every abstract method, and nvflare's parameter names in its order."""
    assert issubclass(ServerEngine, ServerEngineSpec)
    abstract = ServerEngineSpec.__abstractmethods__
    assert len(abstract) == 19
    for name in (*abstract, "fire_and_forget_aux_request"):
        theirs = list(inspect.signature(getattr(ServerEngineSpec, name)).parameters)
        assert list(inspect.signature(getattr(ServerEngine, name)).parameters) == theirs, name


def test_all_clients_and_fire_and_forget(flare: Job) -> None:
    """No targets are all clients; the spec's own fire-and-forget works on top."""
    server = flare.add_server()
    for site in SITES[:2]:
        client = flare.add_client(site)
        client.register_aux_message_handler("t", lambda topic, request, fl_ctx: make_reply("OK"))
    with server.new_context() as fl_ctx:
        replies = server.send_aux_request([], "t", Shareable(), 5.0, fl_ctx)
        fired = server.fire_and_forget_aux_request(list(SITES[:2]), "t", Shareable(), fl_ctx)
        with pytest.raises(TypeError):
            server.send_aux_request("site-1", "t", Shareable(), 5.0, fl_ctx)
    assert codes(replies) == {"site-1": "OK", "site-2": "OK", "site-3": "COMMUNICATION_ERROR"}
    assert codes(fired) == {"site-1": "OK", "site-2": "OK"}


def test_clients_and_tokens(tmp_path: Path) -> None:
    """Clients by name and by token; an unknown token is the empty name."""
    with bare_job(tmp_path) as made:
        clients = [Client("site-1", "abc"), "site-2"]
        server = ServerEngine("job-1", clients, endpoint=made.here.backend)
        try:
            assert [each.name for each in server.get_clients()] == ["site-1", "site-2"]
            assert server.sync_clients_from_main_process() == server.get_clients()
            assert server.validate_targets(["site-1", "x"]) == ([clients[0]], ["x"])
            assert server.get_client_name_from_token("abc") == "site-1"
            assert server.get_client_name_from_token("") == ""
            assert server.get_client_name_from_token("else") == ""
        finally:
            server.close(drain=0.0)


class Remembering(FLComponent):
    """Takes its state back."""

    state: Any = None

    def restore(self, state_data: Any, fl_ctx: Any) -> None:
        self.state = state_data


def test_components_are_restored(flare: Job) -> None:
    """Each gets its own part; what is no snapshot is refused."""
    component = Remembering()
    server = flare.add_server(Equipment(components={"c": component}))
    snapshot = RunSnapshot("job-1")
    snapshot.set_component_snapshot("c", {"round": 4})
    with server.new_context() as fl_ctx:
        server.persist_components(fl_ctx, completed=True)
        server.restore_components(snapshot, fl_ctx)
        with pytest.raises(TypeError):
            server.restore_components({}, fl_ctx)
    assert component.state == {"round": 4}


def test_the_parents_business_says_so(flare: Job) -> None:
    """Starting jobs and reserving resources raise; they are not silently nothing."""
    server = flare.add_server()
    with server.new_context() as fl_ctx:
        calls: tuple[Callable[[], object], ...] = (
            server.update_job_run_status,
            lambda: server.start_client_job(None, [], fl_ctx),
            lambda: server.check_client_resources(None, {}, fl_ctx),
            lambda: server.cancel_client_resources({}, {}, fl_ctx),
        )
        for call in calls:
            with pytest.raises(NotImplementedError, match="parent process"):
                call()
