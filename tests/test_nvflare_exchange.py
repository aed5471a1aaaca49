"""Targets to outcomes: an entry for each, one deadline, and arguments that cannot be meant."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, in_a_thread, until

from zbus import errors

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from flare_job import Job, codes, job, noting
from nvflare.apis.shareable import Shareable, make_reply

pytestmark = pytest.mark.real


@pytest.fixture
def flare(tmp_path: Path) -> Iterator[Job]:
    with job(tmp_path) as made:
        yield made


class Holding:
    """A handler that holds every request until told."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.entered = threading.Semaphore(0)

    def handle(self, topic: str, request: Any, fl_ctx: Any) -> Any:
        self.entered.release()
        self.go_on.wait(BOUND_S)
        return make_reply("OK")


def test_every_target_has_an_entry(flare: Job) -> None:
    """One that is unknown, one that does not know the topic, one that is gone; nvflare says {}."""
    flare.clients["site-2"].register_aux_message_handler(
        "t", lambda topic, request, fl_ctx: make_reply("OK")
    )
    flare.clients["site-3"].close(drain=0.0)
    client = flare.clients["site-1"]
    with client.new_context() as fl_ctx:
        replies = client.send_aux_request(
            ["site-2", "nobody", "server", "site-3"], "t", Shareable(), 5.0, fl_ctx
        )
    assert codes(replies) == {
        "site-2": "OK",
        "nobody": "COMMUNICATION_ERROR",
        "server": "TOPIC_UNKNOWN",
        "site-3": "COMMUNICATION_ERROR",
    }
    assert "nobody" in replies["nobody"].get_header("__error__")


def test_the_timeout_is_one_deadline(flare: Job) -> None:
    """Three targets that hang cost one timeout, and each entry says TIMEOUT."""
    holding = Holding()
    for client in flare.clients.values():
        client.register_aux_message_handler("t", holding.handle)
    with flare.server.new_context() as fl_ctx:
        began = time.monotonic()
        replies = flare.server.send_aux_request(None, "t", Shareable(), 0.5, fl_ctx)
        took = time.monotonic() - began
    holding.go_on.set()
    assert codes(replies) == dict.fromkeys(flare.clients, "TIMEOUT")
    assert 0.5 <= took < 1.4


def test_the_abort_signal_ends_it(flare: Job) -> None:
    """Long before the timeout: TASK_ABORTED."""
    holding = Holding()
    flare.server.register_aux_message_handler("t", holding.handle)
    client = flare.clients["site-1"]
    fl_ctx = client.new_context()
    thread, results = in_a_thread(
        lambda: client.send_aux_request(None, "t", Shareable(), 60.0, fl_ctx)
    )
    assert holding.entered.acquire(timeout=BOUND_S)
    client.abort_app("job-1", fl_ctx)
    thread.join(5.0)
    holding.go_on.set()
    assert codes(results[0]) == {"server": "TASK_ABORTED"}


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"topic": 1}, TypeError),
        ({"topic": ""}, ValueError),
        ({"request": {}}, TypeError),
        ({"timeout": None}, TypeError),
        ({"timeout": True}, TypeError),
        ({"timeout": -1.0}, ValueError),
        ({"timeout": math.nan}, ValueError),
        ({"timeout": math.inf}, ValueError),
        ({"fl_ctx": None}, TypeError),
        ({"targets": 7}, TypeError),
    ],
)
def test_arguments_that_cannot_be_meant(
    flare: Job, changed: dict[str, Any], error: type[Exception]
) -> None:
    """They raise at the caller; nvflare answers {}."""
    client = flare.clients["site-1"]
    arguments = {
        "targets": None,
        "topic": "t",
        "request": Shareable(),
        "timeout": 1,
        "fl_ctx": client.new_context(),
    }
    with pytest.raises(error):
        client.send_aux_request(**arguments | changed)


@pytest.mark.parametrize("timeout", [5.0, 0.0])
def test_what_cannot_be_encoded_raises(flare: Job, timeout: float) -> None:
    """With and without a timeout, and later requests go (contract 12, row 15)."""
    client = flare.clients["site-1"]
    poison = Shareable()
    poison["value"] = iter(())
    taken: list[Any] = []
    flare.server.register_aux_message_handler("t", noting(taken))
    with client.new_context() as fl_ctx:
        with pytest.raises(errors.UnencodableBody):
            client.send_aux_request(None, "t", poison, timeout, fl_ctx)
        assert codes(client.fire_and_forget_aux_request("t", Shareable(), fl_ctx)) == {
            "server": "OK"
        }
    assert client.exchange.flush(BOUND_S) == 0
    assert len(taken) == 1


def test_fire_and_forget_keeps_order_and_no_reference(flare: Job) -> None:
    """One Shareable under two topics arrives as it was each time (contract 12, row 10)."""
    taken: list[tuple[str, int]] = []

    def take(topic: str, request: Any, fl_ctx: Any) -> Any:
        taken.append((topic, request["n"]))
        return make_reply("OK")

    client = flare.clients["site-1"]
    for engine in (flare.server, flare.clients["site-2"]):
        engine.register_aux_message_handler("a", take)
        engine.register_aux_message_handler("b", take)
    request = Shareable()
    for target in (["server"], ["site-2"]):
        taken.clear()
        with client.new_context() as fl_ctx:
            for number in range(100):
                request["n"] = number
                topic = "ab"[number % 2]
                replies = client.send_aux_request(target, topic, request, 0, fl_ctx)
                assert codes(replies) == dict.fromkeys(target, "OK")
        until(lambda: len(taken) == 100, "all were handled")
        assert taken == [("ab"[number % 2], number) for number in range(100)]
    assert client.exchange.flush(BOUND_S) == 0
    assert client.peer.counters().accepted == 100, "those to the server took the push lane"


def test_the_bound_is_a_code(flare: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused fire-and-forget says SERVICE_UNAVAILABLE, to the server and to others."""
    client = flare.clients["site-1"]

    def full(*_: object) -> None:
        raise errors.Backpressure("full")

    monkeypatch.setattr(client.peer, "push", full)
    monkeypatch.setattr("zbus.engine.courier.Courier.accept", full)
    with client.new_context() as fl_ctx:
        replies = client.send_aux_request(["server", "site-2", "x"], "t", Shareable(), 0, fl_ctx)
    assert codes(replies) == {
        "server": "SERVICE_UNAVAILABLE",
        "site-2": "SERVICE_UNAVAILABLE",
        "x": "COMMUNICATION_ERROR",
    }
