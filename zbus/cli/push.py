"""`zbus push`: push bodies, wait until they are taken, and say what became of each.

Rules of this room:

* A push is taken once a handler is done with it. This process waits for that, for nothing keeps
  its pushes when it has ended; what is not taken in time is an error with exit code 3.
* A bound that is reached is waited out, never stepped over: each body is pushed once, in order.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from zbus.cli.connection import connected
from zbus.cli.options import ExampleFirst, PeerOptions, gathered, peer_options, seconds
from zbus.cli.output import print_json, print_text
from zbus.cli.values import parsed_json, typed_body
from zbus.errors import Backpressure, RequestTimeout, ZbusError
from zbus.peer.peer import Peer

__all__ = ["command"]

_ASK_S = 1.0
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(PeerOptions):
    topic: str
    body: str | None
    count: int
    timeout_s: float
    json_body: bool


@click.command(
    "push",
    cls=ExampleFirst,
    example=(
        "zbus push metrics.cpu '{\"load\": 0.4}' --json-body",
        "tail -f log | zbus push log.lines -",
    ),
)
@click.argument("topic")
@click.argument("body", required=False)
@click.option(
    "--count", type=click.IntRange(1), default=1, show_default=True, help="Push it so often."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=seconds,
    metavar="TIME",
    default="5",
    show_default=True,
    help="How long to wait, after the last one, until all are taken.",
)
@click.option("--json-body", is_flag=True, help="BODY, or each line, is JSON and not text.")
@peer_options("ZBUS_ENDPOINT")
@gathered(_Options)
def command(options: _Options) -> None:
    """Push BODY to whoever serves TOPIC, and wait until it is taken.

    BODY is sent as text; "-" pushes each line of standard input; without it the body is None.
    Exit code 3 if not all are taken in time: those may have run, and are dropped now.
    """
    bodies = _bodies(options)
    with connected(options, "push") as peer:
        _push_all(peer, options, bodies)
        left = peer.flush(timeout=options.timeout_s)
        if left:
            raise _not_taken(peer, options, left)
        counters = peer.counters()
    counts = {
        "accepted": counters.accepted,
        "delivered": counters.delivered,
        "dropped": counters.dropped,
        "queued": counters.queued,
    }
    if options.as_json:
        print_json({"topic": options.topic, **counts})
    else:
        print_text(", ".join(f"{count} {name}" for name, count in counts.items()))


def _bodies(options: _Options) -> Iterator[Any]:
    if options.body != "-":
        body = typed_body(options.body, is_json=options.json_body)
        return itertools.repeat(body, options.count)
    return (body for body in _lines(options.json_body) for _ in range(options.count))


def _lines(are_json: bool) -> Iterator[Any]:
    for number, line in enumerate(sys.stdin, 1):
        text = line.rstrip("\r\n")
        yield parsed_json(text, f"Line {number}") if are_json else text


def _push_all(peer: Peer, options: _Options, bodies: Iterator[Any]) -> None:
    try:
        for body in bodies:
            _push(peer, options, body)
    except click.UsageError:
        # A line in the middle is no JSON; those before it have been accepted, so they arrive.
        peer.flush(timeout=options.timeout_s)
        raise


def _push(peer: Peer, options: _Options, body: Any) -> None:
    """Push it, and wait while too many are under way, as long as some are being taken."""
    taken, patient_until = -1, 0.0
    while True:
        try:
            peer.push(options.topic, body)
            return
        except Backpressure as error:
            now, delivered = time.monotonic(), peer.counters().delivered
            if delivered != taken:
                taken, patient_until = delivered, now + options.timeout_s
            if now >= patient_until:
                raise
            peer.flush(timeout=max(error.retry_after_s, _LEAST_S))


def _not_taken(peer: Peer, options: _Options, left: int) -> RequestTimeout:
    whole = peer.counters().accepted
    text = (
        f'{left} of {whole} pushes to "{options.topic}" were not taken in {options.timeout_s:g} s'
    )
    if not _is_served(peer, options.topic):
        text += "; no peer serves that topic now"
    return RequestTimeout(text)


def _is_served(peer: Peer, topic: str) -> bool:
    try:
        served: Iterable[str] = peer.request("zbus.topics", timeout=_ASK_S)
    except ZbusError:
        return True
    return topic in served
