"""What a request and a push cost, counted: messages, calls, memory, system calls.

A slowdown shows here before anybody measures. Each figure is bounded by what it was when the bound
was set and a tenth more; ``python tests/test_counts.py`` prints what they are now. Whoever makes
something cheaper lowers its bound; whoever has to raise one says why in the commit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from brokers import Servant, broker, serving
from counting import Calls, allocated_blocks, system_calls, tracing_refusal
from real_ports import connected, settle
from terminals import bus as terminals_bus

from zbus.broker.instance import LOCK_NAME
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import Peer, connect
from zbus.testing.bus import Bus
from zbus.testing.fabric import MemoryFabric
from zbus.transport.guard import Gate
from zbus.transport.sockets import ZmqNetwork

BOUNDS: dict[str, dict[str, float]] = {
    # In the simulator, where the same work makes the same calls.
    "machines": {
        "messages, a lone request": 4,
        "frames, a lone request": 4,
        "messages, 128 requests at once": 4,
        "frames, 128 requests at once": 4,
        "messages, 1,000 pushes": 5,
        "calls, a lone request": 895,
        "calls, each of 128 requests": 308,
        "calls, each of 1,000 pushes": 56,
        "peak bytes, each of 128 requests": 5_830,
        "peak bytes, each of 1,000 pushes": 1_105,
    },
    # Over real sockets, with the threads of broker, server and client.
    "sockets": {
        "calls, a lone request": 917,
        "calls, each of 128 requests": 435,
        "calls, each of 1,000 pushes": 90,
        "blocks kept, a lone request": 0.5,
        "blocks kept, each of 1,000 pushes": 0.5,
    },
    # Processes, and a broker that does not spin.
    "kernel": {
        "system calls of the client, a lone request": 33,
        "system calls of the broker, a lone request": 68,
        "system calls of the server, a lone request": 35,
    },
}
"""What each may cost at most."""
_BODY = bytes(128)
_ROUNDS = 5
_QUIET_S = 0.5
"""Between two counts, so that none has a heartbeat of another."""
_TIMEOUT_S = 60.0
_ASKED = 200
"""Requests, one at a time, whose calls are counted over real sockets."""


# -- the simulator -----------------------------------------------------------------------------


@contextmanager
def _simulated() -> Iterator[Bus]:
    dispatcher = Dispatcher()
    dispatcher.add("echo", lambda body: body)
    with Bus(seed=1) as bus:
        bus.server(dispatcher)
        bus.engine("client")
        _ask(bus, 16)
        _push(bus, 16)
        bus.run(_QUIET_S)  # what the first ones left behind is gone
        yield bus


def _ask(bus: Bus, count: int) -> None:
    client = bus.peers["client"]
    pending = [client.submit("echo", _BODY, timeout=_TIMEOUT_S) for _ in range(count)]
    assert bus.run_until(lambda: all(each.done for each in pending), _TIMEOUT_S)
    assert [each.value() for each in pending] == [_BODY] * count


def _push(bus: Bus, count: int) -> None:
    client = bus.peers["client"]
    for _ in range(count):
        client.push("echo", _BODY)
    assert bus.run_until(lambda: not client.counters.queued, _TIMEOUT_S)


def _messages(work: Callable[[], object]) -> Counter[str]:
    """Messages and frames that are sent meanwhile."""
    counts: Counter[str] = Counter()
    send = MemoryFabric.send

    def counted(self: Any, plug: Any, route: bytes, frames: list[Any]) -> Any:
        counts["messages"] += 1
        counts["frames"] += len(frames)
        return send(self, plug, route, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFabric, "send", counted)
        work()
    return counts


def _calls(work: Callable[[], object]) -> int:
    calls = Calls()
    with calls.here():
        work()
    return calls.total


def _peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


def machine_figures() -> dict[str, float]:
    """Those that are the same every time."""
    figures: dict[str, float] = {}
    with _simulated() as bus:
        for what, count, work in (
            ("a lone request", 1, partial(_ask, bus, 1)),
            ("128 requests at once", 128, partial(_ask, bus, 128)),
            ("1,000 pushes", 1_000, partial(_push, bus, 1_000)),
        ):
            each = f"each of {what.removesuffix(' at once')}" if count > 1 else what
            sent = _messages(work)
            figures |= {f"{name}, {what}": number for name, number in sent.items()}
            for name, counted in (("calls", _calls), ("peak bytes", _peak_bytes)):
                bus.run(_QUIET_S)
                figures[f"{name}, {each}"] = counted(work) / count
            bus.run(_QUIET_S)
    return {name: figures[name] for name in BOUNDS["machines"]}


# -- real sockets ------------------------------------------------------------------------------


def socket_figures() -> dict[str, float]:
    """Calls of all threads of broker, server and client, and the memory that they keep: none."""
    calls = Calls()
    figures: dict[str, float] = {}
    with _here(calls) as client:
        for what, count, work in (
            ("a lone request", _ASKED, _ask_in_turn),
            ("each of 128 requests", 128, _ask_at_once),
            ("each of 1,000 pushes", 1_000, _push_all),
        ):
            least = _least(lambda: calls.total, partial(work, client, count))
            figures[f"calls, {what}"] = least / count
    with _here(None) as client:
        for what, count, work in (
            ("a lone request", 5 * _ASKED, _ask_in_turn),
            ("each of 1,000 pushes", 1_000, _push_all),
        ):
            least = _least(allocated_blocks, partial(work, client, count))
            figures[f"blocks kept, {what}"] = least / count
    return figures


class _Servant(Servant):
    """One that keeps nothing of what it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher.add("drop", lambda body: None)


