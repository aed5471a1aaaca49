"""One thread sleeps, others wake it, and no wake is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from zbus.transport.bell import Bell

BOUND_S = 10.0


@pytest.fixture
def bell() -> Iterator[Bell]:
    opened = Bell()
    yield opened
    opened.close()


class Sleeper(threading.Thread):
    """A thread that sleeps there, and what woke it."""

    def __init__(self, bell: Bell, timeout_s: float | None) -> None:
        super().__init__()
        self.bell = bell
        self.timeout_s = timeout_s
        self.woken_by: set[int] | None = None

    def run(self) -> None:
        self.woken_by = self.bell.sleep(self.timeout_s)


def sleeping(bell: Bell, timeout_s: float | None = None) -> Sleeper:
    """A thread that has fallen asleep there."""
    sleeper = Sleeper(bell, timeout_s)
    sleeper.start()
    until = time.monotonic() + BOUND_S
    while not bell._sleeping:
        assert time.monotonic() < until
    return sleeper


def seconds(act: Callable[[], object]) -> float:
    before = time.monotonic()
    act()
    return time.monotonic() - before


def test_it_sleeps_for_its_time(bell: Bell) -> None:
    """Never shorter when nothing happens, and not at all for no time or less."""
    assert seconds(lambda: bell.sleep(0.05)) >= 0.05
    assert seconds(lambda: bell.sleep(0.0)) < BOUND_S
    assert seconds(lambda: bell.sleep(-1.0)) < BOUND_S


def test_it_tells_which_descriptors_can_be_read(bell: Bell) -> None:
    """Each that can be read, until it has been read or is ignored; its own never."""
    (one, write_one), (other, write_other) = os.pipe(), os.pipe()
    bell.watch(one)
    bell.watch(other)
    assert bell.sleep(0.0) == set()
    os.write(write_one, b"x")
    os.write(write_other, b"x")
    assert bell.sleep(None) == bell.sleep(None) == {one, other}
    bell.ignore(one)
    bell.ring()
    assert bell.sleep(None) == {other}
    os.read(other, 1)
    assert bell.sleep(0.0) == set()
    for descriptor in (one, write_one, other, write_other):
        os.close(descriptor)


def test_a_ring_before_the_sleep_is_not_lost(bell: Bell) -> None:
    """It ends the next sleep, one only however often it rang."""
    for _ in range(3):
        bell.ring()
    bell.sleep(None)
    assert seconds(lambda: bell.sleep(0.05)) >= 0.05


@pytest.mark.parametrize("timeout_s", [None, 60.0, float("inf")])
def test_a_ring_ends_a_sleep(bell: Bell, timeout_s: float | None) -> None:
    """Whatever the time-out, a sleeping thread returns, and can sleep again afterwards."""
    sleeper = sleeping(bell, timeout_s)
    bell.ring()
    sleeper.join(BOUND_S)
    assert sleeper.woken_by == set()
    bell.sleep(0.0)  # which may be told of the ring a second time
    assert seconds(lambda: bell.sleep(0.05)) >= 0.05


def test_a_descriptor_wakes_who_slept_before_it_came(bell: Bell) -> None:
    """Descriptors may come and go while a thread sleeps."""
    (early, write_early), (late, write_late) = os.pipe(), os.pipe()
    bell.watch(early)
    sleeper = sleeping(bell)
    bell.ignore(early)
    os.write(write_early, b"x")
    bell.watch(late)
    assert sleeper.is_alive()
    os.write(write_late, b"x")
    sleeper.join(BOUND_S)
    assert sleeper.woken_by == {late}
    for descriptor in (early, write_early, late, write_late):
        os.close(descriptor)


def test_no_ring_is_lost_among_threads(bell: Bell) -> None:
    """Whoever appends and then rings is heard: the sleeper never sleeps with work left."""
    count = 2_000
    work: deque[threading.Semaphore] = deque()

    def produce() -> None:
        heard = threading.Semaphore(0)
        for _ in range(count):
            work.append(heard)
            bell.ring()
            heard.acquire(timeout=BOUND_S)

    producers = [threading.Thread(target=produce) for _ in range(2)]
    for producer in producers:
        producer.start()
    done, slowest = 0, 0.0
    while done < 2 * count:
        slowest = max(slowest, seconds(lambda: bell.sleep(BOUND_S)))
        while work:
            work.popleft().release()
            done += 1
    for producer in producers:
        producer.join(BOUND_S)
    assert slowest < BOUND_S / 2


def test_a_signal_handler_may_ring(bell: Bell) -> None:
    """A handler that rings ends the sleep of the thread that it interrupts."""
    awake = threading.Event()

    def signals() -> None:
        while not awake.wait(0.01):
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: bell.ring())
    sender = threading.Thread(target=signals)
    sender.start()
    try:
        assert seconds(lambda: bell.sleep(BOUND_S)) < BOUND_S
    finally:
        awake.set()
        sender.join(BOUND_S)
        signal.signal(signal.SIGUSR1, before)


def test_ringing_asks_the_system_for_nothing_while_nobody_sleeps(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for one thing only while somebody does."""
    written: list[int] = []
    write = os.eventfd_write

    def counted(descriptor: int, value: int) -> None:
        written.append(value)
        write(descriptor, value)

    monkeypatch.setattr(os, "eventfd_write", counted)
    bell.ring()
    bell.ring()
    bell.sleep(None)
    assert written == []
    bell._sleeping = True
    bell.ring()
    bell.ring()
    assert written == [1]


def test_a_closed_bell_rings_no_other_file(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing twice is closing once, and a late ring writes nowhere."""
    held = len(os.listdir("/proc/self/fd"))
    bell.close()
    bell.close()
    assert len(os.listdir("/proc/self/fd")) == held - 2
    bell._sleeping = True  # as a ring sees it that looked just before
    bell.ring()
