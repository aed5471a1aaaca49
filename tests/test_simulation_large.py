"""Large bodies on a simulated bus, over the real link: broken connections, restarts, heavy weather.

What the bus itself checks at the end of each block: one outcome for each request, no start twice,
no body that is another's, and nothing left once all was healed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from zbus.errors import Cancelled, TargetLost
from zbus.peer.dispatcher import Dispatcher
from zbus.testing.bus import Bus
from zbus.testing.faults import Faults
from zbus.testing.knobs import QUIET, Knobs
from zbus.testing.peers import Pending

SMALL = Knobs(body_max_bytes=60, object_max_bytes=20_000)
STORMY = Faults(
    delay_max_s=0.01,
    break_probability=0.003,
    vanish_probability=0.7,
    full_probability=0.02,
    send_mark=4,
    receive_mark=10,
)
SEEDS = range(25)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def reversing() -> Dispatcher:
    dispatcher = Dispatcher()
    dispatcher.add("reverse", lambda body: body[::-1])
    return dispatcher


def body_of(number: int) -> bytes:
    return bytes([number, 255 - number]) * (100 * number)


def ended(bus: Bus, asked: list[Pending]) -> None:
    assert bus.run_until(lambda: all(one.done for one in asked), 90.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_p22_whole_or_not_at_all(seed: int) -> None:
    """Through broken connections, full sockets and restarts of the broker: each reply is whole and
    its own. The only errors are those of a handler that could not come back in time."""
    with Bus(seed, STORMY, SMALL) as bus:
        bus.server(reversing())
        engine = bus.engine("e1")
        asked = [engine.submit("reverse", body_of(number), timeout=60.0) for number in range(1, 9)]
        for _ in range(3):
            bus.run(bus.stage.chance("pause").uniform(0.05, 0.4))
            bus.broker.restart()
        ended(bus, asked)
        for number, one in enumerate(asked, 1):
            value = one.value()
            assert isinstance(value, TargetLost) or value == body_of(number)[::-1]
        assert bus.broker.counts()["chunks"] > 100
        bus.settle()


@pytest.mark.parametrize("seed", SEEDS)
def test_p06_a_restart_is_a_pause_for_a_large_body(seed: int) -> None:
    """Without other trouble every one of them ends with its reply, and no chunk that had arrived
    is sent again: through each broker go no more than what was left, and what was under way."""
    with Bus(seed, QUIET, SMALL) as bus:
        bus.server(reversing())
        engine = bus.engine("e1")
        one = engine.submit("reverse", body_of(40), timeout=30.0)
        whole = 2 * (len(body_of(40)) // 60 + 2)
        bus.run(bus.stage.chance("pause").uniform(0.002, 0.05))
        bus.broker.restart()
        ended(bus, [one])
        assert one.value() == body_of(40)[::-1]
        assert whole - 10 < bus.broker.counts()["chunks"] <= whole + 16
        bus.settle()


def test_a_caller_that_gives_up_leaves_nothing() -> None:
    """Whenever it does; the bus is as before."""
    for seed in SEEDS:
        with Bus(seed, QUIET, SMALL) as bus:
            bus.server(reversing())
            engine = bus.engine("e1")
            one = engine.submit("reverse", body_of(40), timeout=30.0)
            bus.run(bus.stage.chance("pause").uniform(0.0, 0.05))
            one.cancel()
            assert isinstance(one.value(), Cancelled) or one.value() == body_of(40)[::-1]
            bus.run(0.5)
            assert not any(peer.session.objects.count for peer in bus.peers.values())
            assert engine.request("reverse", body_of(2), timeout=5.0) == body_of(2)[::-1]
            bus.settle()
