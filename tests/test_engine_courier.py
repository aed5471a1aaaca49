"""Fire-and-forget by name: order, bound, batches, and what is dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, broker, ended, in_a_thread, until
from engine_stages import Done, WiredBus

import zbus
from zbus.engine.courier import Courier
from zbus.engine.letters import sealed, unsealed, weight_of
from zbus.errors import Backpressure, NoTarget, TargetLost, UnencodableBody, ZbusError


class SlowBus(WiredBus):
    """Requests end when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[Any]]] = []
        self.open: list[Callable[[Any], object]] = []
        self.refuses: ZbusError | None = None

    def submit(self, topic: str, body: Any = None, *, to: str = "", **_: Any) -> Any:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((to, [unsealed(parts)[0]["n"] for parts in body]))
        return self

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        self.open.append(fn)

    def end(self, value: Any = None) -> None:
        self.open.pop(0)(Done(value))


def letter(number: int, content: Any = None) -> list[bytes]:
    return sealed([{"n": number, "content": content}, {}])


def test_one_batch_at_a_time_and_in_order() -> None:
    """To each peer; one that is slow keeps no other waiting (12.18)."""
    bus = SlowBus()
    courier = Courier(bus, "tell", weight_of)
    for number in range(4):
        courier.accept("a", letter(number))
    courier.accept("b", letter(9))
    assert bus.sent == [("a", [0]), ("b", [9])]
    bus.end()
    assert bus.sent[2:] == [("a", [1, 2, 3])]
    assert courier.unsettled == 4
    bus.end()
    bus.end()
    assert courier.flush(0.0) == courier.dropped == 0
    courier.accept("a", letter(10))
    assert bus.sent[-1] == ("a", [10])


def test_batches_are_bounded() -> None:
    """By number and by bytes; one that is larger goes alone."""
    bus = SlowBus()
    courier = Courier(bus, "tell", weight_of)
    for number in range(100):
        courier.accept("a", letter(number))
    bus.end()
    assert bus.sent[1] == ("a", list(range(1, 65)))
    bus.end()
    for number in range(100, 103):
        courier.accept("a", letter(number, bytes(200_000)))
    bus.end()
    bus.end()
    assert [numbers for _, numbers in bus.sent[3:]] == [[100], [101]]


def test_the_bound() -> None:
    """At it nothing is accepted; below it again, it is (12.11)."""
    bus = SlowBus()
    courier = Courier(bus, "tell", weight_of, letters_max=2)
    courier.accept("a", letter(0))
    courier.accept("b", letter(1))
    with pytest.raises(Backpressure):
        courier.accept("b", letter(2))
    bus.end()
    courier.accept("b", letter(3))
    bus.end()
    assert bus.sent == [("a", [0]), ("b", [1]), ("b", [3])]


def test_what_is_lost_is_counted_and_not_sent_again() -> None:
    """At most once (12.13); what comes after it is sent."""
    bus = SlowBus()
    courier = Courier(bus, "tell", weight_of)
    for number in range(3):
        courier.accept("a", letter(number))
    bus.end(TargetLost())
    assert courier.dropped == 1
    assert bus.sent == [("a", [0]), ("a", [1, 2])]
    bus.end()
    bus.refuses = NoTarget()
    courier.accept("a", letter(4))
    assert (courier.dropped, courier.unsettled) == (2, 0)


def test_what_cannot_be_encoded_raises_and_costs_nothing() -> None:
    """At the caller, and what follows goes its way (12.15)."""
    bus = SlowBus()
    courier = Courier(bus, "tell", weight_of)
    with pytest.raises(UnencodableBody):
        courier.accept("a", letter(0, object()))
    courier.accept("a", letter(1))
    assert bus.sent == [("a", [1])]


def test_flush_waits_and_ends() -> None:
    """When all is settled, or the time is up."""
    bus = SlowBus()
    courier = Courier(bus, "tell", weight_of)
    courier.accept("a", letter(0))
    assert courier.flush(0.01) == 1
    began = time.monotonic()
    thread, results = in_a_thread(lambda: courier.flush(BOUND_S))
    threading.Timer(0.02, bus.end).start()
    ended(thread)
    assert results == [0]
    assert time.monotonic() - began < BOUND_S / 2


# -- over a real broker ------------------------------------------------------------------------


@pytest.mark.real
def test_order_is_kept(runtime_dir: Path) -> None:
    """A thousand letters of one thread come in the order in which they were accepted, and once."""
    taken: list[bytes] = []
    dispatcher = zbus.Dispatcher()
    dispatcher.add("aux", lambda body: taken.extend(body))
    with (
        broker(runtime_dir) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux", len)
        letters = [b"%d" % number for number in range(1_000)]
        for letter in letters:
            courier.accept("target", letter)
        assert courier.flush(BOUND_S) == 0
    assert taken == letters
    assert courier.dropped == 0


@pytest.mark.real
def test_who_is_not_there_costs_nobody_else(runtime_dir: Path) -> None:
    """What cannot be delivered is counted; the other lane is whole."""
    taken: list[bytes] = []
    dispatcher = zbus.Dispatcher()
    dispatcher.add("aux", lambda body: taken.extend(body))
    with (
        broker(runtime_dir) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux", len)
        for _ in range(10):
            courier.accept("nobody", b"x")
            courier.accept("target", b"y")
        assert courier.flush(BOUND_S) == 0
    assert taken == [b"y"] * 10
    assert courier.dropped == 10


@pytest.mark.real
def test_one_batch_is_under_way_at_a_time(runtime_dir: Path) -> None:
    """While one is handled, the rest waits with the sender; otherwise the order were luck."""
    go_on = threading.Event()
    begun: list[Any] = []

    def hold(body: Any) -> None:
        begun.append(body)
        assert go_on.wait(BOUND_S)

    dispatcher = zbus.Dispatcher()
    dispatcher.add("aux", hold)
    dispatcher.add("probe", lambda body: len(begun))
    with (
        broker(runtime_dir) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux", len)
        for number in range(6):
            courier.accept("target", b"%d" % number)
        for _ in range(5):  # these go behind whatever was sent
            assert sender.request("probe", to="target", timeout=BOUND_S) <= 1
        go_on.set()
        assert courier.flush(BOUND_S) == 0
    assert begun == [[b"0"], [b"1", b"2", b"3", b"4", b"5"]]


@pytest.mark.real
def test_the_bound_is_told_at_once(runtime_dir: Path) -> None:
    """``accept`` raises at the bound and waits for nobody; once there is room it takes again."""
    go_on = threading.Event()
    taken: list[Any] = []

    def hold(body: Any) -> None:
        assert go_on.wait(BOUND_S)
        taken.extend(body)

    dispatcher = zbus.Dispatcher()
    dispatcher.add("aux", hold)
    with (
        broker(runtime_dir) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux", len, letters_max=3)
        for _ in range(3):
            courier.accept("target", b"x")
        with pytest.raises(Backpressure):
            courier.accept("target", b"x")
        assert courier.flush(0.01) == 3
        go_on.set()
        until(lambda: courier.flush(0.01) == 0, "the letters are settled")
        courier.accept("target", b"x")
        assert courier.flush(BOUND_S) == 0
    assert len(taken) == 4


@pytest.mark.real
def test_after_the_end_nothing_hangs(runtime_dir: Path) -> None:
    """A closed peer's letters are dropped and counted."""
    with broker(runtime_dir) as here:
        sender = zbus.connect(here.frontend, "sender")
        courier = Courier(sender, "aux", len)
        sender.close()
        courier.accept("target", b"x")
        assert courier.flush(BOUND_S) == 0
    assert courier.dropped == 1
