"""Peers that are a driver and no more, for the tests of who turns the link.

Rules of this room:

* ``Acted`` is a driver over an acted link and network: what arrives, what is due and who is
  woken is the test's to say, and no message ends a sleep by itself.
* ``Seat`` is a driver over real sockets, in a ``Bench`` with a broker and a servant.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from brokers import BOUND_S, HereBroker, Servant, broker, serving, threads, until

from zbus.errors import Cancelled, ClosedError, ZbusError
from zbus.peer.body import encode_body
from zbus.peer.call import Call
from zbus.peer.driver import Driver
from zbus.peer.link import Link
from zbus.peer.quick import Quick
from zbus.peer.slot import Slot
from zbus.protocol.effect import Outcome
from zbus.protocol.message import Role
from zbus.protocol.requests import Ask
from zbus.protocol.session import Identity, Session, State
from zbus.transport.sockets import ZmqNetwork

LONG_S = 30.0
"""A heartbeat under which no periodic turn comes to anybody's rescue."""
SOON_S = 2.0
"""What is not woken up takes longer than this under LONG_S."""


class Told(BaseException):
    """What a signal's handler raises."""


class ActedNetwork:
    """Sleeps until it is woken or the time is up; no message ends a sleep."""

    def __init__(self) -> None:
        self._bell = threading.Event()
        self._gate = threading.Lock()
        self.sleepers: list[threading.Thread] = []
        self.most = 0
        self.closed = 0

    def readable(self) -> bool:
        return False

    def wait(self, timeout_s: float) -> None:
        assert not self.closed, "somebody sleeps on a closed network"
        self.sleepers.append(threading.current_thread())
        self.most = max(self.most, len(self.sleepers))
        self._bell.wait(timeout_s)
        with self._gate:
            assert not self.closed, "the network was closed under a sleeper"
        self._bell.clear()
        self.sleepers.remove(threading.current_thread())

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Whoever sleeps now does not come back while this lasts."""
        with self._gate:
            yield

    def wake(self) -> None:
        self._bell.set()

    def close(self, linger_s: float) -> None:
        self.closed += 1


class ActedSession:
    def __init__(self) -> None:
        self.topics: tuple[str, ...] = ()
        self.asker: dict[int, Callable[[Outcome], None]] = {}
        self.beat_s = LONG_S

    @property
    def idle(self) -> bool:
        return not self.asker


class ActedLink:
    """Ends the requests whose numbers are in ``replies``, when it is turned."""

    def __init__(self) -> None:
        self.session = ActedSession()
        self.is_serving = False
        self.is_flushed = True
        self.replies: deque[int] = deque()
        self.turns: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()
        self.on_finished: Callable[[], None] = lambda: None
        self.begin_call: Callable[[Call], None] = lambda call: None
        self.due: float | None = None
        self.closed = 0
        self.mended = 0
        self.fault: BaseException | None = None
        self.fault_in = ""
        """The thread in which a turn raises the fault; in each of them if empty."""

    def ask(self, slot: Slot) -> Callable[[Link, float], int]:
        def begin(_link: Link, _now: float) -> int:
            number = len(self.session.asker) + 1
            self.session.asker[number] = slot.end
            return number

        return begin

    def open(self, now: float) -> None: ...

    def flush(self, now: float) -> None: ...

    def mend(self, now: float) -> None:
        self.mended += 1

    def wake_at(self, now: float) -> float | None:
        return self.due if self.due is not None else now + LONG_S

    def hear_handlers(self, now: float) -> None:
        self.heard[threading.current_thread().name] += 1
        if self.fault is not None:
            raise self.fault

    def step(self, now: float) -> bool:
        self.turns[threading.current_thread().name] += 1
        if self.fault is not None and self.fault_in in ("", threading.current_thread().name):
            raise self.fault
        while self.replies:
            self.session.asker.pop(self.replies.popleft())(ClosedError("a reply"))
        return False

    def fail(self, error: ZbusError, now: float) -> None:
        self.end_all(error)

    def close(self, now: float) -> None:
        self.closed += 1
        self.end_all(Cancelled())

    def end_all(self, error: ZbusError) -> None:
        for number in list(self.session.asker):
            self.session.asker.pop(number)(error)


class Acted:
    """A driver over an acted link, and callers in threads of their own."""

    def __init__(self, quick: Quick | None = None) -> None:
        self.link, self.network = ActedLink(), ActedNetwork()
        self.driver = Driver(
            self.link,  # type: ignore[arg-type]
            self.network,  # type: ignore[arg-type]
            time.monotonic,
            quick,
        )
        self.callers: list[threading.Thread] = []
        self.outcomes: list[Outcome | BaseException] = []

    def caller(self) -> Slot:
        """Somebody asks, and waits."""
        slot = Slot(time.monotonic() + LONG_S)

        def ask() -> None:
            try:
                self.outcomes.append(self.driver.converse(self.link.ask(slot), slot))
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.outcomes.append(error)

        thread = threading.Thread(target=ask, name="caller", daemon=True)
        self.callers.append(thread)
        thread.start()
        return slot

    def alone(self) -> None:
        """One request after the other, until the I/O thread stands by."""
        for _ in range(8):
            self.caller()
            until(lambda: self.link.session.asker, "the request")
            self.reply()
        until(lambda: self.driver._standby, "the I/O thread stands by")

    def leading(self) -> Slot:
        """A caller that sleeps on the network, for as long as nobody wakes it."""
        self.alone()
        slot = self.caller()
        until(lambda: self.sleepers() == ["caller"], "a leader")
        return slot

    def sleepers(self) -> list[str]:
        """Who sleeps on the network."""
        return [thread.name for thread in self.network.sleepers]

    def beat(self) -> None:
        """The I/O thread's time to stand by is up."""
        self.driver._bell.release()

    def reply(self) -> None:
        """The only request ends, and its caller goes."""
        self.link.due = None
        self.link.replies.append(1)
        self.network.wake()
        self.joined()

    def joined(self) -> None:
        """All callers have gone."""
        for thread in self.callers:
            thread.join(SOON_S)
            assert not thread.is_alive(), "a caller waits on"
        self.callers.clear()


