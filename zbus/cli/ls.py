"""`zbus ls`: who is on the bus, or what is served and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from zbus.cli.connection import connected
from zbus.cli.options import ExampleFirst, PeerOptions, gathered, peer_options
from zbus.cli.output import print_json, print_table, print_text

__all__ = ["command"]

_ASK_S = 5.0
_TOPICS_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(PeerOptions):
    topics: bool


@click.command("ls", cls=ExampleFirst, example=("zbus ls", "zbus ls --topics"))
@click.option("--topics", is_flag=True, help="List topics and who serves them.")
@peer_options("ZBUS_ENDPOINT")
@gathered(_Options)
def command(options: _Options) -> None:
    """List the peers of the bus, and what each has to do.

    ASKED counts a peer's open requests, HOLDS those that it is working on. A peer that is not
    attached has lost its connection and may come back within a moment.
    """
    with connected(options, "ls") as peer:
        if options.topics:
            topics = peer.request("zbus.topics", timeout=_ASK_S)
        else:
            peers = peer.request("zbus.peers", timeout=_ASK_S)
        own_name = peer.name
    if options.topics:
        _show_topics(topics, options.as_json)
    else:
        _show_peers([other for other in peers if other["name"] != own_name], options.as_json)


def _show_topics(topics: Mapping[str, Sequence[str]], as_json: bool) -> None:
    if as_json:
        print_json(topics)
    elif topics:
        print_table(
            ("TOPIC", "SERVED BY"),
            [[topic, ", ".join(servers)] for topic, servers in topics.items()],
        )
    else:
        print_text("no topic is served")


def _show_peers(peers: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(peers)
    elif peers:
        titles = ("NAME", "ROLE", "ATTACHED", "ASKED", "HOLDS", "SERVES")
        print_table(titles, [_row(peer) for peer in peers])
    else:
        print_text("no peer is attached")


def _row(peer: Mapping[str, Any]) -> list[str]:
    topics = list(peer["topics"])
    more = len(topics) - _TOPICS_SHOWN
    serves = ", ".join(topics[:_TOPICS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    attached = "yes" if peer["attached"] else "no"
    return [peer["name"], peer["role"], attached, str(peer["asked"]), str(peer["holds"]), serves]
