"""Peers that keep the rules, in whatever order Hypothesis thinks of: the promises hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from lawful import LawfulBus


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_lawful_peers_get_what_is_promised() -> None:
    """After every step the promises hold, and in the end everything has ended; and most runs come
    to what they are about."""
    LawfulBus.reach.clear()
    run_state_machine_as_test(LawfulBus, settings=settings(max_examples=80, stateful_step_count=40))
    reach = LawfulBus.reach
    assert reach["run"] >= 80
    assert reach["a request began"] >= 0.5 * reach["run"]
    assert reach["a reply came"] >= 0.3 * reach["run"]
    assert reach["a push was taken"] >= 0.2 * reach["run"]
