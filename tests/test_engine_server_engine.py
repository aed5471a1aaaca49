"""The server's engine: clients, targets, tasks, abort, and the state of components."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S
from engine_stages import (
    JOB,
    Noting,
    Recorder,
    Wire,
    bare_job,
    codes,
    echo,
    job,
    numbered,
    wired_pair,
)

from zbus.engine import (
    Client,
    EventType,
    FLComponent,
    FLContext,
    ReturnCode,
    ServerEngine,
    Shareable,
)
from zbus.engine.job_engine import Equipment
from zbus.errors import InvalidName, UnencodableBody


class Counting(FLComponent):
    """Has a state."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def get_persist_state(self, fl_ctx: FLContext) -> dict[str, Any]:
        return {"count": self.count}

    def restore(self, state_data: dict[str, Any], fl_ctx: FLContext) -> None:
        self.count = state_data["count"]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"request": {}, "targets": "site-1"}, ValueError),
        ({"targets": "site-1", "topic": 7}, TypeError),
        ({"targets": [7], "topic": 7}, TypeError),
        ({"topic": 7, "timeout": None}, TypeError),
        ({"topic": "", "timeout": None}, ValueError),
        ({"timeout": None, "fl_ctx": None}, TypeError),
        ({"timeout": math.nan, "fl_ctx": None}, ValueError),
        ({"fl_ctx": None}, TypeError),
    ],
)
def test_arguments_that_raise(changed: dict[str, Any], kind: type[Exception]) -> None:
    """In the order of the contract, section 5.1; they are not swallowed (12.8)."""
    server, client = wired_pair()
    client.register_aux_message_handler("t", noting := Noting())
    whole = {
        "targets": ["site-1"],
        "topic": "t",
        "request": numbered(1),
        "timeout": 1.0,
        "fl_ctx": server.new_context(),
    }
    with pytest.raises(kind) as caught:
        server.send_aux_request(**{**whole, **changed})
    assert type(caught.value) is kind
    assert noting.numbers == []


def test_what_cannot_be_encoded_raises() -> None:
    """With a timeout and without, and nobody is sent anything (12.15)."""
    server, client = wired_pair()
    client.register_aux_message_handler("t", noting := Noting())
    for timeout in (0.0, 1.0):
        with pytest.raises(UnencodableBody):
            server.send_aux_request(
                ["site-1"], "t", Shareable({"n": object()}), timeout, server.new_context()
            )
    assert noting.numbers == []


def test_no_clients_no_replies() -> None:
    """No client at all is an empty dict, as it was."""
    server = ServerEngine(JOB, attach=Wire().attach)
    assert server.send_aux_request(None, "t", Shareable(), 1.0, server.new_context()) == {}


def test_clients() -> None:
    """By name and token; asked anew where there is somebody to ask."""
    known = [Client("a", "token-a"), Client("b", "")]
    server = ServerEngine(JOB, lambda: known, attach=Wire().attach)
    assert server.get_clients() == known
    assert server.get_client_name_from_token("token-a") == "a"
    assert server.get_client_name_from_token("") == ""
    assert server.get_client_name_from_token("none") == ""
    valid, invalid = server.validate_clients(["b", "x"])
    assert (valid, invalid) == ([known[1]], ["x"])
    known.append(Client("c", ""))
    assert len(server.get_clients()) == 2
    server.sync_clients_from_main_process()
    assert [client.name for client in server.get_clients()] == ["a", "b", "c"]
    fixed = ServerEngine(JOB, ["a"], attach=Wire().attach)
    fixed.sync_clients_from_main_process()
    assert [client.name for client in fixed.get_clients()] == ["a"]
    with pytest.raises(InvalidName):
        ServerEngine(JOB, ["server"], attach=Wire().attach)


def test_state_of_components() -> None:
    """Kept while the job runs, gone when it is completed, and given back."""
    counting = Counting()
    gear = Equipment(components={"c": counting, "plain": object()})
    server = ServerEngine(JOB, attach=Wire().attach, equipment=gear)
    counting.count = 7
    server.persist_components(fl_ctx=server.new_context(), completed=False)
    assert server.snapshot == {"c": {"count": 7}}
    counting.count = 0
    server.restore_components(snapshot={**server.snapshot, "gone": {}}, fl_ctx=server.new_context())
    assert counting.count == 7
    server.persist_components(server.new_context(), completed=True)
    assert server.snapshot is None


