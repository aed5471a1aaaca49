"""The client's engine on a real broker, every method of the seed era's interface."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, ended, in_a_thread, until
from engine_stages import (
    Noting,
    Recorder,
    Wire,
    bare_job,
    echo,
    job,
    numbered,
    open_requests,
    wired_pair,
)

from zbus.engine import (
    ClientEngine,
    EventType,
    FLContext,
    FLContextKey,
    ReservedTopic,
    ReturnCode,
    Shareable,
    make_reply,
)
from zbus.engine.job_engine import Equipment
from zbus.errors import ForkedClientError, HandlerError, InvalidName, NotAuthorized

pytestmark = pytest.mark.real


def test_asking_the_server(tmp_path: Path) -> None:
    """One Shareable back, by any topic, with and without FL trouble."""
    with job(tmp_path) as made:
        server, client = made.server, made.clients["site-1"]
        server.register_aux_message_handler("any: topic/at all ✓", echo)
        fl_ctx = client.new_context()
        request = Shareable({"values": (1, {2}), "deep": [{"a": b"x"}]})
        request.add_cookie("crumb", 7)
        reply = client.send_aux_request(
            topic="any: topic/at all ✓", request=request, timeout=BOUND_S, fl_ctx=fl_ctx
        )
        assert reply["values"] == (1, {2})
        assert reply["deep"] == [{"a": b"x"}]
        assert reply.get_cookie("crumb") == 7
        assert reply.get_peer_context().get_identity_name() == "server"
        unknown = client.send_aux_request("unknown", request, BOUND_S, fl_ctx)
        assert unknown.get_return_code() == ReturnCode.TOPIC_UNKNOWN
        assert unknown.get_cookie("crumb") == 7


def test_a_server_that_comes_later(tmp_path: Path) -> None:
    """Not ready is not gone: the request waits for it, and so does what was told."""
    with bare_job(tmp_path) as made:
        client = made.add_client("site-1")
        fl_ctx = client.new_context()
        told = client.fire_and_forget_aux_request(topic="t", request=numbered(1), fl_ctx=fl_ctx)
        assert told.get_return_code() == ReturnCode.OK
        thread, replies = in_a_thread(
            lambda: client.send_aux_request("t", numbered(2), BOUND_S, fl_ctx)
        )
        until(lambda: open_requests(client), "the request")
        noting = Noting()
        server = made.add_server()
        server.register_aux_message_handler("t", noting)
        server.start_run()
        ended(thread)
        assert replies[0].get_return_code() == ReturnCode.OK
        assert client.end_run() == 0
    assert sorted(noting.numbers) == [1, 2]


def test_no_server_at_all(tmp_path: Path) -> None:
    """A reply at the deadline, not an exception, and not later."""
    with bare_job(tmp_path) as made:
        client = made.add_client("site-1")
        began = time.monotonic()
        reply = client.send_aux_request("t", Shareable(), 0.4, client.new_context())
        assert 0.3 < time.monotonic() - began < 5.0
        assert reply.get_return_code() == ReturnCode.COMMUNICATION_ERROR
        assert reply.get_header("__zbus_error__") == "ZB-301"
        assert client.get_task_assignment(client.new_context(), timeout=0.2) is None
        assert not client.send_task_result(Shareable(), client.new_context(), timeout=0.2)


def test_told_in_order_and_over_a_restart_of_the_broker(tmp_path: Path) -> None:
    """Accepted is accepted: each once, in order."""
    with job(tmp_path) as made:
        server, client = made.server, made.clients["site-1"]
        noting = Noting()
        server.register_aux_message_handler("t", noting)
        fl_ctx = client.new_context()
        for number in range(300):
            if number == 150:
                made.here.kill()
                made.here.start()
            reply = client.fire_and_forget_aux_request("t", numbered(number), fl_ctx)
            assert reply.get_return_code() == ReturnCode.OK
        assert client.end_run(drain=BOUND_S) == 0
    assert noting.numbers == list(range(300))


def test_after_the_end_there_is_a_reply(tmp_path: Path) -> None:
    """A component that still sends is not torn down by an exception."""
    with job(tmp_path) as made:
        client = made.clients["site-1"]
        fl_ctx = client.new_context()
        client.close(drain=0.0)
        for timeout in (0.0, 1.0):
            reply = client.send_aux_request("t", Shareable(), timeout, fl_ctx)
            assert reply.get_return_code() == ReturnCode.COMMUNICATION_ERROR
            assert reply.get_header("__zbus_error__") == "ZB-501"


def test_aux_send_asks_without_checks(tmp_path: Path) -> None:
    """A context of no engine will do, as far as it goes."""
    with job(tmp_path) as made:
        made.server.register_aux_message_handler("t", echo)
        client = made.clients["site-1"]
        fl_ctx = FLContext()
        reply = client.aux_send(topic="t", request=Shareable(), timeout=BOUND_S, fl_ctx=fl_ctx)
        assert reply.get_return_code() == ReturnCode.MISSING_PEER_CONTEXT
        assert reply.get_peer_context().get_identity_name() == "server"


def test_a_task_and_its_result(tmp_path: Path) -> None:
    """The same task until its result is in, and then the next; then none."""
    with job(tmp_path) as made:
        server, client = made.server, made.clients["site-1"]
        fl_ctx = client.new_context()
        assert client.get_task_assignment(fl_ctx) is None
        data = Shareable({"weights": [1.0]})
        tasks = [server.assign_task("site-1", name, data) for name in ("train", "test")]
        data["weights"] = "changed after the call"
        first, again = client.get_task_assignment(fl_ctx), client.get_task_assignment(fl_ctx)
        assert first is not None
        assert again is not None
        assert first.task_id == again.task_id == tasks[0].task_id
        assert (first.name, first.data["weights"]) == ("train", [1.0])
        fl_ctx.set_prop(FLContextKey.TASK_ID, first.task_id, private=True, sticky=False)
        result = Shareable({"loss": 0.5})
        assert client.send_task_result(result=result, fl_ctx=fl_ctx)
        assert client.send_task_result(result, fl_ctx)
        assert result == {"loss": 0.5, "__headers__": {}}
        kept = server.tasks.wait(tasks[0], BOUND_S)
        assert kept is not None
        assert kept["loss"] == 0.5
        second = client.get_task_assignment(fl_ctx)
        assert second is not None
        assert second.name == "test"
        assert client.send_task_result(second.data, fl_ctx)
        assert client.get_task_assignment(fl_ctx) is None
        other = made.clients["site-2"]
        assert not other.send_task_result(result, other.new_context())


def test_the_server_ends_the_run(tmp_path: Path) -> None:
    """``__end_run__`` is answered when the run has ended; a component may take it over."""
    with bare_job(tmp_path) as made:
        recorder = Recorder()
        made.add_server()
        one = made.add_client("site-1", Equipment(handlers=[recorder]))
        two = made.add_client("site-2")
        two.register_aux_message_handler(
            ReservedTopic.END_RUN,
            lambda topic, request, fl_ctx: make_reply(ReturnCode.EMPTY_RESULT),
        )
        made.start()
        replies = made.server.end_clients(made.server.new_context(), BOUND_S)
        assert {name: reply.get_return_code() for name, reply in replies.items()} == {
            "site-1": ReturnCode.OK,
            "site-2": ReturnCode.EMPTY_RESULT,
            "site-3": ReturnCode.COMMUNICATION_ERROR,
        }
        assert recorder.heard[-1] == EventType.END_RUN
        assert one.abort_signal.triggered
        assert one.is_over
        assert not two.is_over


def test_only_the_server_aborts(tmp_path: Path) -> None:
    """Another client of the job may ask, and nothing happens."""
    with job(tmp_path) as made:
        one, two = made.clients["site-1"], made.clients["site-2"]
        topic = one.directory.topic("abort")
        with pytest.raises((HandlerError, NotAuthorized), match=r"PermissionError|policy"):
            two.bus.request(topic, None, timeout=BOUND_S, to=one.directory.address("site-1"))
        assert not one.abort_signal.triggered


def test_two_jobs_on_one_broker(tmp_path: Path) -> None:
    """The same site in two jobs; each is answered by its own server."""
    with job(tmp_path) as made:
        made.server.register_aux_message_handler("t", echo)
        other = ClientEngine("site-1", "job-2", endpoint=made.here.frontend)
        try:
            reply = other.send_aux_request("t", Shareable(), 0.3, other.new_context())
            assert reply.get_return_code() == ReturnCode.COMMUNICATION_ERROR
            client = made.clients["site-1"]
            reply = client.send_aux_request("t", Shareable(), BOUND_S, client.new_context())
            assert reply.get_return_code() == ReturnCode.OK
        finally:
            other.close(drain=0.0)


def test_after_a_fork_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the caller's own, and no reply (P21)."""
    server, client = wired_pair()

    def forked(*_: Any, **__: Any) -> Any:
        raise ForkedClientError

    monkeypatch.setattr(client.bus, "request", forked)
    with pytest.raises(ForkedClientError):
        client.send_aux_request("t", Shareable(), 1.0, client.new_context())
    server.close()


@pytest.mark.parametrize(("site", "job_id"), [("", "j"), ("a/b", "j"), ("server", "j"), ("a", "")])
def test_names_that_cannot_be(site: str, job_id: str) -> None:
    """They are refused before anything is attached."""
    wire = Wire()
    with pytest.raises(InvalidName):
        ClientEngine(site, job_id, attach=wire.attach)
    assert wire.peers == {}
