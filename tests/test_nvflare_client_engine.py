"""The client's engine: nvflare's ClientEngineExecutorSpec, all of it, with its own names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import until

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from flare_job import JOB, SITES, Job, bare_job
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.shareable import Shareable
from nvflare.private.fed.client.client_engine_executor_spec import ClientEngineExecutorSpec

from zbus.errors import ClosedError, Superseded, UnencodableBody
from zbus.nvflare.builder import AllowedBuilder
from zbus.nvflare.client_engine import ClientEngine
from zbus.nvflare.job_engine import Equipment

pytestmark = pytest.mark.real


@pytest.fixture
def flare(tmp_path: Path) -> Iterator[Job]:
    with bare_job(tmp_path) as made:
        yield made


def test_it_is_the_spec_whole(flare: Job) -> None:
    """A real subclass with every abstract method, and nvflare's parameter names in its order."""
    assert issubclass(ClientEngine, ClientEngineExecutorSpec)
    abstract = ClientEngineExecutorSpec.__abstractmethods__
    assert len(abstract) == 17
    for name in abstract:
        theirs = list(inspect.signature(getattr(ClientEngineExecutorSpec, name)).parameters)
        assert list(inspect.signature(getattr(ClientEngine, name)).parameters) == theirs, name
    assert flare.add_client("site-1").get_cell() is None  # type: ignore[func-returns-value]


class Tasks:
    """What nvflare's ServerRunner offers its engine."""

    def __init__(self) -> None:
        self.results: list[tuple[Any, ...]] = []

    def process_task_request(self, client: Any, fl_ctx: Any) -> tuple[str, str, Any]:
        assert fl_ctx.get_peer_context().get_identity_name() == client.name
        return "train", f"id-{client.name}", Shareable({"round": 3})

    def process_submission(
        self, client: Any, task_name: str, task_id: str, result: Any, fl_ctx: Any
    ) -> None:
        self.results.append((client.name, task_name, task_id, result["loss"]))


def test_tasks_come_and_results_go(flare: Job) -> None:
    """The server's task source is asked in the client's name, and is given the result."""
    tasks = Tasks()
    flare.add_server(Equipment(tasks=tasks))
    client = flare.add_client("site-2")
    with client.new_context() as fl_ctx:
        task = client.get_task_assignment(fl_ctx)
        assert (task.name, task.task_id, task.data["round"]) == ("train", "id-site-2", 3)
        result = Shareable({"loss": 0.5})
        result.set_header("__task_name__", task.name)
        result.set_header("__task_id__", task.task_id)
        assert client.send_task_result(result, fl_ctx, timeout=5.0) is True
    assert tasks.results == [("site-2", "train", "id-site-2", 0.5)]


def test_without_tasks(flare: Job) -> None:
    """No server is None and False; a server without task source says to try again."""
    client = flare.add_client("site-1")
    with client.new_context() as fl_ctx:
        assert client.get_task_assignment(fl_ctx, timeout=0.3) is None
        assert client.send_task_result(Shareable(), fl_ctx, timeout=0.3) is False
        flare.add_server()
        assert client.get_task_assignment(fl_ctx, timeout=5.0).name == "__try_again__"
        assert client.send_task_result(Shareable(), fl_ctx, timeout=5.0) is False
        with pytest.raises(UnencodableBody):
            client.send_task_result(Shareable({"x": iter(())}), fl_ctx)


class Runner:
    """Something that can be aborted."""

    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_abort_is_for_its_own_job(flare: Job) -> None:
    """Another job's id raises and aborts nothing (contract 12, row 22)."""
    client, runner = flare.add_client("site-1"), Runner()
    with client.new_context() as fl_ctx:
        fl_ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
        with pytest.raises(ValueError, match="job-2"):
            client.abort_app("job-2", fl_ctx)
        assert (runner.aborted, client.abort_signal.triggered) == (0, False)
        client.abort_app(JOB, fl_ctx)
        assert (runner.aborted, client.abort_signal.triggered) == (1, True)
        assert fl_ctx.get_run_abort_signal().triggered


def test_components_are_built_by_the_builder(flare: Job) -> None:
    """And without one the error says what to give."""
    config = {"path": "nvflare.app_common.widgets.intime_model_selector.IntimeModelSelector"}
    plain = flare.add_client("site-1")
    with pytest.raises(RuntimeError, match="builder"):
        plain.build_component(config)
    able = flare.add_client("site-2", Equipment(builder=AllowedBuilder()))
    assert type(able.build_component(config)).__name__ == "IntimeModelSelector"


def test_targets_and_clients(flare: Job) -> None:
    """Names that are sites of the job, and its clients."""
    client = flare.add_client("site-1")
    assert client.validate_targets(["server", "site-3", "x"]) == (["server", "site-3"], ["x"])
    assert [each.name for each in client.get_clients()] == list(SITES)


def test_a_site_is_there_once(flare: Job) -> None:
    """A newer engine of the same process takes the name over, and the older one is told."""
    first = flare.add_client("site-1")
    second = flare.add_client("site-1")
    until(lambda: isinstance(first.peer.error, Superseded), "the first was told")
    assert second.peer.is_open
    with first.new_context() as fl_ctx, pytest.raises(ClosedError):
        first.send_aux_request(None, "t", Shareable(), 5.0, fl_ctx)
