"""A hundred thousand requests on simulated buses, under every trouble there is."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from zbus.testing.swarm import Scenario, swarm
from zbus.testing.tally import Tally


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_p01_to_p11_hold_for_a_hundred_thousand_requests() -> None:
    """And every kind of trouble, of error and of ``executed`` has come up among them: else it
    was no test of them."""
    tally = Tally()
    for seed in range(1_000, 1_190):
        swarm(Scenario.draw(seed, 600), tally)
    assert tally.requests >= 100_000
    assert list(tally.missing()) == []
