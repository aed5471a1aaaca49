"""How many descriptors there are, and for what: zbus/broker/descriptors.py."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.descriptors import backlog_max, connections_max, raise_limit


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_p13_all_that_may_be_had_is_taken(limits: tuple[int, int]) -> None:
    """Whatever the limit was before."""
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert raise_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_p13_there_is_always_room_for_whom_one_is_about_to_refuse(wanted: int, limit: int) -> None:
    """All doors full, all connections there, and there are descriptors left; or there is one."""
    in_use = len(os.listdir("/proc/self/fd"))
    connections, backlog = connections_max(wanted, limit), backlog_max(4_096, limit)
    assert 1 <= connections <= wanted
    assert 1 <= backlog <= 4_096
    if connections > 1 < backlog:
        assert connections + in_use + 6 * backlog <= limit + 1
    if limit > 4 * (wanted + in_use):
        assert connections == wanted


def test_the_usual_limit_is_enough() -> None:
    """That of the unit: nothing is less than it is by default."""
    assert connections_max(9_216, 65_536) == 9_216
    assert backlog_max(4_096, 65_536) == 4_096
