"""`zbus trust`: let the owner of a key in, and list who is let in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from zbus.broker.keys import add_trust, read_public, read_trust
from zbus.cli.options import CommandOptions, ExampleFirst, command_options, gathered
from zbus.cli.output import print_json, print_table, print_text

__all__ = ["RELOAD", "command"]

RELOAD = "A broker that runs takes it up at SIGHUP."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(CommandOptions):
    files: tuple[Path, ...]
    directory: Path


@click.command(
    "trust",
    cls=ExampleFirst,
    example=(
        "zbus trust --dir /etc/zbus/trust site-1.pub",
        "zbus trust --dir /etc/zbus/trust            # who is trusted",
    ),
)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
@click.option(
    "--dir",
    "directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The broker's security.trust; made where it is missing.",
)
@command_options
@gathered(_Options)
def command(options: _Options) -> None:
    """Trust the public keys of FILEs; without one, list who is trusted and who was revoked.

    Look at where a FILE comes from before: from then on its owner is who it says. A name may have
    two keys, so that it can change its key without a pause; a key that was revoked stays revoked.
    """
    for file in options.files:
        key = read_public(file)
        add_trust(options.directory, key)
        if options.as_json:
            print_json({"name": key.name, "fingerprint": key.fingerprint, "trusted": True})
        else:
            print_text(f"trusted: {key.name}, key {key.fingerprint}. {RELOAD}")
    if not options.files:
        _list(options)


def _list(options: _Options) -> None:
    trust = read_trust(options.directory)
    known = [(name, each, True) for each, name in trust.trusted.items()]
    known += [(name, each, False) for each, name in trust.revoked.items()]
    if options.as_json:
        titles = ("name", "fingerprint", "trusted")
        print_json([dict(zip(titles, one, strict=True)) for one in sorted(known)])
        return
    rows = [(name, each, "trusted" if good else "revoked") for name, each, good in sorted(known)]
    print_table(("NAME", "KEY", "STATE"), rows)
