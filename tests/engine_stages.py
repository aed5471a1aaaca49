"""Where the tests of engines play: a bus without time, the simulated bus, and a real broker.

Rules of this room:

* ``Wire`` delivers at once in the caller's thread, by the real encoding and the real dispatcher,
  and fails as it is told. ``Simulated`` has virtual time. ``Job`` has sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from brokers import HereBroker, broker, until

from zbus.engine import (
    ClientEngine,
    FLComponent,
    FLContext,
    ReturnCode,
    ServerEngine,
    Shareable,
    make_reply,
)
from zbus.engine.bus import Attach
from zbus.engine.job_engine import Equipment
from zbus.errors import NoTarget, RequestTimeout, ZbusError
from zbus.peer.body import decode_body, encode_body
from zbus.peer.call import Call, Returned
from zbus.peer.channel import Left
from zbus.peer.dispatcher import Dispatcher, perform
from zbus.peer.peer import Peer
from zbus.protocol.effect import Outcome
from zbus.testing import Bus
from zbus.testing.history import Asked
from zbus.testing.peers import Pending, SimulatedPeer

JOB = "job-1"
SITES = ("site-1", "site-2", "site-3")
T = TypeVar("T")


class Recorder(FLComponent):
    """Hears events."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.heard.append(event_type)


