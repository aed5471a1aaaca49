"""Fire-and-forget to peers by name: order, bound, and what is not delivered."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, broker, until

import zbus

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from zbus.nvflare.courier import Courier

pytestmark = pytest.mark.real


def test_order_is_kept(tmp_path: Path) -> None:
    """A thousand letters of one thread come in the order in which they were accepted, and once."""
    taken: list[bytes] = []
    dispatcher = zbus.Dispatcher()
    dispatcher.add("aux", lambda body: taken.extend(body))
    with (
        broker(tmp_path) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux")
        letters = [b"%d" % number for number in range(1_000)]
        for letter in letters:
            courier.accept("target", letter)
        assert courier.flush(BOUND_S) == 0
    assert taken == letters
    assert courier.dropped == 0


def test_who_is_not_there_costs_nobody_else(tmp_path: Path) -> None:
    """What cannot be delivered is counted; the other lane is whole."""
    taken: list[bytes] = []
    dispatcher = zbus.Dispatcher()
    dispatcher.add("aux", lambda body: taken.extend(body))
    with (
        broker(tmp_path) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux")
        for _ in range(10):
            courier.accept("nobody", b"x")
            courier.accept("target", b"y")
        assert courier.flush(BOUND_S) == 0
    assert taken == [b"y"] * 10
    assert courier.dropped == 10


def test_one_batch_is_under_way_at_a_time(tmp_path: Path) -> None:
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
        broker(tmp_path) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux")
        for number in range(6):
            courier.accept("target", b"%d" % number)
        for _ in range(5):  # these go behind whatever was sent
            assert sender.request("probe", to="target", timeout=BOUND_S) <= 1
        go_on.set()
        assert courier.flush(BOUND_S) == 0
    assert begun == [[b"0"], [b"1", b"2", b"3", b"4", b"5"]]


def test_the_bound_is_told_at_once(tmp_path: Path) -> None:
    """``accept`` raises at the bound and waits for nobody; once there is room it takes again."""
    go_on = threading.Event()
    taken: list[Any] = []

    def hold(body: Any) -> None:
        assert go_on.wait(BOUND_S)
        taken.extend(body)

    dispatcher = zbus.Dispatcher()
    dispatcher.add("aux", hold)
    with (
        broker(tmp_path) as here,
        zbus.connect(here.frontend, "target", dispatcher=dispatcher),
        zbus.connect(here.frontend, "sender") as sender,
    ):
        courier = Courier(sender, "aux", letters_max=3)
        for _ in range(3):
            courier.accept("target", b"x")
        with pytest.raises(zbus.Backpressure):
            courier.accept("target", b"x")
        assert courier.flush(0.01) == 3
        go_on.set()
        until(lambda: courier.flush(0.01) == 0, "the letters are settled")
        courier.accept("target", b"x")
        assert courier.flush(BOUND_S) == 0
    assert len(taken) == 4


def test_after_the_end_nothing_hangs(tmp_path: Path) -> None:
    """A closed peer's letters are dropped and counted."""
    with broker(tmp_path) as here:
        sender = zbus.connect(here.frontend, "sender")
        courier = Courier(sender, "aux")
        sender.close()
        courier.accept("target", b"x")
        assert courier.flush(BOUND_S) == 0
    assert courier.dropped == 1
