"""Components of nvflare's own, unmodified, over the bus: events, reliable messages, peer to peer.

Rules of this room:

* What stands in for a user's code is what a user would write; all else is nvflare's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, until

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from flare_job import SITES, Job, bare_job, codes, sync_executor
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import EventScope, FLContextKey
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.apis.utils.reliable_message import ReliableMessage
from nvflare.widgets.fed_event import ClientFedEventRunner, ServerFedEventRunner

from zbus.nvflare.job_engine import Equipment

pytestmark = pytest.mark.real


@pytest.fixture
def flare(tmp_path: Path) -> Iterator[Job]:
    with bare_job(tmp_path) as made:
        yield made


def begin(engine: Any) -> None:
    with engine.new_context() as fl_ctx:
        engine.fire_event(EventType.START_RUN, fl_ctx)


def end(engine: Any) -> None:
    with engine.new_context() as fl_ctx:
        engine.fire_event(EventType.END_RUN, fl_ctx)


class Listener(FLComponent):
    """Notes the federated events that come in."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Any, Any]] = []

    def handle_event(self, event_type: str, fl_ctx: Any) -> None:
        if event_type == "news":
            event = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
            if event.get_peer_props():
                self.heard.append((event["n"], event.get_peer_prop("__identity_name__", None)))


def fire_fed_event(engine: Any, number: int) -> None:
    event = Shareable()
    event["n"] = number
    with engine.new_context() as fl_ctx:
        fl_ctx.set_prop(FLContextKey.EVENT_DATA, event, private=True, sticky=False)
        fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, EventScope.FEDERATION, private=True, sticky=False)
        engine.fire_event("news", fl_ctx)


def test_federated_events(flare: Job) -> None:
    """nvflare's two event runners: clients tell the server, in order; the server tells all."""
    listeners = {name: Listener() for name in ("server", *SITES[:2])}
    runner = ServerFedEventRunner(grace_period=0.1)
    server = flare.add_server(Equipment(handlers=[runner, listeners["server"]]))
    engines = [server]
    for site in SITES[:2]:
        fed = ClientFedEventRunner()
        fed.grace_period = 0.1
        engines.append(flare.add_client(site, Equipment(handlers=[fed, listeners[site]])))
    for engine in engines:
        begin(engine)
    for number in range(20):
        fire_fed_event(engines[1], number)
    fire_fed_event(server, 99)
    until(lambda: len(listeners["server"].heard) == 20, "the server heard")
    for site in SITES[:2]:
        until(lambda site=site: listeners[site].heard, f"{site} heard")  # type: ignore[misc]
        assert listeners[site].heard == [(99, "server")]
    assert listeners["server"].heard == [(number, "site-1") for number in range(20)]
    for engine in engines:
        end(engine)


class Trainer(FLComponent):
    """What a user writes: a component that asks by way of its context's engine."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: dict[str, Any] = {}

    def handle_event(self, event_type: str, fl_ctx: Any) -> None:
        if event_type == EventType.START_RUN:
            engine = fl_ctx.get_engine()
            self.replies = engine.send_aux_request(
                targets=["server"],
                topic="advice",
                request=Shareable({"round": 1}),
                timeout=5.0,
                fl_ctx=fl_ctx,
                optional=True,
                secure=False,
            )


def test_a_users_component(flare: Job) -> None:
    """``fl_ctx.get_engine().send_aux_request(...)`` from an event's handler."""
    server = flare.add_server()

    def advise(topic: str, request: Any, fl_ctx: Any) -> Any:
        reply = make_reply("OK")
        reply["rate"] = request["round"] / 10
        return reply

    server.register_aux_message_handler(topic="advice", message_handle_func=advise)
    trainer = Trainer()
    begin(flare.add_client("site-1", Equipment(handlers=[trainer])))
    assert codes(trainer.replies) == {"server": "OK"}
    assert trainer.replies["server"]["rate"] == 0.1