class Seat:
    """A peer that is a driver and no more."""

    def __init__(self, endpoint: str, name: str = "engine") -> None:
        identity = Identity(name=name, role=Role.ENGINE, epoch=time.monotonic_ns())
        self.session = Session(identity, now=time.monotonic())
        network = ZmqNetwork()
        self.link = Link(network, endpoint, self.session)
        self.driver = Driver(self.link, network, time.monotonic)
        self.driver.start()
        until(lambda: self.session.state is State.OPEN, "attached")

    def asking(self, topic: str, body: Any = None, timeout: float = 10.0) -> Ask:
        encoded, frames = encode_body(body)
        return Ask(topic, encoded, time.monotonic() + timeout, frames)

    def request(self, topic: str, body: Any = None, timeout: float = 10.0) -> Outcome:
        ask = self.asking(topic, body, timeout)
        slot = Slot(ask.deadline)
        try:
            return self.driver.converse(lambda link, now: link.request(ask, slot.end, now), slot)
        except BaseException:
            if ask.number and self.driver.is_running:
                self.driver.call(lambda link, now: link.cancel(ask.number, now))
            raise

    def submit(self, topic: str, body: Any = None, timeout: float = 10.0) -> Slot:
        ask = self.asking(topic, body, timeout)
        slot = Slot(ask.deadline)
        self.driver.call(lambda link, now: link.request(ask, slot.end, now))
        return slot

    def push(self, topic: str, number: int) -> None:
        body, frames = encode_body(number)
        self.driver.call(lambda link, now: link.push(topic, body, frames), turn=True)

    def alone(self) -> Seat:
        """Until the thread that asks leads."""
        until(lambda: self.request("zbus.ping") and self.driver._standby, "others stand by")
        return self


class Bench(Servant):
    """A broker, its servant, and an engine."""

    def __init__(self, here: HereBroker) -> None:
        super().__init__()
        self.here = here
        self.seat = Seat(here.frontend)


@contextmanager
def bench_at(place: Path, heartbeat_s: float) -> Iterator[Bench]:
    with broker(place, heartbeat_s=heartbeat_s) as here:
        bench = Bench(here)
        try:
            with serving(here, bench):
                yield bench
        finally:
            bench.seat.driver.stop()
    assert threads() <= {"zbus-callbacks"}


def among_others(seat: Seat, over: threading.Event) -> list[Outcome | None]:
    """What another thread does while this one leads, or after it did not come to that."""
    until(lambda: seat.driver._leader is not None or over.is_set(), "a leader")
    for number in (1, 2):
        seat.push("note", number)
    slot = seat.submit("echo", 1, LONG_S)
    outcomes: list[Outcome | None] = [seat.request("echo", 2, LONG_S) for _ in range(2)]
    assert slot.wait(BOUND_S)
    return [*outcomes, slot.outcome]


def raising_at(moment: int, where: Counter[str]) -> list[str]:
    """Raise in this thread at the n-th place in zbus where Python looks for signals: where a
    function begins, and where a call into C has returned."""
    places = itertools.count()
    struck: list[str] = []

    def look(frame: FrameType, event: str, _argument: object) -> None:
        place = Path(frame.f_code.co_filename)
        if event in {"call", "c_return"} and "zbus" in place.parts and next(places) == moment:
            struck.append(place.name)
            where[place.name] += 1
            raise Told

    sys.setprofile(look)
    return struck
