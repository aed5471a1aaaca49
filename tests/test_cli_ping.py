"""`zbus ping` measures the way to the broker, and finds a peer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminals import Terminals, bus, invoke

from zbus.peer.peer import connect

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def here() -> Iterator[Terminals]:
    with bus() as terminals, connect(f"ipc://{terminals.place}/frontend", "engine-1"):
        yield terminals


def test_the_broker_answers(here: Terminals) -> None:
    """One line: which broker, how often, how long."""
    result = here.here("ping", "--count", "3")
    assert result.exit_code == 0
    pattern = r"broker [0-9a-f]{16}, zbus \S+: 3 answered, min/median/max [\d.]+/[\d.]+/[\d.]+ ms\n"
    assert re.fullmatch(pattern, result.stdout)


def test_json_has_the_times(here: Terminals) -> None:
    """In order of size."""
    said = json.loads(here.here("ping", "--json").stdout)
    assert said["count"] == 5
    assert 0 < said["min_ms"] <= said["median_ms"] <= said["max_ms"]
    assert "peer" not in said


def test_a_peer_is_found_or_exit_code_4(here: Terminals) -> None:
    """The broker says how it is; its handlers hear nothing of it."""
    result = here.here("ping", "engine-1")
    assert result.stdout.splitlines()[1] == (
        "engine engine-1: attached; works on 0 requests, serves 0 topics"
    )
    assert json.loads(here.here("ping", "engine-1", "--json").stdout)["peer"]["attached"] is True
    result = here.here("ping", "nobody")
    assert result.exit_code == 4
    assert 'no peer is named "nobody" (ZB-102)' in result.stderr


def test_without_a_broker_it_exits_5(tmp_path: Path) -> None:
    """After as long as it is told to try."""
    began = time.monotonic()
    endpoint = f"ipc://{tmp_path}/none"
    result = invoke("ping", "--connect", "200ms", "--endpoint", endpoint)
    assert result.exit_code == 5
    assert 0.2 <= time.monotonic() - began < 10
    assert f"no broker answers at {endpoint} (ZB-101)" in result.stderr


def test_wrong_usage_exits_2() -> None:
    """A count is one at least."""
    assert invoke("ping", "--count", "0").exit_code == 2
    assert invoke("ping", "a", "b").exit_code == 2
