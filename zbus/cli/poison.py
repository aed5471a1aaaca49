"""`zbus poison`: requests after which processes died, what is known of them, and the way out."""

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
_TITLES = ("NUMBER", "TOPIC", "STATE", "DIED", "REFUSED")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbered(PeerOptions):
    numbers: tuple[int, ...]


class _Group(ExampleFirst, click.Group):
    """The commands below ``zbus poison``."""


@click.group(
    "poison",
    cls=_Group,
    example=("zbus poison ls", "zbus poison release 3"),
)
def command() -> None:
    """See and release requests that are in quarantine.

    What was with limits.poison_kills processes when they died, and was never answered, is given
    to no further one: whoever asks it is told Poisoned. It stays so until it is released here, or
    until the broker starts again.
    """


@command.command("ls", cls=ExampleFirst, example=("zbus poison ls", "zbus poison ls --json"))
@peer_options("ZBUS_ENDPOINT")
@gathered(PeerOptions)
def _ls(options: PeerOptions) -> None:
    """List what is quarantined, and what is suspect.

    DIED counts the processes that had it when they died; REFUSED how often it was asked since.
    """
    with connected(options, "poison") as peer:
        rows: Sequence[Mapping[str, Any]] = peer.request("zbus.poison", timeout=_ASK_S)
    if options.as_json:
        print_json(rows)
    elif rows:
        print_table(_TITLES, [_cells(row) for row in rows])
    else:
        print_text("nothing is in quarantine")


@command.command("show", cls=ExampleFirst, example=("zbus poison show 3",))
@click.argument("numbers", metavar="NUMBER...", nargs=-1, required=True, type=int)
@peer_options("ZBUS_ENDPOINT")
@gathered(_Numbered)
def _show(options: _Numbered) -> None:
    """Say which processes died, who had asked, and what can be told of the request.

    The broker keeps no bodies. The digest is the BLAKE2b hash, of 16 bytes, of body and frames.
    """
    with connected(options, "poison") as peer:
        listed: Sequence[Mapping[str, Any]] = peer.request("zbus.poison", timeout=_ASK_S)
    rows = {row["number"]: row for row in listed}
    for number in options.numbers:
        if number not in rows:
            raise _unknown(number)
        if options.as_json:
            print_json(rows[number])
        else:
            print_text(_story(rows[number]))


@command.command("release", cls=ExampleFirst, example=("zbus poison release 3",))
@click.argument("numbers", metavar="NUMBER...", nargs=-1, required=True, type=int)
@peer_options("ZBUS_ENDPOINT")
@gathered(_Numbered)
def _release(options: _Numbered) -> None:
    """Give a request to handlers again, as if nothing had been.

    The next processes that die while they have it quarantine it anew, under another number.
    """
    with connected(options, "poison") as peer:
        for number in options.numbers:
            row = peer.request(f"zbus.poison.release.{number}", timeout=_ASK_S)
            if row is None:
                raise _unknown(number)
            if options.as_json:
                print_json(row)
            else:
                print_text(f"released: number {number}, a request on {row['topic']}")


def _unknown(number: int) -> click.UsageError:
    return click.UsageError(f"There is no number {number} in quarantine; see zbus poison ls.")


def _state(row: Mapping[str, Any]) -> str:
    return "quarantined" if row["quarantined"] else "suspect"


def _cells(row: Mapping[str, Any]) -> list[str]:
    counts = [str(len(row["deaths"])), str(row["refused"])]
    return [str(row["number"]), row["topic"], _state(row), *counts]


def _story(row: Mapping[str, Any]) -> str:
    lines = [f"number {row['number']}: a request on {row['topic']}, {_state(row)}"]
    if row["digest"]:
        lines.append(f"  {row['bytes']} bytes, digest {row['digest']}")
    lines += [
        f"  {death['peer']} died with it, asked by {death['asked_by']}" for death in row["deaths"]
    ]
    lines.append(f"  refused {row['refused']} times since")
    return "\n".join(lines)
