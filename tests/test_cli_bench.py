"""`zbus bench` asks at a steady rate, counts from when each request was due, and ends."""

from __future__ import annotations

import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from terminals import Terminals, bus, invoke

import zbus

RATE = 200

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def here() -> Iterator[Terminals]:
    with bus() as terminals:
        yield terminals


def measured(here: Terminals, *words: str) -> dict[str, Any]:
    result = here.here("bench", "--json", "--rate", str(RATE), *words)
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def serving(here: Terminals, handler: Any) -> zbus.Peer:
    """A server in this process whose topic ``mine`` is served by this."""
    dispatcher = zbus.Dispatcher()
    dispatcher.add("mine", handler)
    endpoint = f"ipc://{here.place}/backend"
    return zbus.connect(endpoint, "bench-server", dispatcher=dispatcher, role="server")


def test_it_brings_its_own_echo(here: Terminals) -> None:
    """Without a topic it asks an echo that is there for as long; three lines say how it went."""
    result = here.here("bench", "--rate", str(RATE), "--duration", "500ms")
    assert result.exit_code == 0, result.output
    first, second, third = result.stdout.splitlines()
    assert re.fullmatch(r'100 requests of 128 bytes to "bench-\S+", 200 a second', first)
    assert re.fullmatch(r"replies  100 \([\d.]+ a second\)", second)
    assert third.startswith("ms since each was due  min ")
    for _ in range(2):  # the first may still see it go
        topics = json.loads(here.here("ls", "--topics", "--json").stdout)
    assert topics == {}


def test_json_has_the_percentiles_and_the_histogram(here: Terminals) -> None:
    """In order of size; the histogram is one that other tools read."""
    from hdrh.histogram import HdrHistogram

    facts = measured(here, "--duration", "500ms", "--size", "1000")
    assert (facts["asked"], facts["replied"], facts["failed"]) == (100, 100, {})
    assert facts["size"] == 1_000
    latencies = facts["latency_ms"]
    told = [latencies[name] for name in ("min", "p50", "p90", "p99", "p99.9", "max")]
    assert told[0] > 0
    assert told == sorted(told)
    decoded = HdrHistogram.decode(facts["hdr"])
    assert decoded.get_total_count() == 100
    assert decoded.get_value_at_percentile(50.0) / 1_000 == pytest.approx(latencies["p50"])


def test_a_handler_that_stands_still_is_not_hidden(here: Terminals) -> None:
    """Whoever was due while it stood is counted from then on: half of all requests, not one. A
    closed loop would see a single slow one."""
    numbers, one_at_a_time, hang_s = itertools.count(1), threading.Lock(), 1.0

    def once_slow(body: Any) -> Any:
        with one_at_a_time:
            if next(numbers) == 110:  # soon after the warm-up
                time.sleep(hang_s)
        return body

    with serving(here, once_slow):
        facts = measured(here, "--topic", "mine", "--duration", "2s")
    assert facts["replied"] == facts["asked"] == 2 * RATE
    assert facts["latency_ms"]["max"] > hang_s * 1_000 * 0.8
    assert facts["latency_ms"]["p90"] > hang_s * 1_000 * 0.4


def test_failures_are_counted_and_say_why(here: Terminals) -> None:
    """The exit code is that of the most frequent error, and every request has ended."""
    count = 0

    def fail_later(body: Any) -> Any:
        nonlocal count
        count += 1
        if count > 150:
            raise ValueError("enough")
        return body

    with serving(here, fail_later):
        result = here.here(
            "bench", "--json", "--topic", "mine", "--rate", str(RATE), "--duration", "1s"
        )
    facts = json.loads(result.stdout)
    assert facts["replied"] == 50
    assert facts["failed"] == {"HandlerError": 150}
    assert result.exit_code == zbus.HandlerError("x").exit_code


def test_nobody_serves_the_topic(here: Terminals) -> None:
    """It says so before it asks a thousand times."""
    result = here.here("bench", "--topic", "nobody")
    assert result.exit_code == 4
    assert "nobody" in result.stderr


def test_without_a_broker_it_exits_5(tmp_path: Path) -> None:
    """As every command does."""
    endpoint = f"ipc://{tmp_path}/none"
    result = invoke("bench", "--connect", "200ms", "--endpoint", endpoint, "--backend", endpoint)
    assert result.exit_code == 5
    assert f"no broker answers at {endpoint} (ZB-101)" in result.stderr


def test_an_echo_that_cannot_start_is_told(here: Terminals) -> None:
    """With the exit code of the server that could not."""
    nowhere = f"ipc://{here.place}/nowhere"
    frontend = f"ipc://{here.place}/frontend"
    result = here.here("bench", "--endpoint", frontend, "--backend", nowhere, "--connect", "1s")
    assert result.exit_code == 5
    assert "the echo did not start" in result.stderr


def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    """Nothing is asked at no rate, nor for ever, nor of an echo whose broker is not known."""
    assert invoke("bench", "--rate", "0").exit_code == 2
    assert invoke("bench", "--rate", "1e9", "--duration", "1h").exit_code == 2
    result = invoke(
        "bench", "--endpoint", f"ipc://{tmp_path}/x", environment={"ZBUS_BACKEND": None}
    )
    assert result.exit_code == 2
    assert "--backend" in result.stderr


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The histogram's library is an extra."""
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    result = invoke("bench", "--topic", "mine")
    assert result.exit_code == 1
    assert "zbus-broker[bench]" in result.stderr
