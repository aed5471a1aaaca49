"""`zbus revoke`: let the owner of a key in no longer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from zbus.broker.keys import revoke
from zbus.cli.options import CommandOptions, ExampleFirst, command_options, gathered
from zbus.cli.output import print_json, print_text
from zbus.cli.trust import RELOAD

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(CommandOptions):
    which: str
    directory: Path


@click.command(
    "revoke",
    cls=ExampleFirst,
    example=(
        "zbus revoke --dir /etc/zbus/trust site-1             # every key of site-1",
        "zbus revoke --dir /etc/zbus/trust 9f86d081884c7d65   # this one",
    ),
)
@click.argument("which", metavar="NAME|FINGERPRINT")
@click.option(
    "--dir",
    "directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The broker's security.trust.",
)
@command_options
@gathered(_Options)
def command(options: _Options) -> None:
    """Take the trust in a key back, for good.

    Its owner is told that the key was revoked, and cut off if attached, once the broker has read
    the directory again: send it SIGHUP.
    """
    for key in revoke(options.directory, options.which):
        if options.as_json:
            print_json({"name": key.name, "fingerprint": key.fingerprint, "trusted": False})
        else:
            print_text(f"revoked: {key.name}, key {key.fingerprint}. {RELOAD}")
