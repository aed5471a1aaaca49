"""`zbus bench`: requests at a given rate, and how long the slowest share of them took.

Rules of this room:

* The load is open: request number i is due at i/rate, whatever has become of those before, as
  with callers who know nothing of each other. One that could be sent only later is counted from
  when it was due, so that a broker that stands still for a moment looks as bad as it is
  (coordinated omission).
* The handler is a process of its own, so that it takes no time from whoever measures.
* Every request ends, so the command does, too: at most the timeout after the last one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from zbus.cli.connection import connected, made_up_name
from zbus.cli.options import ExampleFirst, PeerOptions, gathered, peer_options, seconds
from zbus.cli.output import print_json, print_text
from zbus.errors import ZbusError
from zbus.peer.peer import Peer

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

__all__ = ["command"]

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_DIGITS = 3
_START_S = 10.0
_GOODBYE_S = 5.0
_WARM_UP = 100
"""Requests before the first that counts, one at a time."""
_REQUESTS_MAX = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(PeerOptions):
    topic: str | None
    backend: str | None
    rate: float
    duration_s: float
    size: int
    timeout_s: float

    @property
    def count(self) -> int:
        """How many requests there are."""
        return max(1, round(self.rate * self.duration_s))


@click.command(
    "bench",
    cls=ExampleFirst,
    example=("zbus bench", "zbus bench --rate 5000 --duration 30", "zbus bench --topic job.plan"),
)
@click.option(
    "--topic", metavar="TOPIC", help="Ask whoever serves this.  [default: an echo of its own]"
)
@click.option(
    "--backend",
    envvar="ZBUS_BACKEND",
    metavar="ADDRESS",
    help="Where the echo attaches.  [default: $ZBUS_BACKEND, or this machine's]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.0, min_open=True),
    default=1_000.0,
    show_default=True,
    help="Requests a second.",
)
@click.option(
    "--duration",
    "duration_s",
    type=seconds,
    metavar="TIME",
    default="5",
    show_default=True,
    help="For how long.",
)
@click.option(
    "--size",
    type=click.IntRange(0),
    default=128,
    show_default=True,
    help="Bytes of each body.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=seconds,
    metavar="TIME",
    default="5",
    show_default=True,
    help="When each request ends, whatever happens.",
)
@peer_options("ZBUS_ENDPOINT")
@gathered(_Options)
def command(options: _Options) -> int:
    """Ask at a steady rate, and tell how long the slowest share of the requests took.

    Times run from when each request was due, so that no delay hides another. If some had no reply,
    the exit code is that of the most frequent reason.
    """
    _check(options)
    histogram = _new_histogram(options.timeout_s)
    with connected(options, "bench") as peer, _served(options) as topic:
        took = _Record(histogram)
        _warm_up(peer, topic, options)
        began = time.monotonic()
        _ask_all(peer, topic, options, took)
        took.await_all(options)
        spent_s = time.monotonic() - began
    facts = took.facts(topic, options, spent_s)
    if options.as_json:
        print_json(facts)
    else:
        print_text("\n".join(_sentences(facts)))
    return took.exit_code


def _check(options: _Options) -> None:
    if options.rate * options.duration_s > _REQUESTS_MAX:
        raise click.UsageError(f"That is more than {_REQUESTS_MAX:,} requests.")
    if options.endpoint and not (options.backend or options.topic):
        raise click.UsageError(
            "Say with --backend where the echo attaches to that broker, or with --topic whom to"
            " ask there."
        )


def _new_histogram(timeout_s: float) -> HdrHistogram:
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError:
        raise click.ClickException(
            'zbus bench needs the package hdrhistogram: pip install "zbus-broker[bench]"'
        ) from None
    return HdrHistogram(1, max(round(timeout_s * 4e6), 2_000_000), _DIGITS)


# -- asking ------------------------------------------------------------------------------------


class _Record:
    """What became of the requests. The I/O of the peer ends them in threads of its own."""

    def __init__(self, histogram: HdrHistogram) -> None:
        self.histogram = histogram
        self.errors: Counter[type[ZbusError]] = Counter()
        self._examples: dict[type[ZbusError], ZbusError] = {}
        self._open = 0
        self._lock = threading.Lock()
        self._ended = threading.Semaphore(0)

    def begin(self, future: Future[Any], due: float) -> None:
        """One was sent, which was due then."""
        self._open += 1
        future.add_done_callback(lambda ended: self._end(ended, due))

    def fail(self, error: ZbusError) -> None:
        """One could not be sent, or had no reply."""
        with self._lock:
            self.errors[type(error)] += 1
            self._examples.setdefault(type(error), error)

    def await_all(self, options: _Options) -> None:
        """Wait until every one that was sent has ended."""
        patience_s = options.timeout_s + _GOODBYE_S
        for _ in range(self._open):
            self._ended.acquire(timeout=patience_s)

    @property
    def exit_code(self) -> int:
        """0, or that of the most frequent error."""
        if not self.errors:
            return 0
        ((kind, _count),) = self.errors.most_common(1)
        return self._examples[kind].exit_code

    def facts(self, topic: str, options: _Options, spent_s: float) -> dict[str, Any]:
        """What is printed."""
        histogram = self.histogram
        replied = int(histogram.get_total_count())
        return {
            "topic": topic,
            "size": options.size,
            "rate": options.rate,
            "asked": options.count,
            "replied": replied,
            "replied_per_s": round(replied / spent_s, 1),
            "failed": {kind.__name__: count for kind, count in self.errors.items()},
            "latency_ms": self._latencies() if replied else None,
            "hdr": bytes(histogram.encode()).decode("ascii"),
        }

    def _latencies(self) -> dict[str, float]:
        told = {
            f"p{percentile:g}": self.histogram.get_value_at_percentile(percentile)
            for percentile in _PERCENTILES
        }
        ends = {"min": self.histogram.get_min_value(), "max": self.histogram.get_max_value()}
        return {name: value / 1_000 for name, value in {**ends, **told}.items()}

    def _end(self, ended: Future[Any], due: float) -> None:
        took_us = (time.monotonic() - due) * 1e6
        error = ended.exception()
        if isinstance(error, ZbusError):
            self.fail(error)
        else:
            with self._lock:
                self.histogram.record_value(max(round(took_us), 1))
        self._ended.release()


def _warm_up(peer: Peer, topic: str, options: _Options) -> None:
    body = bytes(options.size)
    for _ in range(_WARM_UP):
        peer.request(topic, body, timeout=options.timeout_s)


def _ask_all(peer: Peer, topic: str, options: _Options, took: _Record) -> None:
    body, clock = bytes(options.size), time.monotonic
    began = clock()
    for number in range(options.count):
        due = began + number / options.rate
        if (early_s := due - clock()) > 0.0:
            time.sleep(early_s)
        try:
            took.begin(peer.submit(topic, body, timeout=options.timeout_s), due)
        except ZbusError as error:
            took.fail(error)


# -- the echo ----------------------------------------------------------------------------------


@contextmanager
def _served(options: _Options) -> Iterator[str]:
    """The topic to ask; that of an echo which is there until the block ends, if none is given."""
    if options.topic is not None:
        yield options.topic
        return
    topic = made_up_name("bench").removeprefix("zbus-")
    words = ["serve", topic, "--echo", "--drain", "100ms"]
    words += ["--endpoint", options.backend] if options.backend else []
    words += ["--key", str(options.key)] if options.key else []
    words += [word for file in options.server_key for word in ("--server-key", str(file))]
    process = subprocess.Popen([sys.executable, "-m", "zbus", *words], stdout=subprocess.PIPE)
    try:
        _await_line(process)
        yield topic
    finally:
        _end(process)


def _await_line(echo: subprocess.Popen[bytes]) -> None:
    """It says that it is ready; if it does not, it has said why to standard error."""
    assert echo.stdout is not None
    timer = threading.Timer(_START_S, echo.kill)
    timer.start()
    try:
        line = echo.stdout.readline()
    finally:
        timer.cancel()
    if not line:
        click.echo("zbus: the echo did not start; see above, or name a --topic", err=True)
        raise click.exceptions.Exit(max(echo.wait(), 1))


def _end(echo: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(echo.pid, signal.SIGTERM)
    try:
        echo.wait(_GOODBYE_S)
    except subprocess.TimeoutExpired:
        echo.kill()
        echo.wait()
    assert echo.stdout is not None
    echo.stdout.close()


# -- what it says ------------------------------------------------------------------------------


def _sentences(facts: dict[str, Any]) -> Iterator[str]:
    yield (
        f'{facts["asked"]:,} requests of {facts["size"]:,} bytes to "{facts["topic"]}",'
        f" {facts['rate']:,g} a second"
    )
    failed = ", ".join(f"{count:,} {name}" for name, count in facts["failed"].items())
    yield f"replies  {facts['replied']:,} ({facts['replied_per_s']:,.1f} a second)" + (
        f"; failed: {failed}" if failed else ""
    )
    if facts["latency_ms"]:
        shown = "  ".join(f"{name} {time:.3f}" for name, time in facts["latency_ms"].items())
        yield f"ms since each was due  {shown}"
