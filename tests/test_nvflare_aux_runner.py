"""Dispatch under the bus: nvflare's own order of checks, and a reply whatever a handler does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from flare_job import Job, codes, job, noting
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.private.aux_runner import AuxMsgTarget

from zbus.nvflare.messages import decode, encode

pytestmark = pytest.mark.real


@pytest.fixture
def flare(tmp_path: Path) -> Iterator[Job]:
    with job(tmp_path) as made:
        yield made


def ask(flare: Job, request: Any = None) -> Any:
    client = flare.clients["site-1"]
    with client.new_context() as fl_ctx:
        return client.send_aux_request(None, "t", request or Shareable(), 5.0, fl_ctx)["server"]


def test_the_handler_sees_its_peer(flare: Job) -> None:
    """By keyword, with the sender's public props as peer context and in the request."""
    seen: list[Any] = []

    def handle(*, topic: str, request: Any, fl_ctx: Any) -> Any:
        seen.append((topic, fl_ctx.get_peer_context().get_identity_name(), fl_ctx.get_job_id()))
        seen.append(request.get_peer_prop("__identity_name__", None))
        return make_reply("OK")

    flare.server.register_aux_message_handler("t", handle)
    request = Shareable()
    request.add_cookie("c", 7)
    reply = ask(flare, request)
    assert seen == [("t", "site-1", "job-1"), "site-1"]
    assert reply.get_cookie("c") == 7
    assert reply.get_peer_context().get_identity_name() == "server"


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_a_handler_raises(flare: Job, error: type[BaseException]) -> None:
    """HANDLER_EXCEPTION, and the next request is answered (contract 12, row 3)."""

    def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
        raise error

    flare.server.register_aux_message_handler("t", handle)
    for _ in range(2):
        assert ask(flare).get_return_code() == "HANDLER_EXCEPTION"


@pytest.mark.parametrize("wrong", [None, {}, 7])
def test_a_reply_that_is_none(flare: Job, wrong: object) -> None:
    """ERROR, with cookies too (contract 13, row 10)."""
    flare.server.register_aux_message_handler("t", lambda topic, request, fl_ctx: wrong)
    request = Shareable()
    request.add_cookie("c", 7)
    reply = ask(flare, request)
    assert reply.get_return_code() == "ERROR"
    assert reply.get_cookie("c") == 7


def test_registration_is_nvflares(flare: Job) -> None:
    """Its errors, in its order (contract 2.1)."""
    register = flare.server.register_aux_message_handler
    register("t", print)
    cases: tuple[tuple[Any, Any, type[Exception]], ...] = (
        (1, print, TypeError),
        ("", print, ValueError),
        ("u", None, ValueError),
        ("u", 7, TypeError),
        ("t", print, ValueError),
    )
    for topic, function, error in cases:
        with pytest.raises(error):
            register(topic, function)


@pytest.mark.parametrize(
    ("props", "code"),
    [
        ({}, "MISSING_PEER_CONTEXT"),
        ({"__identity_name__": "site-2"}, "BAD_PEER_CONTEXT"),
        ({"__identity_name__": "site-1"}, "OK"),
    ],
)
def test_nobody_speaks_for_another(flare: Job, props: dict[str, Any], code: str) -> None:
    """The broker vouches for the name; props that claim another reach no handler."""
    flare.server.register_aux_message_handler("t", lambda topic, request, fl_ctx: make_reply("OK"))
    peer = flare.clients["site-1"].peer
    body = encode(Shareable(), {"__topic__": "t"}, props)
    reply = decode(peer.request("flare.job-1.aux", body, timeout=5.0, to="server.job-1"))
    assert reply.get_return_code() == code


@pytest.mark.parametrize("props", [[1], "x"])
def test_props_that_are_none(flare: Job, props: Any) -> None:
    """BAD_PEER_CONTEXT, where nvflare loses the request (contract 13, row 9)."""
    peer = flare.clients["site-1"].peer
    body = encode(Shareable(), {"__topic__": "t", "__peer_props__": props}, {})
    request = decode(body)
    request.set_peer_props(props)
    raw = request.to_bytes()
    reply = decode(peer.request("flare.job-1.aux", raw, timeout=5.0, to="server.job-1"))
    assert reply.get_return_code() == "BAD_PEER_CONTEXT"


def test_garbage_is_answered(flare: Job) -> None:
    """BAD_REQUEST_DATA; in a push and in a batch it costs the others nothing."""
    taken: list[Any] = []
    flare.server.register_aux_message_handler("t", noting(taken))
    peer = flare.clients["site-1"].peer
    good = encode(Shareable(), {"__topic__": "t"}, {"__identity_name__": "site-1"})
    reply = decode(peer.request("flare.job-1.aux", b"garbage", timeout=5.0, to="server.job-1"))
    assert reply.get_return_code() == "BAD_REQUEST_DATA"
    peer.request("flare.job-1.aux", [b"x", good, 7, good], timeout=5.0, to="server.job-1")
    peer.push("flare.job-1.aux", b"x")
    peer.push("flare.job-1.aux", good)
    assert peer.flush(timeout=BOUND_S) == 0
    assert len(taken) == 3


def test_those_who_hold_the_runner(flare: Job) -> None:
    """nvflare's own users of an AuxRunner send through it, with its targets, and need no cell."""
    flare.server.register_aux_message_handler("t", lambda topic, request, fl_ctx: make_reply("OK"))
    client = flare.clients["site-1"]
    targets = [AuxMsgTarget.server_target(), AuxMsgTarget.server_parent_target()]
    with client.new_context() as fl_ctx:
        runner = client.aux_runner
        one = runner.send_aux_request(targets[:1], "t", Shareable(), 5.0, fl_ctx, bulk_send=True)
        two = runner.multicast_aux_requests("t", [(targets[1], Shareable())], 5.0, fl_ctx)
    assert codes(one) == {"server": "OK"}
    assert codes(two) == {"server": "COMMUNICATION_ERROR"}
