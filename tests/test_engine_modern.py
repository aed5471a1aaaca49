"""The 2.3+ way to send: targets and dicts, on a real broker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, broker, until
from engine_stages import JOB, SITES, TIMED_OUT, Noting, Wire, codes, echo, numbered

from zbus.engine import ReturnCode, Shareable
from zbus.engine.modern import ModernClientEngine, ModernServerEngine
from zbus.errors import UnencodableBody

SEND = "targets topic request timeout fl_ctx optional secure".split()
MULTICAST = "topic target_requests timeout fl_ctx optional secure".split()


class Modern:
    """A server and two of its three clients, each with an echo and a note."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        here = stack.enter_context(broker(place))
        self.server = ModernServerEngine(JOB, SITES, endpoint=here.backend)
        stack.callback(self.server.close, drain=0.0)
        until(lambda: here.see(lambda daemon: daemon.broker.roster.topics()), "the topics")
        self.clients = [
            ModernClientEngine(site, JOB, SITES, endpoint=here.frontend) for site in SITES[:2]
        ]
        self.notings = {}
        for engine in (self.server, *self.clients):
            noting = self.notings[engine.directory.site] = Noting()
            engine.register_aux_message_handler("note", noting)
            engine.register_aux_message_handler("echo", echo)
            engine.start_run()
        for client in self.clients:
            stack.callback(client.close, drain=0.0)


@pytest.fixture
def modern(tmp_path: Path) -> Iterator[Modern]:
    with ExitStack() as stack:
        yield Modern(tmp_path, stack)


@pytest.mark.real
def test_targets_of_a_client(modern: Modern) -> None:
    """The server, everybody, one, some; an unknown one costs nobody else anything (13.3)."""
    client = modern.clients[0]

    def ask(targets: Any) -> dict[str, str]:
        fl_ctx = client.new_context()
        return codes(client.send_aux_request(targets, "echo", Shareable(), BOUND_S, fl_ctx))

    lost, fine = ReturnCode.COMMUNICATION_ERROR, ReturnCode.OK
    assert ask(None) == ask("SERVER") == {"server": fine}
    assert ask("@ALL") == {"server": fine, "site-2": fine, "site-3": lost}
    assert ask(["site-2", "nobody"]) == {"site-2": fine, "nobody": lost}
    with pytest.raises(TypeError):
        ask([7])


@pytest.mark.real
def test_multicast_for_real(modern: Modern) -> None:
    """A request for each, from both sides, with and without a timeout (13.2, 13.12)."""
    server, client = modern.server, modern.clients[0]
    for engine, name in ((server, "site-2"), (client, "server")):
        requests = {name: numbered(1), "nobody": numbered(2)}
        replies = engine.multicast_aux_requests("echo", requests, BOUND_S, engine.new_context())
        assert replies[name]["n"] == 1
        assert replies["nobody"].get_return_code() == ReturnCode.COMMUNICATION_ERROR
        told = engine.multicast_aux_requests("note", requests, 0, engine.new_context())
        assert told[name].get_return_code() == ReturnCode.OK
        assert engine.exchange.flush(BOUND_S) == 0
        assert modern.notings[name].numbers == [1]
        assert engine.multicast_aux_requests("note", {}, BOUND_S, engine.new_context()) == {}


@pytest.mark.real
def test_multicast_sends_nothing_where_one_cannot_be(modern: Modern) -> None:
    """The second request cannot be encoded, and the first was not sent."""
    server = modern.server
    requests = {"site-1": numbered(1), "site-2": numbered(object())}
    for timeout in (0.0, BOUND_S):
        with pytest.raises(UnencodableBody):
            server.multicast_aux_requests("note", requests, timeout, server.new_context())
    server.exchange.flush(BOUND_S)
    assert modern.notings["site-1"].numbers == []


