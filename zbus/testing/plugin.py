"""The pytest plugin: a simulated bus and a real broker as fixtures.

    def test_submit_is_accepted(zbus_bus):
        zbus_bus.server(dispatcher)
        assert zbus_bus.engine("e1").request("job.submit", {"id": 7}, timeout=2.0) == ...

    def test_over_real_sockets(zbus_broker):
        with zbus.connect(zbus_broker.frontend) as bus: ...

Rules of this room:

* pytest imports it in every run of every project that has zbus installed, so it imports nothing
  but pytest until a fixture is asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zbus.testing.broker import BrokerThread
    from zbus.testing.bus import Bus

__all__ = ["pytest_addoption", "zbus_broker", "zbus_bus"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--zbus-seed`` repeats what a failed test has shown."""
    parser.getgroup("zbus").addoption(
        "--zbus-seed",
        type=int,
        metavar="SEED",
        help="seed of the fixture zbus_bus; by default it follows from the test's name",
    )


@pytest.fixture
def zbus_bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    """A simulated bus with a broker, under virtual time: the same run each time. What happened
    on it is judged when the test has ended."""
    from zbus.testing.bus import Bus

    seed = request.config.getoption("--zbus-seed")
    if seed is None:
        seed = zlib.crc32(request.node.nodeid.encode())
    with Bus(seed, replay=f"pytest {request.node.nodeid} --zbus-seed {seed}") as bus:
        yield bus


@pytest.fixture
def zbus_broker() -> Iterator[BrokerThread]:
    """A real broker in a thread: its ``frontend`` is for engines, its ``backend`` for servers."""
    from zbus.testing.broker import BrokerThread

    broker = BrokerThread()
    try:
        yield broker.start()
    finally:
        broker.stop()
