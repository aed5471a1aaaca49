"""Peers whose requests are noted in a ledger: zbus/demo/witness.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zbus.demo.ledger import REPLIED, Kind, Ledger, Record, read
from zbus.demo.plan import REQUEST_S
from zbus.demo.witness import Witness, witnessed
from zbus.errors import Backpressure, HandlerError, NoHandler, TooLarge
from zbus.peer.dispatcher import Incoming
from zbus.peer.peer import Peer


class Stand:
    """Stands in for a peer: answers at once, or as it was told."""

    name = "engine-1"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.refusals = 0
        self.pushed: list[Any] = []
        self.asked: list[tuple[str, Any, dict[str, Any]]] = []
        self.future: Future[Any] = Future()
        self.closed = False

    def request(self, topic: str, body: Any, **options: Any) -> Any:
        self.asked.append((topic, body, options))
        if self.error is not None:
            raise self.error
        return "reply"

    def submit(self, topic: str, body: Any, **options: Any) -> Future[Any]:
        self.request(topic, body, **options)
        return self.future

    def push(self, topic: str, body: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Backpressure()
        self.pushed.append((topic, body))

    def flush(self, *, timeout: float) -> int:
        return 0

    def counters(self) -> Any:
        return SimpleNamespace(_asdict=lambda: {"accepted": len(self.pushed)})

    def close(self) -> None:
        self.closed = True


class Noted(Witness):
    """A witness with its stand-in and its ledger in sight."""

    def __init__(self, path: Path) -> None:
        self.stand = Stand()
        self.path = path
        super().__init__(cast(Peer, self.stand), Ledger(path))

    def records(self) -> list[Record]:
        return [*read(self.path)]

    def told(self) -> list[tuple[Kind, Any]]:
        return [(record.kind, record.detail) for record in self.records()]


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[Noted]:
    """A witness that has asked nothing yet."""
    witness = Noted(tmp_path / "ledger")
    yield witness
    if not witness.stand.closed:
        witness.ledger.close()


def test_a_request_is_noted_at_both_ends(noted: Noted) -> None:
    """Under one id, which travels as its trace context."""
    assert noted.request("job.ask", {"a": 1}, to="engine-2") == "reply"
    assert noted.told() == [(Kind.BEGUN, "job.ask"), (Kind.ENDED, REPLIED)]
    begun, ended = noted.records()
    options = {"timeout": REQUEST_S, "to": "engine-2", "trace": begun.key}
    assert noted.stand.asked == [("job.ask", {"a": 1}, options)]
    assert begun.key == ended.key


def test_an_error_is_noted_and_raised(noted: Noted) -> None:
    """With its kind, and whether the handler ran."""
    noted.stand.error = HandlerError("it raised")
    with pytest.raises(HandlerError):
        noted.request("job.ask", None)
    assert noted.told()[1] == (Kind.ENDED, "HandlerError, executed=yes")


@pytest.mark.parametrize("error", [None, NoHandler()])
def test_a_submitted_request_ends_when_its_future_does(
    noted: Noted, error: Exception | None
) -> None:
    """Not before, and as it does."""
    future = noted.submit("job.ask", None)
    assert noted.told() == [(Kind.BEGUN, "job.ask")]
    if error is None:
        noted.stand.future.set_result(1)
    else:
        noted.stand.future.set_exception(error)
    end = REPLIED if error is None else "NoHandler, executed=no"
    assert noted.told()[1:] == [(Kind.ENDED, end)]
    assert future is noted.stand.future


def test_what_cannot_be_submitted_has_ended(noted: Noted) -> None:
    """It raises at once, so nobody waits for it."""
    noted.stand.error = TooLarge()
    with pytest.raises(TooLarge):
        noted.submit("job.ask", None)
    assert noted.told()[1] == (Kind.ENDED, "TooLarge, executed=no")
    assert noted.close()


def test_ids_are_unique_trace_contexts(tmp_path: Path) -> None:
    """Also across lives, as W3C writes them."""
    keys: Counter[str] = Counter()
    for life in range(3):
        noted = Noted(tmp_path / str(life))
        for _ in range(20):
            noted.request("job.ask", None)
        noted.close()
        keys.update(record.key for record in noted.records() if record.kind is Kind.BEGUN)
    assert keys.total() == len(keys) == 60
    for key in keys:
        version, trace, span, flags = key.split("-")
        assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
        assert int(trace, 16)
        assert int(span, 16)


def test_a_refused_push_is_pushed_again(noted: Noted) -> None:
    """Once there is room, and once only."""
    noted.stand.refusals = 3
    noted.push("metrics", 1)
    assert noted.stand.pushed == [("metrics", 1)]


def test_close_waits_for_what_is_open(noted: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so where it waits in vain; what was counted is noted either way."""
    monkeypatch.setattr("zbus.demo.witness.REQUEST_S", 0.01)
    noted.push("metrics", 1)
    noted.submit("job.ask", None)
    assert noted.close() is False
    assert noted.told()[-1] == (Kind.COUNTED, {"accepted": 1})
    assert noted.records()[-1].key == "engine-1"
    assert noted.stand.closed


def test_handlers_note_that_they_start(tmp_path: Path) -> None:
    """Before they run, for whom, and for requests only."""
    ledger = Ledger(tmp_path / "ledger")
    seen: list[int] = []

    def answer(body: Any, request: Incoming) -> str:
        seen.append(len([*read(tmp_path / "ledger")]))
        return f"{body} for {request.source}"

    dispatcher = witnessed(ledger, {"job.ask": answer, "other": answer})
    assert dispatcher.topics == ("job.ask", "other")
    handler = dispatcher.handler("job.ask")
    assert handler is not None
    assert handler.takes_request
    assert not handler.is_async
    asked = SimpleNamespace(is_push=False, trace="id", source="engine-1")
    pushed = SimpleNamespace(is_push=True, trace="", source="engine-2")
    assert handler.function("body", asked) == "body for engine-1"
    assert handler.function("body", pushed) == "body for engine-2"
    ledger.close()
    assert seen == [1, 1]
    (started,) = read(tmp_path / "ledger")
    assert started[1:] == (Kind.STARTED, "id", "engine-1")
