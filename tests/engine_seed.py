"""What only the seed era's engines do: cases for zbus, with what is on record of the seed era.

Rules of this room:

* A record is written in the form that its case gives, so that it could be equal: some are, and
  those say what was kept.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from engine_registry import OURS, RECORDS, Record, ours
from engine_sends import WRONG, code, says
from engine_sites import CLIENTS, here_broker, until
from engine_stages import JOB, Done, Recorder, Wire, WiredBus, numbered

from zbus.engine import (
    ClientEngine,
    ComponentBuilder,
    Equipment,
    FLContext,
    ServerEngine,
    Shareable,
    make_reply,
)
from zbus.engine.aux_runner import BULK_TOPIC
from zbus.errors import RequestTimeout, UnencodableBody
from zbus.peer.handover import new_token
from zbus.peer.peer import connect
from zbus.protocol.session import SessionLimits

HANG_S = 0.3


class Pair:
    """A server and site-1 of one job, with the seed era's faces."""

    def __init__(self, server: ServerEngine, client: ClientEngine) -> None:
        self.server = server
        self.client = client
        self.heard: list[Any] = []

    def serve(self, topic: str, handler: Any = None, at: Any = None) -> None:
        (at or self.server).register_aux_message_handler(topic, handler or self.note)

    def note(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self.heard.append(request["n"])
        return make_reply("OK")

    def ask(self, **changed: Any) -> Any:
        whole = {"topic": "t", "request": numbered(1), "timeout": 10.0}
        return self.client.send_aux_request(
            **{**whole, "fl_ctx": self.client.new_context(), **changed}
        )

    def order(self, **changed: Any) -> Any:
        """The server asks site-1."""
        whole = {"targets": ["site-1"], "topic": "t", "request": numbered(1), "timeout": 10.0}
        return self.server.send_aux_request(
            **{**whole, "fl_ctx": self.server.new_context(), **changed}
        )


@contextmanager
def on_the_bus(*, started: bool = True, **client: Any) -> Iterator[Pair]:
    """On a real broker."""
    here, job = here_broker(), f"seed-{time.monotonic_ns()}"
    server = ServerEngine(job, CLIENTS, endpoint=here.backend)
    engine = ClientEngine("site-1", job, CLIENTS, endpoint=here.frontend, **client)
    if started:
        server.start_run()
        engine.start_run()
    try:
        yield Pair(server, engine)
    finally:
        engine.close(drain=0.0)
        server.close(drain=0.0)


def at_once(kind: type[WiredBus] = WiredBus, **client: Any) -> Pair:
    """On a bus that delivers in the caller's thread."""
    wire = Wire()

    def attach(name: str, dispatcher: Any) -> WiredBus:
        return wire.peers.setdefault(name, kind(wire, name, dispatcher))

    server = ServerEngine(JOB, CLIENTS, attach=attach)
    pair = Pair(server, ClientEngine("site-1", JOB, attach=attach, **client))
    server.start_run()
    pair.client.start_run()
    return pair


# -- arguments -----------------------------------------------------------------------------

ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "timeout_int": ({"timeout": 10}, "raises TypeError"),
    "timeout_bool": ({"timeout": True}, "raises TypeError"),
    "timeout_none": ({"timeout": None}, "raises TypeError"),
    "timeout_negative": ({"timeout": -1.0}, "raises ValueError"),
    "timeout_nan": ({"timeout": math.nan}, "'OK'"),
    "timeout_inf": ({"timeout": math.inf}, "'OK'"),
    "topic_no_text": ({"topic": 7}, "raises TypeError"),
    "topic_empty": ({"topic": ""}, "raises ValueError"),
    "topic_reserved": ({"topic": BULK_TOPIC}, "raises ValueError"),
    "topic_before_timeout": ({"topic": "", "timeout": None}, "raises ValueError"),
    "timeout_before_context": ({"timeout": -1.0, "fl_ctx": None}, "raises ValueError"),
    "context_none": ({"fl_ctx": None}, "raises TypeError"),
    "context_of_no_engine": ({"fl_ctx": FLContext()}, "raises TypeError"),
    "request_a_dict": ({"request": WRONG}, "raises AttributeError"),
}
"""What a client sends with besides what is good, and what becomes of it (5.1)."""
OF_THE_SERVER: dict[str, tuple[dict[str, Any], str]] = {
    "good": ({}, "{'site-1': 'OK'}"),
    "no_client": ({"targets": ["nobody"]}, "None"),
    "a_text": ({"targets": "site-1"}, "None"),
    "no_shareable": ({"request": WRONG}, "None"),
    "timeout_none": ({"timeout": None}, "None"),
    "topic_empty": ({"topic": ""}, "None"),
}
"""And a server."""


