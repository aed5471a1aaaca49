"""Engines whose requests are noted in a ledger: zbus/demo/witness.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_stages import TIMED_OUT, Wire, WiredBus

from zbus.demo.ledger import REPLIED, Kind, Ledger, Record, read
from zbus.demo.witness import ID_HEADER, Witness, WitnessedClient, WitnessedServer, end_of
from zbus.engine import FLContext, ReturnCode, Shareable, make_reply
from zbus.errors import UnencodableBody
from zbus.peer.dispatcher import Dispatcher

NAMES = ("engine-1", "engine-2")


class CountingBus(WiredBus):
    """A bus that counts as a peer does."""

    def counters(self) -> Any:
        return SimpleNamespace(_asdict=lambda: {"accepted": 7})


class Stage:
    """A server and its two clients, each with a ledger, on a wire."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.wire = Wire()
        self.ids: list[object] = []
        self.server = WitnessedServer(self._witness("server"), "job", NAMES, attach=self._attach)
        self.clients = [
            WitnessedClient(self._witness(name), name, "job", attach=self._attach) for name in NAMES
        ]

    def _witness(self, name: str) -> Witness:
        return Witness(Ledger(self.place / name))

    def _attach(self, name: str, dispatcher: Dispatcher) -> WiredBus:
        bus = self.wire.peers[name] = CountingBus(self.wire, name, dispatcher)
        return bus

    def start(self) -> None:
        for engine in (self.server, *self.clients):
            engine.register_aux_message_handler("echo", self._echo)
            engine.register_aux_message_handler("raises", _raise)
            engine.start_run()

    def _echo(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self.ids.append(request.get_header(ID_HEADER))
        return Shareable({"n": request["n"]})

    def ask(self, topic: str, request: Shareable | None = None) -> Shareable:
        """As engine-1, the server."""
        client = self.clients[0]
        request = Shareable({"n": 1}) if request is None else request
        return client.send_aux_request(topic, request, 1.0, client.new_context())

    def ask_all(self, topic: str) -> dict[str, Shareable]:
        """As the server, every client."""
        request = Shareable({"n": 1})
        return self.server.send_aux_request(None, topic, request, 1.0, self.server.new_context())

    def noted(self, name: str) -> list[Record]:
        return [*read(self.place / name)]

    def told(self, name: str) -> list[tuple[Kind, Any]]:
        return [(record.kind, record.detail) for record in self.noted(name)]


def _raise(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
    raise ValueError("planted")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Engines whose run has started."""
    stage = Stage(tmp_path)
    stage.start()
    return stage


def test_a_request_is_noted_where_it_begins_starts_and_ends(stage: Stage) -> None:
    """With one key in both ledgers, that names who is asked."""
    assert stage.ask("echo")["n"] == 1
    assert stage.told("engine-1") == [(Kind.BEGUN, "echo"), (Kind.ENDED, REPLIED)]
    assert stage.told("server") == [(Kind.STARTED, "engine-1")]
    (key,) = {record.key for name in ("engine-1", "server") for record in stage.noted(name)}
    assert key.endswith(" server")


def test_a_request_to_many_is_as_many(stage: Stage) -> None:
    """Each with a start, and an end of its own."""
    assert [*stage.ask_all("echo")] == [*NAMES]
    kinds = [kind for kind, _ in stage.told("server")]
    assert kinds == [Kind.BEGUN, Kind.BEGUN, Kind.ENDED, Kind.ENDED]
    for name in NAMES:
        (started,) = stage.noted(name)
        assert started[1:] == (Kind.STARTED, started.key, "server")
        asked = [record.kind for record in stage.noted("server") if record.key == started.key]
        assert asked == [Kind.BEGUN, Kind.ENDED]


def test_every_request_has_another_id(stage: Stage) -> None:
    """And the caller's Shareable has none, however often it is sent."""
    request = Shareable({"n": 1})
    for _ in range(3):
        stage.ask("echo", request)
    stage.ask_all("echo")
    assert len(set(stage.ids)) == 4
    assert request == Shareable({"n": 1})


def test_what_is_told_has_no_id(stage: Stage) -> None:
    """Its handler notes nothing, and nobody waits for its end."""
    client = stage.clients[0]
    request = Shareable({"n": 1})
    accepted = client.fire_and_forget_aux_request("echo", request, client.new_context())
    assert accepted.get_return_code() == ReturnCode.OK
    assert stage.ids == [None]
    assert stage.noted("engine-1") == stage.noted("server") == []


@pytest.mark.parametrize(
    ("spoil", "topic", "end"),
    [
        (None, "raises", "HANDLER_EXCEPTION"),
        (None, "unknown", "TOPIC_UNKNOWN"),
        (TIMED_OUT, "echo", "COMMUNICATION_ERROR ZB-301, executed=maybe"),
    ],
)
def test_a_failed_request_ends_with_its_code(
    stage: Stage, spoil: Any, topic: str, end: str
) -> None:
    """And with what the bus said, where the code is the bus's own."""
    stage.wire.fault = spoil
    assert end_of(stage.ask(topic)) == end
    stage.ask_all(topic)
    for name, count in (("engine-1", 1), ("server", 2)):
        ends = [detail for kind, detail in stage.told(name) if kind is Kind.ENDED]
        assert ends == [end] * count


def test_a_request_that_raises_has_ended(stage: Stage) -> None:
    """It was never sent, and nobody waits for it."""
    with pytest.raises(UnencodableBody):
        stage.ask("echo", Shareable({"n": object()}))
    assert stage.told("engine-1") == [(Kind.BEGUN, "echo"), (Kind.ENDED, "raised")]
    assert stage.clients[0].witness.settle(0.0)
    server, request = stage.server, Shareable({"n": object()})
    with pytest.raises(UnencodableBody):
        server.send_aux_request(None, "echo", request, 1.0, server.new_context())
    ends = [(Kind.BEGUN, "echo")] * 2 + [(Kind.ENDED, "raised")] * 2
    assert stage.told("server") == ends
    assert server.witness.settle(0.0)


def test_whoever_leaves_notes_what_it_counted(stage: Stage) -> None:
    """Under its site's name, behind the end of its run."""
    for engine, name in ((stage.server, "server"), (stage.clients[0], "engine-1")):
        assert engine.leave() is True
        assert engine.is_over
        assert stage.noted(name)[-1][1:] == (Kind.COUNTED, name, {"accepted": 7})
    assert [*stage.wire.peers] == ["engine-2.job"]


def test_whoever_leaves_waits_for_what_is_open(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so where it waits in vain."""
    monkeypatch.setattr("zbus.demo.witness.REQUEST_S", 0.01)
    stage.clients[0].witness.begin("key", "echo")
    assert stage.clients[0].leave() is False


def test_settling_ends_with_the_last_request(tmp_path: Path) -> None:
    """In whatever thread that ends."""
    witness = Witness(Ledger(tmp_path / "ledger"))
    witness.begin("one", "echo")
    end: Callable[[], None] = lambda: witness.end("one", REPLIED)  # noqa: E731
    thread = threading.Thread(target=end)
    assert not witness.settle(0.0)
    thread.start()
    assert witness.settle(20.0)
    thread.join()


def test_a_code_alone_is_how_it_ended() -> None:
    """OK is a reply, whoever gave it."""
    assert end_of(make_reply(ReturnCode.OK)) == end_of(Shareable()) == REPLIED
    assert end_of(make_reply(ReturnCode.ERROR)) == "ERROR"
