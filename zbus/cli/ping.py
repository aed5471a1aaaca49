"""`zbus ping`: how long the way to the broker and back takes, and whether a peer is attached."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from zbus.cli.connection import connected
from zbus.cli.options import ExampleFirst, PeerOptions, gathered, peer_options, seconds
from zbus.cli.output import print_json, print_text
from zbus.errors import NoTarget
from zbus.peer.peer import Peer

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(PeerOptions):
    peer: str | None
    count: int
    timeout_s: float


@click.command("ping", cls=ExampleFirst, example=("zbus ping", "zbus ping server --json"))
@click.argument("peer", metavar="[NAME]", required=False)
@click.option("--count", type=click.IntRange(1), default=5, show_default=True, help="Ask so often.")
@click.option(
    "--timeout",
    "timeout_s",
    type=seconds,
    metavar="TIME",
    default="5",
    show_default=True,
    help="How long to wait for each answer.",
)
@peer_options("ZBUS_ENDPOINT")
@gathered(_Options)
def command(options: _Options) -> None:
    """Measure the way to the broker and back; with NAME, say also how that peer is doing.

    The broker answers for the peer, whose handlers are not disturbed. Exit code 5 if no broker
    answers, 4 if it knows no peer of that name.
    """
    with connected(options, "ping") as peer:
        times_s, answer = _measure(peer, options)
        found = _found(peer, options)
    times_ms = [round(time_s * 1000, 3) for time_s in times_s]
    facts = {
        "broker": answer["broker"],
        "version": answer["version"],
        "count": len(times_ms),
        "min_ms": min(times_ms),
        "median_ms": statistics.median(times_ms),
        "max_ms": max(times_ms),
    }
    if options.as_json:
        print_json(facts if found is None else {**facts, "peer": found})
        return
    print_text(
        "broker {broker}, zbus {version}: {count} answered,"
        " min/median/max {min_ms:.3f}/{median_ms:.3f}/{max_ms:.3f} ms".format_map(facts)
    )
    if found is not None:
        print_text(_sentence(found))


def _measure(peer: Peer, options: _Options) -> tuple[list[float], Mapping[str, Any]]:
    times_s = []
    for _ in range(options.count):
        began = time.perf_counter()
        answer = peer.request("zbus.ping", timeout=options.timeout_s)
        times_s.append(time.perf_counter() - began)
    return times_s, answer


def _found(peer: Peer, options: _Options) -> Mapping[str, Any] | None:
    if options.peer is None:
        return None
    for other in peer.request("zbus.peers", timeout=options.timeout_s):
        if other["name"] == options.peer:
            found: Mapping[str, Any] = other
            return found
    raise NoTarget(f'no peer is named "{options.peer:.80}"')


def _sentence(found: Mapping[str, Any]) -> str:
    where = "attached" if found["attached"] else "not attached, and may come back"
    return (
        f"{found['role']} {found['name']}: {where}; works on {found['holds']} requests,"
        f" serves {len(found['topics'])} topics"
    )