def test_what_the_parent_does() -> None:
    """Is said to be the parent's, and not silently left undone."""
    server = ServerEngine(JOB, attach=Wire().attach)
    for call in (
        lambda: server.start_client_job(job_id="j", client_sites=[]),
        lambda: server.check_client_resources(resource_reqs={}),
        lambda: server.cancel_client_resources(resource_check_results={}, resource_reqs={}),
    ):
        with pytest.raises(NotImplementedError, match="parent"):
            call()


def test_tasks_for_clients_only() -> None:
    """Wrong ones raise."""
    server = ServerEngine(JOB, ["a"], attach=Wire().attach)
    with pytest.raises(ValueError, match="nobody"):
        server.assign_task("nobody", "train", Shareable())
    with pytest.raises(TypeError):
        server.assign_task("a", "train", {})  # type: ignore[arg-type]


@pytest.mark.real
def test_telling_clients(tmp_path: Path) -> None:
    """OK at once for all that are known; the lost ones are counted."""
    with job(tmp_path) as made:
        server, notings = made.server, {name: Noting() for name in made.clients}
        for name, client in made.clients.items():
            client.register_aux_message_handler("t", notings[name])
        fl_ctx = server.new_context()
        for number in range(50):
            told = server.fire_and_forget_aux_request(None, "t", numbered(number), fl_ctx)
            assert set(codes(told).values()) == {ReturnCode.OK}
        assert list(told) == ["site-1", "site-2", "site-3"]
        assert server.exchange.flush(BOUND_S) == 0
        assert server.exchange.courier.dropped == 50  # site-3 is not there
    assert notings["site-1"].numbers == notings["site-2"].numbers == list(range(50))


@pytest.mark.real
def test_abort_is_confirmed(tmp_path: Path) -> None:
    """When it returns, the runs of all clients that are there have ended; the rest is logged."""
    with bare_job(tmp_path) as made:
        recorders = {site: Recorder() for site in ("site-1", "site-2")}
        server = made.add_server()
        for site, recorder in recorders.items():
            made.add_client(site, Equipment(handlers=[recorder]))
        made.start()
        server.assign_task("site-1", "train", Shareable())
        began = time.monotonic()
        server.abort_app(JOB, server.new_context())
        assert time.monotonic() - began < BOUND_S
        for site, recorder in recorders.items():
            assert made.clients[site].abort_signal.triggered
            assert recorder.heard.count(EventType.END_RUN) == 1
        assert server.is_over
        assert server.tasks.next_of("site-1") is None
        again = server.abort_clients(BOUND_S)
        assert codes(again) == {
            "site-1": ReturnCode.OK,
            "site-2": ReturnCode.OK,
            "site-3": ReturnCode.COMMUNICATION_ERROR,
        }


@pytest.mark.real
def test_abort_of_another_job(tmp_path: Path) -> None:
    """Is refused, and no client hears of it."""
    with job(tmp_path) as made:
        with pytest.raises(ValueError, match="job-2"):
            made.server.abort_app("job-2", made.server.new_context())
        assert not made.server.abort_signal.triggered
        assert not any(client.abort_signal.triggered for client in made.clients.values())


@pytest.mark.real
def test_a_client_that_does_not_confirm(tmp_path: Path) -> None:
    """Its entry says so; the others are aborted."""

    class Stuck(FLComponent):
        def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
            if event_type == EventType.END_RUN:
                raise SystemExit(3)

    with bare_job(tmp_path) as made:
        made.add_server()
        made.add_client("site-1", Equipment(handlers=[Stuck()]))
        made.add_client("site-2")
        made.start()
        replies = made.server.abort_clients(BOUND_S)
        assert replies["site-1"].get_return_code() == ReturnCode.EXECUTION_EXCEPTION
        assert replies["site-2"].get_return_code() == ReturnCode.OK
        assert made.clients["site-1"].abort_signal.triggered


@pytest.mark.real
def test_requests_both_ways_at_once(tmp_path: Path) -> None:
    """A handler may ask back whoever asks it."""
    with job(tmp_path) as made:
        server, client = made.server, made.clients["site-1"]
        client.register_aux_message_handler("back", echo)

        def ask_back(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
            replies = server.send_aux_request(["site-1"], "back", request, BOUND_S, fl_ctx)
            return replies["site-1"]

        server.register_aux_message_handler("there", ask_back)
        reply = client.send_aux_request("there", numbered(7), BOUND_S, client.new_context())
        assert (reply.get_return_code(), reply["n"]) == (ReturnCode.OK, 7)
