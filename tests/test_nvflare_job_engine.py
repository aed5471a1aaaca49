"""What client and server engine have in common: contexts, components, events, and the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import leaving_nothing

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from flare_job import SITES, Job, bare_job, noting
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, ProcessType
from nvflare.apis.shareable import Shareable

from zbus.nvflare.job_engine import Equipment

pytestmark = pytest.mark.real


@pytest.fixture
def flare(tmp_path: Path) -> Iterator[Job]:
    with bare_job(tmp_path) as made:
        yield made


class Noting(FLComponent):
    """Notes events, and fails when told to."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.fails = fails

    def handle_event(self, event_type: str, fl_ctx: Any) -> None:
        self.seen.append(event_type)
        if self.fails:
            raise ValueError("as told")


def test_a_context_has_what_components_look_for(flare: Job) -> None:
    """Engine, job, identity, process type, the job's clients and the abort signal."""
    for engine, site, kind in (
        (flare.add_server(), "server", ProcessType.SERVER_JOB),
        (flare.add_client("site-1"), "site-1", ProcessType.CLIENT_JOB),
    ):
        with engine.new_context() as fl_ctx:
            assert fl_ctx.get_engine() is engine
            assert fl_ctx.get_job_id() == "job-1"
            assert fl_ctx.get_identity_name() == site
            assert fl_ctx.get_process_type() == kind
            assert fl_ctx.get_run_abort_signal() is engine.abort_signal
            meta = fl_ctx.get_prop(FLContextKey.JOB_META)
            assert [client["name"] for client in meta["job_clients"]] == list(SITES)
            fl_ctx.set_prop("sticks", 1, private=True, sticky=True)
        assert engine.new_context().get_prop("sticks") == 1


def test_one_handler_that_fails_stops_no_other(flare: Job) -> None:
    """Events go to all handlers, to widgets, and to components that are added later."""
    first, second, widget, late = Noting(fails=True), Noting(), Noting(), Noting()
    equipment = Equipment(handlers=[first, second], widgets={"w": widget}, workspace="here")
    client = flare.add_client("site-1", equipment)
    client.add_component("late", late)
    with client.new_context() as fl_ctx:
        client.fire_event("hello", fl_ctx)
    assert [each.seen for each in (first, second, widget, late)] == [["hello"]] * 4
    assert client.get_component("late") is late
    assert client.get_component("x") is None
    assert client.get_all_components() == {"late": late}
    assert client.get_widget("w") is widget
    assert client.get_widget("x") is None
    assert client.get_workspace() == "here"
    with pytest.raises(ValueError, match="late"):
        client.add_component("late", late)
    wrong: Any = 7
    with pytest.raises(TypeError):
        client.add_component(wrong, late)


def test_the_end_drains_and_leaves_nothing(tmp_path: Path) -> None:
    """What was accepted is handled before ``close`` returns, and no thread stays."""
    taken: list[Any] = []
    with leaving_nothing(), bare_job(tmp_path) as made:
        made.add_server().register_aux_message_handler("t", noting(taken))
        other: list[Any] = []
        made.add_client("site-2").register_aux_message_handler("t", noting(other))
        client = made.add_client("site-1")
        with client.new_context() as fl_ctx:
            for number in range(50):
                request = Shareable({"n": number})
                client.send_aux_request(["server", "site-2"], "t", request, 0, fl_ctx)
        assert client.close(drain=10.0).pushes == 0
        for handled in (taken, other):
            assert [request["n"] for request in handled] == list(range(50))


def test_the_end_waits_for_the_courier(flare: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits behind another batch is no open request of the peer's; it is asked for first."""
    client = flare.add_client("site-1")
    asked: list[tuple[float, bool]] = []

    def flush(timeout_s: float) -> int:
        asked.append((timeout_s, client.peer.is_open))
        return 0

    monkeypatch.setattr(client.exchange, "flush", flush)
    client.close(drain=3.0)
    client.close(drain=3.0)
    assert asked == [(3.0, True)]