@pytest.mark.real
def test_telling(modern: Modern) -> None:
    """The client the server, the server its clients."""
    server, client = modern.server, modern.clients[0]
    told = client.fire_and_forget_aux_request(
        topic="note", request=numbered(1), fl_ctx=client.new_context(), optional=True, secure=True
    )
    assert codes(told) == {"server": ReturnCode.OK}
    told = server.fire_and_forget_aux_request(["site-1"], "note", numbered(2), server.new_context())
    assert codes(told) == {"site-1": ReturnCode.OK}
    assert client.exchange.flush(BOUND_S) == server.exchange.flush(BOUND_S) == 0
    assert modern.notings["server"].numbers == [1]
    assert modern.notings["site-1"].numbers == [2]


def test_a_timeout_is_a_timeout() -> None:
    """Not COMMUNICATION_ERROR, as in the seed era."""
    wire = Wire()
    client = ModernClientEngine("site-1", JOB, attach=wire.attach)
    ModernServerEngine(JOB, ["site-1"], attach=wire.attach)
    wire.fault = TIMED_OUT
    replies = client.send_aux_request("server", "t", Shareable(), 1.0, client.new_context())
    assert codes(replies) == {"server": ReturnCode.TIMEOUT}


def test_arguments_that_raise() -> None:
    """As in the seed era: topic, timeout, context and request (13.4, 13.6, 13.7)."""
    server = ModernServerEngine(JOB, SITES, attach=Wire().attach)
    fl_ctx = server.new_context()
    request = Shareable()
    for arguments, kind in (
        (("site-1", "t", request, 1.0, fl_ctx), TypeError),
        ((None, "t", {}, 1.0, fl_ctx), TypeError),
        ((None, "", request, 1.0, fl_ctx), ValueError),
        ((None, "t", request, -1.0, fl_ctx), ValueError),
        ((None, "t", request, None, fl_ctx), TypeError),
        ((None, "t", request, 1.0, None), TypeError),
    ):
        with pytest.raises(kind):
            server.send_aux_request(*arguments)


def test_valid_targets() -> None:
    """Names that are there, and the rest."""
    client = ModernClientEngine("site-1", JOB, SITES, attach=Wire().attach)
    assert client.validate_targets(["Server", "x", "site-2"]) == (["Server", "site-2"], ["x"])
    assert client.get_cell() is None
    server = ModernServerEngine(JOB, SITES, attach=Wire().attach)
    assert server.validate_targets(["site-2", "x"]) == ([server.directory.clients["site-2"]], ["x"])


@pytest.mark.parametrize("engine", [ModernClientEngine, ModernServerEngine])
def test_parameter_names(engine: Any) -> None:
    """Components call by keyword."""
    assert [*inspect.signature(engine.send_aux_request).parameters][1:] == SEND
    assert [*inspect.signature(engine.multicast_aux_requests).parameters][1:] == MULTICAST


@pytest.mark.parametrize(
    ("engine", "home", "name"),
    [
        (
            ModernClientEngine,
            "nvflare.private.fed.client.client_engine_executor_spec",
            "ClientEngineExecutorSpec",
        ),
        (ModernServerEngine, "nvflare.apis.server_engine_spec", "ServerEngineSpec"),
    ],
)
def test_every_method_of_2_9_is_there_by_name_and_parameter(
    engine: Any, home: str, name: str
) -> None:
    """Whatever is abstract in the released specifications; components call by keyword."""
    spec = getattr(pytest.importorskip(home, reason="needs the extra nvflare"), name)
    for method in spec.__abstractmethods__:
        theirs = inspect.signature(getattr(spec, method)).parameters
        assert [*inspect.signature(getattr(engine, method)).parameters] == [*theirs], method


def test_what_only_the_parent_can_do_says_so() -> None:
    """By the keywords of 2.9."""
    server = ModernServerEngine(JOB, SITES, attach=Wire().attach)
    fl_ctx = server.new_context()
    calls: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
        (server.start_client_job, {"job": None, "client_sites": {}, "fl_ctx": fl_ctx}),
        (server.check_client_resources, {"job": None, "resource_reqs": {}, "fl_ctx": fl_ctx}),
        (
            server.cancel_client_resources,
            {"resource_check_results": {}, "resource_reqs": {}, "fl_ctx": fl_ctx},
        ),
        (server.update_job_run_status, {}),
    )
    for call, arguments in calls:
        with pytest.raises(NotImplementedError, match="parent"):
            call(**arguments)