def sent(changed: dict[str, Any], _api: Any) -> Any:
    pair = at_once()
    pair.serve("t")
    return code(pair.ask(**changed))


def ordered(changed: dict[str, Any], _api: Any) -> Any:
    pair = at_once()
    pair.serve("t", at=pair.client)
    replies = pair.order(**changed)
    return {name: code(reply) for name, reply in replies.items()}


for _name, (_changed, _said) in ARGUMENTS.items():
    OURS[f"seed.{_name}"] = partial(sent, _changed)
    RECORDS[f"seed.{_name}"] = Record(_said, "5.1")
for _name, (_changed, _said) in OF_THE_SERVER.items():
    OURS[f"seed.server_{_name}"] = partial(ordered, _changed)
    RECORDS[f"seed.server_{_name}"] = Record(_said, "5.1")


# -- a request -----------------------------------------------------------------------------


@ours("['__peer_props__', '__topic__']", "5.2")
def seed__the_callers_shareable(_api: Any) -> Any:
    pair, request = at_once(), numbered(1)
    pair.serve("t")
    pair.ask(request=request)
    return sorted(request["__headers__"])


@ours("('server', 'server')", "9")
def seed__the_callers_context(_api: Any) -> Any:
    """Whom it says that it is about, and whom the reply's peer props do."""
    pair = at_once()
    pair.serve("t")
    fl_ctx = pair.client.new_context()
    reply = pair.ask(fl_ctx=fl_ctx)
    peer = fl_ctx.get_peer_context()
    return peer and peer.get_identity_name(), reply.get_peer_prop("__identity_name__", None)


@ours("'RUN_MISMATCH'", "4, step 5")
def seed__before_the_run(_api: Any) -> Any:
    with on_the_bus(started=False) as pair:
        return code(pair.ask(timeout=HANG_S))


@ours("raises AttributeError", "12.6")
def seed__run_mismatch(_api: Any) -> Any:
    """The code, and whether the run is aborted."""
    pair = at_once()
    pair.serve("t", says(make_reply("RUN_MISMATCH")))
    return code(pair.ask()), pair.client.abort_signal.triggered