class Noting:
    """A handler that notes what it was called with, and says OK."""

    def __init__(self) -> None:
        self.numbers: list[Any] = []

    def __call__(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self.numbers.append(request.get("n"))
        return make_reply(ReturnCode.OK)


def numbered(number: Any) -> Shareable:
    """A request that ``Noting`` can tell from others."""
    return Shareable({"n": number})


def echo(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
    return request


def codes(replies: dict[str, Shareable]) -> dict[str, str]:
    """The return code of every entry."""
    return {name: reply.get_return_code() for name, reply in replies.items()}


# -- at once --------------------------------------------------------------------------------


class Done:
    """A request that has ended."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self, timeout: float | None = None) -> Any:
        if isinstance(self._value, ZbusError):
            raise self._value
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return self._value if isinstance(self._value, ZbusError) else None

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        fn(self)

    def cancel(self) -> bool:
        return False


class Wire:
    """Peers by name. Topics without a target go to the peer whose name begins with "server"."""

    def __init__(self) -> None:
        self.peers: dict[str, WiredBus] = {}
        self.fault: ZbusError | None = None
        """What everything ends with, if anything."""

    def attach(self, name: str, dispatcher: Dispatcher) -> WiredBus:
        bus = self.peers[name] = WiredBus(self, name, dispatcher)
        return bus

    def carry(self, topic: str, body: Any, source: str, to: str, timeout: float | None) -> Any:
        packed, frames = encode_body(body)
        if self.fault is not None:
            raise self.fault
        peer = next(
            (p for n, p in self.peers.items() if n == to or (not to and "server" in n)), None
        )
        if peer is None:
            raise NoTarget(f"no peer is called {to!r}")
        handler = peer.dispatcher.handler(topic)
        assert handler is not None, topic
        deadline = None if timeout is None else time.monotonic() + timeout
        call = Call(topic, source, packed, frames, deadline, "", lambda result: None)
        result = perform(handler, call, time.monotonic)
        if isinstance(result, Returned):
            return decode_body(result.body, result.frames) if timeout is not None else None
        raise result


class WiredBus:
    """See ``zbus.engine.bus.Bus``."""

    def __init__(self, wire: Wire, name: str, dispatcher: Dispatcher) -> None:
        self.wire = wire
        self.name = name
        self.dispatcher = dispatcher
        self.asked: list[dict[str, Any]] = []

    def request(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Literal["raise", "wait"] = "raise",
    ) -> Any:
        self.asked.append({"topic": topic, "timeout": timeout, "to": to, "unserved": unserved})
        return self.wire.carry(topic, body, self.name, to, timeout)

    def submit(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Literal["raise", "wait"] = "raise",
    ) -> Done:
        self.asked.append({"topic": topic, "timeout": timeout, "to": to, "unserved": unserved})
        try:
            return Done(self.wire.carry(topic, body, self.name, to, timeout))
        except ZbusError as error:
            if self.wire.fault is None and not isinstance(error, NoTarget):
                raise
            return Done(error)

    def push(self, topic: str, body: Any = None) -> None:
        self.wire.carry(topic, body, self.name, "", None)

    def flush(self, *, timeout: float) -> int:
        return 0

    def close(self, *, drain: float = 0.0) -> Left:
        self.wire.peers.pop(self.name, None)
        return Left(0, 0, 0)


def wired_pair(**clients: Equipment) -> tuple[ServerEngine, ClientEngine]:
    """A server with the clients site-1 and site-2, and site-1."""
    wire = Wire()
    server = ServerEngine(JOB, ["site-1", "site-2"], attach=wire.attach)
    client = ClientEngine(
        "site-1", JOB, attach=wire.attach, equipment=clients.get("client", Equipment())
    )
    server.start_run()
    client.start_run()
    return server, client


# -- under virtual time ---------------------------------------------------------------------


class SimulatedReply:
    """See ``zbus.engine.bus.Reply``."""

    def __init__(self, bus: SimulatedBus, pending: Pending) -> None:
        self._bus = bus
        self._pending = pending

    def result(self, timeout: float | None = None) -> Any:
        if not self._bus.until(lambda: self._pending.done, timeout or 7_200.0):
            raise AssertionError("a request has not ended")
        value = self._pending.value()
        if isinstance(value, ZbusError):
            raise value
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        try:
            self.result(timeout)
        except ZbusError as error:
            return error
        return None

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        if self._pending.done:
            fn(self)
        else:
            self._bus.callbacks[id(self._pending.asked)] = lambda: fn(self)

    def cancel(self) -> bool:
        self._pending.cancel()
        return True


class SimulatedBus:
    """See ``zbus.engine.bus.Bus``. Waiting lets virtual time pass."""

    def __init__(self, bus: Bus, peer: SimulatedPeer) -> None:
        self._bus = bus
        self.peer = peer
        self.callbacks: dict[int, Callable[[], object]] = {}
        tell = peer._told

        def told(asked: Asked, outcome: Outcome) -> None:
            tell(asked, outcome)
            if callback := self.callbacks.pop(id(asked), None):
                peer.later(0.0, lambda: (callback(), None)[1])

        peer._told = told  # type: ignore[method-assign]

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        return self._bus.run_until(condition, seconds)

    def request(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Literal["raise", "wait"] = "raise",
    ) -> Any:
        return self.peer.request(topic, body, timeout=timeout, to=to, unserved=unserved)

    def submit(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Literal["raise", "wait"] = "raise",
    ) -> SimulatedReply:
        pending = self.peer.submit(topic, body, timeout=timeout, to=to, unserved=unserved)
        return SimulatedReply(self, pending)

    def push(self, topic: str, body: Any = None) -> None:
        self.peer.push(topic, body)

    def flush(self, *, timeout: float) -> int:
        self.until(lambda: not self.peer.counters.queued, timeout)
        return self.peer.counters.queued

    def close(self, *, drain: float = 0.0) -> Left:
        self.peer.close()
        return Left(0, 0, 0)


def simulated(bus: Bus, role: Literal["engine", "server"]) -> Attach:
    """How to attach to a simulated bus."""
    return lambda name, dispatcher: SimulatedBus(
        bus, (bus.server if role == "server" else bus.engine)(dispatcher=dispatcher, name=name)
    )


def wait_virtually(bus: Bus, engine: ClientEngine | ServerEngine) -> None:
    """Let the engine's courier wait in virtual time."""
    courier = engine.exchange.courier

    def flush(timeout_s: float) -> int:
        bus.run_until(lambda: not courier.unsettled, timeout_s)
        return courier.unsettled

    courier.flush = flush  # type: ignore[method-assign]


# -- for real -------------------------------------------------------------------------------


class Job:
    """A server and clients on a real broker."""

    def __init__(self, here: HereBroker, stack: ExitStack) -> None:
        self.here = here
        self._stack = stack
        self.clients: dict[str, ClientEngine] = {}

    def add_server(self, equipment: Equipment | None = None) -> ServerEngine:
        server = ServerEngine(JOB, SITES, endpoint=self.here.backend, equipment=equipment)
        self._stack.callback(server.close, drain=0.0)
        until(lambda: self.here.see(lambda daemon: daemon.broker.roster.topics()), "the topics")
        self.server = server
        return server

    def add_client(self, site: str, equipment: Equipment | None = None) -> ClientEngine:
        client = ClientEngine(site, JOB, SITES, endpoint=self.here.frontend, equipment=equipment)
        self._stack.callback(client.close, drain=0.0)
        self.clients[site] = client
        return client

    def start(self) -> None:
        for engine in (self.server, *self.clients.values()):
            engine.start_run()


@contextmanager
def bare_job(place: Path) -> Iterator[Job]:
    """A broker, to which engines are to be added."""
    with broker(place) as here, ExitStack() as stack:
        yield Job(here, stack)


@contextmanager
def job(place: Path) -> Iterator[Job]:
    """A server, and two of the three clients that it knows, all started."""
    with bare_job(place) as made:
        made.add_server()
        made.add_client("site-1")
        made.add_client("site-2")
        made.start()
        yield made


def open_requests(client: ClientEngine) -> int:
    """How many requests it has open."""
    assert isinstance(client.bus, Peer)
    return client.bus.counters().open_requests


TIMED_OUT = RequestTimeout()
"""An outcome of the bus."""
