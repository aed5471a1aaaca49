"""`zbus keygen`: make a key pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from zbus.broker.keys import new_key, write_pair
from zbus.cli.options import CommandOptions, ExampleFirst, command_options, gathered
from zbus.cli.output import print_json, print_text

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(CommandOptions):
    name: str
    directory: Path


@click.command(
    "keygen",
    cls=ExampleFirst,
    example=("zbus keygen broker", "zbus keygen site-1 --dir ~/.config/zbus"),
)
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where to write the two files.  [default: here]",
)
@command_options
@gathered(_Options)
def command(options: _Options) -> None:
    """Make a key pair for NAME: NAME.key, which only its owner may read, and NAME.pub.

    A broker and every peer that comes by tcp has one. A peer's key is its identity: it may be
    called NAME on the bus, or anything that begins with NAME and a dot. No file is written over.
    """
    key = new_key(options.name)
    secret, public = write_pair(options.directory, key)
    if options.as_json:
        facts = {"name": key.name, "fingerprint": key.fingerprint}
        print_json({**facts, "secret_file": str(secret), "public_file": str(public)})
        return
    print_text(f"key {key.fingerprint} of {key.name}")
    print_text(f"  {secret}  secret: it stays with {key.name}")
    print_text(f"  {public}  public: give it to the other side")