@contextmanager
def hanging() -> Iterator[Pair]:
    """With a handler at both ends that takes longer than anybody waits."""
    go_on = threading.Event()

    def handle(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        go_on.wait(10.0)
        return make_reply("OK")

    with on_the_bus() as pair:
        for engine in (pair.server, pair.client):
            pair.serve("t", handle, at=engine)
        try:
            yield pair
        finally:
            go_on.set()


@ours("'COMMUNICATION_ERROR'", "12.16")
def seed__no_reply_in_time(_api: Any) -> Any:
    with hanging() as pair:
        return code(pair.ask(timeout=HANG_S))


@ours("[None, None]", "12.16")
def seed__no_reply_in_time_in_detail(_api: Any) -> Any:
    """Beyond the code: what it was, and whether the handler ran."""
    with hanging() as pair:
        reply = pair.ask(timeout=HANG_S)
        return [reply.get_header(key) for key in ("__zbus_error__", "__executed__")]


@ours("{'site-1': None}", "12.19")
def seed__no_reply_of_a_client_in_time(_api: Any) -> Any:
    with hanging() as pair:
        replies = pair.order(timeout=HANG_S)
        return {name: reply and code(reply) for name, reply in replies.items()}


@ours("'timeout + 5 s'", "6.1")
def seed__how_long_a_failed_call_takes(_api: Any) -> Any:
    with hanging() as pair:
        began = time.monotonic()
        pair.ask(timeout=HANG_S)
        took_s = time.monotonic() - began
        return "timeout" if HANG_S <= took_s < HANG_S + 4.0 else "timeout + 5 s"


@ours("False", "6.1")
def seed__handlers_that_need_each_other(_api: Any) -> Any:
    """Whether both are answered: one waits for what the other does."""
    with on_the_bus() as pair:
        done = threading.Event()
        pair.serve("first", lambda topic, request, fl_ctx: make_reply(str(done.wait(5.0))))

        def second(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
            done.set()
            return make_reply("OK")

        pair.serve("second", second)
        said: list[Any] = []
        first = threading.Thread(target=lambda: said.append(code(pair.ask(topic="first"))))
        first.start()
        said.append(code(pair.ask(topic="second")))
        first.join()
        return sorted(said) == ["OK", "True"]


# -- fire-and-forget -----------------------------------------------------------------------


@ours("('OK', [])", "5.3")
def seed__told_what_cannot_be_encoded(_api: Any) -> Any:
    """What the caller is told, and which later ones are handled."""
    pair = at_once()
    pair.serve("t")
    try:
        said = code(pair.ask(request=numbered(iter(())), timeout=0.0))
    except UnencodableBody:
        said = "raises"
    pair.ask(request=numbered(2), timeout=0.0)
    return said, pair.heard


@ours("['OK', 'OK', 'OK']", "12.11")
def seed__told_beyond_the_bound(_api: Any) -> Any:
    """Three, where two may wait."""
    limits = SessionLimits(pushes=2)

    def attach(name: str, dispatcher: Any) -> Any:
        return connect(here_broker().frontend, name, dispatcher=dispatcher, limits=limits)

    client = ClientEngine("site-1", f"bound-{time.monotonic_ns()}", attach=attach)
    try:
        told = client.fire_and_forget_aux_request
        return [code(told("t", numbered(n), client.new_context())) for n in range(3)]
    finally:
        client.close(drain=0.0)


@ours("False", "5.3")
def seed__told_while_an_earlier_one_is_handled(_api: Any) -> Any:
    """Whether the caller is answered before that has ended."""
    with hanging() as pair:
        pair.ask(timeout=0.0)
        began = time.monotonic()
        pair.ask(timeout=0.0)
        return time.monotonic() - began < 5.0


class Lossy(WiredBus):
    """What is told by name is handled, and the answer lost."""

    def submit(self, topic: str, body: Any = None, **options: Any) -> Done:
        answer = super().submit(topic, body, **options)
        return Done(RequestTimeout()) if topic.endswith(".tell") else answer


@ours("[1, 1]", "5.3")
def seed__told_and_the_answer_is_lost(_api: Any) -> Any:
    """How often it is handled."""
    pair = at_once(Lossy)
    pair.serve("t", at=pair.client)
    pair.order(timeout=0.0)
    assert pair.server.exchange.courier.dropped == 1
    return pair.heard


@ours("[]", "12.14")
def seed__told_before_an_abort(_api: Any) -> Any:
    """Which are handled."""
    with on_the_bus() as pair:
        pair.serve("t")
        for number in range(3):
            pair.ask(request=numbered(number), timeout=0.0)
        pair.client.abort_app(pair.client.job_id, pair.client.new_context())
        return pair.heard


# -- the rest ------------------------------------------------------------------------------


@ours("1", "12.25")
def seed__events_of_two_components_of_one_class(_api: Any) -> Any:
    """How many of the two hear an event."""
    builder = ComponentBuilder(["engine_stages"])
    client = at_once(equipment=Equipment(builder=builder)).client
    config = {"path": "engine_stages.Recorder"}
    two: list[Recorder] = [client.build_component(config) for _ in range(2)]
    client.fire_event("e", client.new_context())
    return sum("e" in each.heard for each in two)


@ours("{}", "2.3")
def seed__check_client_resources(_api: Any) -> Any:
    return at_once().server.check_client_resources(resource_reqs={})


@ours("[True, 'never']", "6.1")
def seed__a_child_that_comes_again(_api: Any) -> Any:
    """Whether two children have the same proof, and what one is answered that comes again."""
    with on_the_bus() as pair:
        pair.serve("t", at=pair.client)
        first = pair.client
        first.close(drain=0.0)
        again = ClientEngine("site-1", first.job_id, CLIENTS, endpoint=here_broker().frontend)
        again.start_run()
        pair.serve("t", at=again)
        try:
            until(lambda: code(pair.order()["site-1"]) == "OK")
            return [new_token() == new_token(), code(pair.order()["site-1"])]
        finally:
            again.close(drain=0.0)


@ours("'Signal'", "8")
def builder__name_out_of_a_package(_api: Any) -> Any:
    """A name alone, of a class in an allowed package."""
    return type(ComponentBuilder(["zbus.engine"]).build_component({"name": "Signal"})).__name__