def test_multicast_has_results(flare: Job) -> None:
    """From the server and from a client; nvflare 2.9 itself always answers {}."""
    flare.add_server()
    for site in SITES:
        flare.add_client(site)

    def double(topic: str, request: Any, fl_ctx: Any) -> Any:
        reply = make_reply("OK")
        reply["n"] = 2 * request["n"]
        return reply

    for engine in (flare.server, *flare.clients.values()):
        engine.register_aux_message_handler("double", double)
    for engine, targets in (
        (flare.server, SITES),
        (flare.clients["site-1"], ("server", "site-2", "site-3")),
    ):
        requests = {name: Shareable({"n": number}) for number, name in enumerate(targets)}
        with engine.new_context() as fl_ctx:
            replies = engine.multicast_aux_requests(
                "double", {**requests, "x": Shareable()}, 5.0, fl_ctx
            )
        assert {name: replies[name]["n"] for name in targets} == {
            name: 2 * number for number, name in enumerate(targets)
        }
        assert replies["x"].get_return_code() == "COMMUNICATION_ERROR"


def test_reliable_messages(flare: Job) -> None:
    """nvflare's ReliableMessage, whose request outlives its messages' timeouts: handled once."""
    handled: list[int] = []
    go_on = threading.Event()

    def work(topic: str, request: Any, fl_ctx: Any) -> Any:
        handled.append(request["n"])
        go_on.wait(BOUND_S)
        reply = make_reply("OK")
        reply["n"] = request["n"] + 1
        return reply

    server, client = flare.add_server(), flare.add_client("site-1")
    with server.new_context() as fl_ctx:
        ReliableMessage.enable(fl_ctx)
        ReliableMessage.register_request_handler("work", work, fl_ctx)
        # Both sides of it live in this process, and share what it keeps by class.
        client.register_aux_message_handler("RM.RELIABLE_REPLY", ReliableMessage._receive_reply)
    threading.Timer(1.0, go_on.set).start()
    with client.new_context() as fl_ctx:
        reply = ReliableMessage.send_request(
            "server", "work", Shareable({"n": 7}), 0.5, 20.0, Signal(), fl_ctx
        )
    assert reply["n"] == 8
    assert handled == [7]
    ReliableMessage.shutdown()


class Averaging(sync_executor().SyncAlgorithmExecutor):  # type: ignore[misc]
    """A peer-to-peer algorithm: each round the mean of the own value and the neighbours'."""

    def __init__(self, value: float) -> None:
        super().__init__(sync_timeout=10)
        self.value = value

    def run_algorithm(self, fl_ctx: Any, shareable: Any, abort_signal: Any) -> None:
        for iteration in range(3):
            self._exchange_values(fl_ctx, self.value, iteration)
            values = self.neighbors_values[iteration].values()
            self.value = (self.value + sum(values)) / (1 + len(values))


def test_peer_to_peer(flare: Job) -> None:
    """nvflare's SyncAlgorithmExecutor: clients exchange values by name, with an int as timeout."""
    executors = {site: Averaging(float(number)) for number, site in enumerate(SITES)}
    for site, executor in executors.items():
        flare.add_client(site, Equipment(handlers=[executor]))
        begin(flare.clients[site])
    threads = []
    for site, executor in executors.items():
        # Neighbours are named by what send_aux_request takes.
        neighbors = [{"id": each, "weight": 0.3} for each in SITES if each != site]
        config = DXO(DataKind.APP_DEFINED, data={"neighbors": neighbors}).to_shareable()
        fl_ctx = flare.clients[site].new_context()
        assert executor.execute("config", config, fl_ctx, Signal()).get_return_code() == "OK"
        arguments = ("run_algorithm", Shareable(), fl_ctx, Signal())
        threads.append(threading.Thread(target=executor.execute, args=arguments))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert [executor.value for executor in executors.values()] == pytest.approx([1.0] * len(SITES))
