"""Receiving: registration, the table of checks, bulk, and messages from the bus."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, ended, in_a_thread, until
from engine_stages import (
    JOB,
    Noting,
    Recorder,
    bare_job,
    echo,
    job,
    numbered,
    open_requests,
    wired_pair,
)

from zbus.engine import (
    EventType,
    FLContext,
    ReservedHeaderKey,
    ReturnCode,
    Shareable,
    make_reply,
)
from zbus.engine.aux_runner import BULK_DATA, BULK_TOPIC, AuxRunner
from zbus.engine.job_engine import Equipment
from zbus.engine.letters import letter_of, replied

PROPS = {"__run_num__": JOB, "__identity_name__": "site-1"}


def runner(*, started: bool = True) -> AuxRunner:
    server, _ = wired_pair()
    found = server.aux_runner
    found._is_open = started
    return found


def request(props: Any = None) -> Shareable:
    """A request that is as it should be, or has these peer props."""
    asked = Shareable({"n": 1})
    asked.set_header(ReservedHeaderKey.PEER_PROPS, PROPS if props is None else props)
    asked.set_cookie_jar({"crumb": 7})
    return asked


def code(found: AuxRunner, asked: Any, topic: Any = "t") -> str:
    """What dispatch says."""
    return str(found.dispatch(topic, asked, found.engine.new_context()).get_return_code())


# -- registration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "function", "kind"),
    [
        (7, None, TypeError),
        (None, echo, TypeError),
        (BULK_TOPIC, echo, ValueError),
        ("", None, ValueError),
        ("t", None, ValueError),
        ("t", 7, TypeError),
        ("taken", 7, TypeError),
        ("taken", echo, ValueError),
    ],
)
def test_registration_refuses(topic: Any, function: Any, kind: type[Exception]) -> None:
    """In the order of the contract, section 2.1: the first thing that is wrong decides."""
    found = runner()
    found.register_aux_message_handler("taken", echo)
    with pytest.raises(kind) as caught:
        found.register_aux_message_handler(topic, function)
    assert type(caught.value) is kind


def test_a_blank_topic_is_a_topic() -> None:
    """The seed era accepts it, and so do we."""
    found = runner()
    found.register_aux_message_handler("  ", echo)
    assert code(found, request(), "  ") == ReturnCode.OK


def test_a_handler_that_is_false_is_a_handler() -> None:
    """A callable object may say that it is empty."""

    class Empty(Noting):
        def __len__(self) -> int:
            return 0

    found = runner()
    found.register_aux_message_handler("t", Empty())
    assert code(found, request()) == ReturnCode.OK


# -- the order of checks --------------------------------------------------------------------


def raises(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
    raise SystemExit(3)


def other_names(name: str, asked: Shareable, context: FLContext) -> Shareable:
    return make_reply(ReturnCode.OK)


STEPS: list[tuple[str, Any, Any, Any, str]] = [
    ("1: before all else", None, {"not": "a Shareable"}, None, ReturnCode.TOPIC_UNKNOWN),
    ("1: also without props", None, Shareable(), None, ReturnCode.TOPIC_UNKNOWN),
    ("2: a dict", echo, {"n": 1}, None, ReturnCode.BAD_REQUEST_DATA),
    ("2: None", echo, None, None, ReturnCode.BAD_REQUEST_DATA),
    ("2: headers", echo, Shareable, {"__headers__": [1]}, ReturnCode.BAD_REQUEST_DATA),
    ("3: no props", echo, Shareable(), None, ReturnCode.MISSING_PEER_CONTEXT),
    ("3: empty props", echo, request({}), None, ReturnCode.MISSING_PEER_CONTEXT),
    ("4: a list", echo, request([1]), None, ReturnCode.BAD_PEER_CONTEXT),
    ("4: a key", echo, request({**PROPS, 7: 7}), None, ReturnCode.BAD_PEER_CONTEXT),
    ("5: other", echo, request({"__run_num__": "b"}), None, ReturnCode.RUN_MISMATCH),
    ("5: none", echo, request({"__identity_name__": "x"}), None, ReturnCode.RUN_MISMATCH),
    ("6: SystemExit", raises, request(), None, ReturnCode.HANDLER_EXCEPTION),
    ("6: names", other_names, request(), None, ReturnCode.HANDLER_EXCEPTION),
    ("7: None", lambda topic, request, fl_ctx: None, request(), None, ReturnCode.ERROR),
    ("7: a dict", lambda topic, request, fl_ctx: {}, request(), None, ReturnCode.ERROR),
    ("7: a reply", echo, request(), None, ReturnCode.OK),
]


@pytest.mark.parametrize(("handler", "asked", "content", "wanted"), [s[1:] for s in STEPS])
def test_the_order_of_checks(handler: Any, asked: Any, content: Any, wanted: str) -> None:
    """Contract section 4, steps 1 to 7, and what differs on purpose."""
    found = runner()
    if handler is not None:
        found.register_aux_message_handler("t", handler)
    if content is not None:
        asked = asked()
        asked.update(content)
    reply = found.dispatch("t", asked, found.engine.new_context())
    assert reply.get_return_code() == wanted
    assert reply.get_peer_props() == {"__run_num__": JOB, "__identity_name__": "server"}
    jarred = isinstance(asked, Shareable) and isinstance(asked["__headers__"], dict)
    jar = asked.get_cookie_jar() if jarred else None
    assert reply.get_cookie_jar() == jar


def test_the_reply_of_the_handler_is_not_changed() -> None:
    """Two threads may return one object (contract 12.9)."""
    shared = make_reply(ReturnCode.OK)
    shared.set_cookie_jar({"own": 1})
    found = runner()
    found.register_aux_message_handler("t", lambda topic, request, fl_ctx: shared)
    reply = found.dispatch("t", request(), found.engine.new_context())
    assert reply.get_cookie_jar() == {"crumb": 7}
    assert shared.get_cookie_jar() == {"own": 1}
    assert shared.get_peer_props() is None


def test_the_handler_has_the_senders_context() -> None:
    """Private to the message: the next one has another."""
    contexts: list[FLContext] = []

    def keep(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        contexts.append(fl_ctx)
        return request

    server, client = wired_pair()
    server.register_aux_message_handler("t", keep)
    for color in ("red", "blue"):
        fl_ctx = client.new_context()
        fl_ctx.set_prop("color", color, private=False, sticky=False)
        client.send_aux_request("t", Shareable(), 1.0, fl_ctx)
    peers = [context.get_peer_context() for context in contexts]
    assert [peer.get_prop("color") for peer in peers] == ["red", "blue"]
    assert [peer.get_identity_name() for peer in peers] == ["site-1", "site-1"]
    assert contexts[0].get_engine() is server


def test_an_error_is_logged_and_fired() -> None:
    """Components hear of it, as in the seed era; the message is answered all the same."""
    recorder = Recorder()
    server, client = wired_pair()
    server.listen(recorder)
    client.send_aux_request("unknown", Shareable(), 1.0, client.new_context())
    assert recorder.heard == [EventType.ERROR_LOG_AVAILABLE]


# -- bulk -----------------------------------------------------------------------------------


def test_a_bulk_handles_what_is_good() -> None:
    """Of seven mixed items the two good ones; the failing one does not stop the rest."""
    noting, found = Noting(), runner()
    found.register_aux_message_handler("t", noting)
    found.register_aux_message_handler("raises", raises)

    def item(number: int, topic: str, props: Any = PROPS) -> Shareable:
        made = numbered(number)
        made.set_header(ReservedHeaderKey.TOPIC, topic)
        made.set_header(ReservedHeaderKey.PEER_PROPS, props)
        return made

    posing = item(6, "t", {**PROPS, "__identity_name__": "site-2"})
    mixed = [item(1, "t"), {}, item(2, "raises"), item(3, "no"), item(4, "t", {}), posing]
    bulk = request()
    bulk[BULK_DATA] = [*mixed, item(7, BULK_TOPIC), item(8, "t")]
    assert code(found, bulk, BULK_TOPIC) == ReturnCode.OK
    assert noting.numbers == [1, 8]


def test_a_bulk_ends_with_the_run() -> None:
    """After an abort nothing of it is handled any more."""
    noting, found = Noting(), runner()
    found.register_aux_message_handler("t", noting)
    bulk, item = request(), request()
    item.set_header(ReservedHeaderKey.TOPIC, "t")
    bulk[BULK_DATA] = [item]
    found.engine.abort_signal.trigger(True)
    assert code(found, bulk, BULK_TOPIC) == ReturnCode.OK
    assert noting.numbers == []


def test_a_bulk_is_a_list() -> None:
    """Anything else is BAD_REQUEST_DATA."""
    assert code(runner(), request(), BULK_TOPIC) == ReturnCode.BAD_REQUEST_DATA


# -- from the bus ---------------------------------------------------------------------------


def test_what_is_no_letter_is_answered() -> None:
    """Whoever speaks to the topic of the bus without an engine gets a reply that says so."""
    server, client = wired_pair()
    for body in (None, [], [{}, 7], [{"__headers__": 7}, {}]):
        reply = replied(client.bus.request(server.directory.topic("aux"), body, timeout=1.0))
        assert reply.get_return_code() == ReturnCode.BAD_REQUEST_DATA


def test_nobody_is_somebody_else() -> None:
    """The broker says who sent it; other public props cannot."""
    server, client = wired_pair()
    server.register_aux_message_handler("t", echo)
    letter = letter_of(Shareable(), "t", {**PROPS, "__identity_name__": "site-2"})
    reply = replied(client.bus.request(server.directory.topic("aux"), letter, timeout=1.0))
    assert reply.get_return_code() == ReturnCode.BAD_PEER_CONTEXT


@pytest.mark.parametrize("topic", [7, None, ["t"], {"t": 1}])
def test_a_topic_that_is_no_text_is_unknown(topic: Any) -> None:
    """Also one that cannot be hashed."""
    server, client = wired_pair()
    reply = replied(
        client.bus.request(
            server.directory.topic("aux"), letter_of(Shareable(), topic, PROPS), timeout=1.0
        )
    )
    assert reply.get_return_code() == ReturnCode.TOPIC_UNKNOWN


def test_headers_of_a_reply_that_cannot_be() -> None:
    """The sender is told, and does not wait."""
    server, client = wired_pair()
    bad = Shareable()
    bad["__headers__"] = [1]
    server.register_aux_message_handler("t", lambda topic, request, fl_ctx: bad)
    reply = client.send_aux_request("t", Shareable(), 1.0, client.new_context())
    assert reply.get_return_code() == ReturnCode.ERROR


@pytest.mark.real
def test_who_is_not_ready_is_waited_for(tmp_path: Path) -> None:
    """A request and a push that come before the handler is registered are handled by it."""
    noting = Noting()
    with bare_job(tmp_path) as made:
        server, client = made.add_server(), made.add_client("site-1")
        fl_ctx = client.new_context()
        client.fire_and_forget_aux_request("t", numbered(1), fl_ctx)
        thread, replies = in_a_thread(
            lambda: client.send_aux_request("t", numbered(2), BOUND_S, fl_ctx)
        )
        until(lambda: open_requests(client), "the request")
        assert not replies
        server.register_aux_message_handler("t", noting)
        ended(thread)
        assert replies[0].get_return_code() == ReturnCode.OK
        assert client.exchange.flush(BOUND_S) == 0
    assert sorted(noting.numbers) == [1, 2]


@pytest.mark.real
def test_who_does_not_become_ready_says_so(tmp_path: Path) -> None:
    """At the deadline: not ready, which is neither unknown nor another run (12.5)."""
    with bare_job(tmp_path) as made:
        made.add_server()
        client = made.add_client("site-1")
        reply = client.send_aux_request("t", Shareable(), 2.0, client.new_context())
        assert reply.get_return_code() == ReturnCode.SERVER_NOT_READY


def test_not_ready_is_a_code_of_its_own() -> None:
    """Before the start; after it the topic is unknown."""
    assert code(runner(started=False), request()) == ReturnCode.SERVER_NOT_READY
    assert code(runner(), request()) == ReturnCode.TOPIC_UNKNOWN


@pytest.mark.real
def test_a_batch_with_bad_letters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The good ones are handled, and the rest logged."""
    noting = Noting()
    with job(tmp_path) as made:
        client = made.clients["site-1"]
        client.register_aux_message_handler("t", noting)
        server = made.server
        server.fire_and_forget_aux_request(["site-1"], "t", numbered(1), server.new_context())
        assert server.exchange.flush(BOUND_S) == 0
        topic = server.directory.topic("tell")
        with caplog.at_level(logging.WARNING):
            bodies: list[Any] = [[7], [[]], [[b"\xc1"]], "none"]
            for body in bodies:
                server.bus.request(
                    topic, body, timeout=BOUND_S, to=client.directory.address("site-1")
                )
    assert noting.numbers == [1]
    assert len([r for r in caplog.records if "AuxRunner" in r.name]) == 4


@pytest.mark.real
def test_handlers_run_at_once(tmp_path: Path) -> None:
    """One that waits for another is no deadlock (12.17, 12.18)."""
    both = threading.Barrier(2)

    def meet(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        both.wait(BOUND_S)
        return request

    with job(tmp_path) as made:
        made.server.register_aux_message_handler("meet", meet)
        clients = list(made.clients.values())
        threads = [
            in_a_thread(
                lambda one=client: one.send_aux_request(  # type: ignore[misc]
                    "meet", Shareable(), BOUND_S, one.new_context()
                )
            )
            for client in clients
        ]
        for thread, replies in threads:
            ended(thread)
            assert replies[0].get_return_code() == ReturnCode.OK


def test_equipment_is_kept_apart() -> None:
    """What one engine is given is no other's."""
    assert Equipment().components is not Equipment().components