@contextmanager
def _here(calls: Calls | None) -> Iterator[Peer]:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zb")))
        if calls is not None:
            stack.enter_context(calls.everywhere())
        here = stack.enter_context(broker(place))
        stack.enter_context(serving(here, _Servant()))
        yield stack.enter_context(connect(here.frontend, "client"))


def _least(count: Callable[[], int], work: Callable[[], object]) -> int:
    """By how much this count grows, of a few rounds after one that warms up."""
    work()
    counts = []
    for _ in range(_ROUNDS):
        before = count()
        work()
        counts.append(count() - before)
    return min(counts)


def _ask_in_turn(client: Peer, count: int) -> None:
    for _ in range(count):
        client.request("echo", _BODY, timeout=_TIMEOUT_S)


def _ask_at_once(client: Peer, count: int) -> None:
    for future in [client.submit("echo", _BODY, timeout=_TIMEOUT_S) for _ in range(count)]:
        future.result()


def _push_all(client: Peer, count: int) -> None:
    for _ in range(count):
        client.push("drop", _BODY)
    assert client.flush(timeout=_TIMEOUT_S) == 0


# -- system calls ------------------------------------------------------------------------------

_CLIENT = """
import sys, zbus
with zbus.connect(timeout=30) as bus:
    bus.wait_served("echo", timeout=30)
    for line in sys.stdin:
        for _ in range(int(line)):
            bus.request("echo", bytes(128), timeout=60)
        print("done", flush=True)
"""


def kernel_figures() -> dict[str, float]:
    """System calls of each process, of a broker that does not look before it sleeps."""
    with terminals_bus("--spin", "0ms") as here, here.beside("serve", "echo", "--echo") as server:
        assert "serving" in server.line()
        broker_pid = int((here.place / LOCK_NAME).read_text("utf-8"))
        with subprocess.Popen(
            [sys.executable, "-c", _CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=here.environment,
            text=True,
        ) as client:
            _have_asked(client)
            pids = {"client": client.pid, "broker": broker_pid, "server": server.process.pid}
            return {
                f"system calls of the {who}, a lone request": min(
                    system_calls(pid, lambda: _have_asked(client)) for _ in range(_ROUNDS)
                )
                / _ASKED
                for who, pid in pids.items()
            }
    raise AssertionError("not reached")


def _have_asked(client: subprocess.Popen[str]) -> None:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{_ASKED}\n")
    client.stdin.flush()
    assert client.stdout.readline() == "done\n"


# -- the bounds --------------------------------------------------------------------------------

FIGURES = {"machines": machine_figures, "sockets": socket_figures, "kernel": kernel_figures}


def _check(kind: str) -> None:
    """Every figure has its bound and every bound its figure, and none costs more."""
    bounds, figures = BOUNDS[kind], FIGURES[kind]()
    assert figures.keys() == bounds.keys()
    beyond = {name: figure for name, figure in figures.items() if figure > bounds[name]}
    assert beyond == {}, f"more than { ({name: bounds[name] for name in beyond}) }"


def test_what_a_message_costs_in_the_machines() -> None:
    """Messages, frames, calls and memory from caller to handler and back."""
    _check("machines")


@pytest.mark.real
def test_what_a_message_costs_over_sockets() -> None:
    """Calls of all threads, and blocks of memory that are kept."""
    _check("sockets")


@pytest.mark.real
def test_what_a_request_costs_the_kernel() -> None:
    """System calls of three processes; each wakes another, which is what a request takes."""
    if refusal := tracing_refusal():
        pytest.skip(refusal)
    _check("kernel")


@pytest.mark.real
def test_a_peer_over_tcp_sleeps_once_its_handshake_is_over() -> None:
    """Whoever watched the handshake rings no more, which would keep every sleep from being one
    and cost a whole core."""
    client = ZmqNetwork(gate=Gate(on_handshake=lambda *_: None))
    server = ZmqNetwork()
    try:
        _, dealer, _ = connected(server, client, "tcp://127.0.0.1:*")

        def sleeps() -> bool:
            dealer.drain(9)
            return not client.readable() and not client.wait(0.01)

        settle(sleeps)
        assert dealer.watch is None
    finally:
        client.close()
        server.close()


if __name__ == "__main__":
    for kind, figures in FIGURES.items():
        for name, figure in figures().items():
            bound = BOUNDS[kind][name]
            print(f"{kind:9} {name:44} {figure:10,.2f}, at most {bound:8,.1f}")
