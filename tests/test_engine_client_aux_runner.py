"""Sending, as a client: which arguments raise, and in which order; what becomes a reply."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from engine_stages import (
    JOB,
    TIMED_OUT,
    Noting,
    Recorder,
    Wire,
    WiredBus,
    echo,
    numbered,
    wired_pair,
)

from zbus.engine import (
    ClientEngine,
    EventType,
    FLContext,
    ReservedHeaderKey,
    ReturnCode,
    Shareable,
    make_reply,
)
from zbus.engine.aux_runner import BULK_TOPIC
from zbus.errors import UnencodableBody
from zbus.peer.body import decode_body, encode_body


@pytest.mark.parametrize(
    ("changed", "kind", "says"),
    [
        ({"topic": 7, "timeout": None, "fl_ctx": None}, TypeError, "topic"),
        ({"topic": ""}, ValueError, "topic"),
        ({"topic": BULK_TOPIC}, ValueError, "reserved"),
        ({"timeout": None, "fl_ctx": None}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": -0.1}, ValueError, "timeout"),
        ({"timeout": math.nan}, ValueError, "timeout"),
        ({"timeout": math.inf}, ValueError, "timeout"),
        ({"fl_ctx": None, "request": {}}, TypeError, "fl_ctx"),
        ({"fl_ctx": FLContext(), "request": {}}, TypeError, "engine"),
        ({"request": {}}, TypeError, "request"),
        ({"request": {}, "timeout": 0}, TypeError, "request"),
    ],
)
def test_arguments_that_raise(changed: dict[str, Any], kind: type[Exception], says: str) -> None:
    """In the order of the contract, section 5.1; nothing was sent."""
    server, client = wired_pair()
    server.register_aux_message_handler("t", noting := Noting())
    whole = {"topic": "t", "request": numbered(1), "timeout": 1.0, "fl_ctx": client.new_context()}
    with pytest.raises(kind, match=says):
        client.send_aux_request(**{**whole, **changed})
    assert noting.numbers == []


@pytest.mark.parametrize("timeout", [1, 0.5, 10**400])
def test_any_number_of_seconds_will_do(timeout: Any) -> None:
    """An int too, also one that no float can say."""
    server, client = wired_pair()
    server.register_aux_message_handler("t", echo)
    sent = min(timeout, 10**9)
    client.aux_send("t", Shareable(), sent, client.new_context())
    bus = client.bus
    assert isinstance(bus, WiredBus)
    assert bus.asked[-1] == {
        "topic": f"flare.{JOB}.aux",
        "timeout": sent,
        "to": "",
        "unserved": "wait",
    }


def test_the_request_stays_as_it_was() -> None:
    """Also with stale peer props, which do not travel (12.9)."""
    server, client = wired_pair()
    seen: list[Any] = []

    def look(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        seen.append((topic, request.get_peer_props()["__identity_name__"]))
        return make_reply(ReturnCode.OK)

    for topic in ("t", "u"):
        server.register_aux_message_handler(topic, look)
    request = Shareable({"n": [1]})
    request.set_header(ReservedHeaderKey.PEER_PROPS, {"__identity_name__": "old"})
    request.set_header(ReservedHeaderKey.PEER_CTX, FLContext())
    before = {**request, "__headers__": dict(request["__headers__"])}
    for topic in ("t", "u"):
        client.send_aux_request(topic, request, 1.0, client.new_context())
        client.fire_and_forget_aux_request(topic, request, client.new_context())
    assert request == before
    assert seen == [("t", "site-1"), ("t", "site-1"), ("u", "site-1"), ("u", "site-1")]


def test_the_reply_says_who_replied() -> None:
    """Peer props and peer context are in the reply, and the caller's context has none (12.28)."""
    server, client = wired_pair()
    server.register_aux_message_handler("t", echo)
    fl_ctx = client.new_context()
    reply = client.send_aux_request("t", Shareable(), 1.0, fl_ctx)
    assert reply.get_peer_props() == {"__run_num__": JOB, "__identity_name__": "server"}
    assert reply.get_peer_context().get_identity_name() == "server"
    assert fl_ctx.get_peer_context() is None


@pytest.mark.parametrize("timeout", [0, 0.0, 1.0])
def test_what_cannot_be_encoded_raises(timeout: float) -> None:
    """With and without a timeout, and what follows is sent (12.15)."""
    server, client = wired_pair()
    server.register_aux_message_handler("t", noting := Noting())
    fl_ctx = client.new_context()
    with pytest.raises(UnencodableBody, match="object"):
        client.send_aux_request("t", Shareable({"n": object()}), timeout, fl_ctx)
    client.send_aux_request("t", numbered(2), timeout, fl_ctx)
    assert noting.numbers == [2]


def test_an_error_of_the_bus_is_a_reply() -> None:
    """A timeout is COMMUNICATION_ERROR; headers tell the rest (12.16)."""
    _, client = wired_pair()
    bus = client.bus
    assert isinstance(bus, WiredBus)
    bus.wire.fault = TIMED_OUT
    reply = client.send_aux_request("t", Shareable(), 1.0, client.new_context())
    assert reply.get_return_code() == ReturnCode.COMMUNICATION_ERROR
    assert reply.get_header("__zbus_error__") == "ZB-301"
    assert reply.get_header("__executed__") == "maybe"


def test_run_mismatch_aborts_that_job() -> None:
    """The run is aborted, and the caller has the reply all the same (12.6)."""
    server, client = wired_pair()
    client.listen(recorder := Recorder())
    server.register_aux_message_handler(
        "t", lambda topic, request, fl_ctx: make_reply(ReturnCode.RUN_MISMATCH)
    )
    reply = client.send_aux_request("t", Shareable(), 1.0, client.new_context())
    assert reply.get_return_code() == ReturnCode.RUN_MISMATCH
    assert client.abort_signal.triggered
    assert EventType.END_RUN in recorder.heard


def test_run_mismatch_of_another_job_aborts_nothing() -> None:
    """A context of another job is that job's trouble, and not this one's (12.22)."""
    server, client = wired_pair()
    server.register_aux_message_handler("t", echo)
    fl_ctx = client.new_context()
    fl_ctx.put("__run_num__", "another", private=False, sticky=False)
    reply = client.send_aux_request("t", Shareable(), 1.0, fl_ctx)
    assert reply.get_return_code() == ReturnCode.RUN_MISMATCH
    assert not client.abort_signal.triggered


class Mute(WiredBus):
    """Takes what is sent, and has one reply ready."""

    reply: Any = None

    def request(self, topic: str, body: Any = None, **_: Any) -> Any:
        return decode_body(*encode_body(self.reply))

    def push(self, topic: str, body: Any = None) -> None:
        self.reply = [{"__headers__": {"__rc__": "OK"}}, body[1]]


def calls_of(act: Callable[[], object]) -> int:
    """How many functions of Python's are called, bus and encoding among them."""
    act()
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def test_a_message_makes_few_calls() -> None:
    """On the way out and back: each is paid for with every message."""
    wire = Wire()
    client = ClientEngine(
        "site-1", JOB, attach=lambda name, dispatcher: Mute(wire, name, dispatcher)
    )
    fl_ctx, request = client.new_context(), Shareable({"n": b"x"})
    assert calls_of(lambda: client.fire_and_forget_aux_request("t", request, fl_ctx)) <= 16
    assert calls_of(lambda: client.send_aux_request("t", request, 1.0, fl_ctx)) <= 38
