"""`zbus config`: every setting in force, and who set it; and the commented file to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click

from zbus.broker.settings import Row, load
from zbus.cli.options import CommandOptions, ExampleFirst, command_options, gathered
from zbus.cli.output import print_json, print_text

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(CommandOptions):
    config: Path | None
    origin: bool


class _Group(ExampleFirst, click.Group):
    """The commands below ``zbus config``."""


@click.group(
    "config",
    cls=_Group,
    example=("zbus config show --origin", "zbus config sample > zbus.toml"),
)
def command() -> None:
    """Show what a broker is configured with."""


@command.command(
    "show",
    cls=ExampleFirst,
    example=("zbus config show --origin", "zbus config show --config my-zbus.toml"),
)
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="As for `zbus broker`."
)
@click.option("--origin", is_flag=True, help="Say who set each setting.")
@command_options
@gathered(_Options)
def _show(options: _Options) -> None:
    """Print every setting of a broker that would be started now, as TOML.

    Strongest first: a flag, a ZBUS_* variable, --config, /etc/zbus/conf.d/*.toml,
    /etc/zbus/zbus.toml, the default.
    """
    rows = list(load(config=options.config).rows())
    if options.as_json:
        print_json({row.key: {"value": row.value, "origin": row.origin} for row in rows})
        return
    width = max(len(_line(row)) for row in rows)
    for section, of_section in groupby(rows, key=lambda row: row.key.partition(".")[0]):
        print_text(f"[{section}]")
        for row in of_section:
            print_text(f"{_line(row):{width}}  # {row.origin}" if options.origin else _line(row))
        print_text("")


@command.command("sample", cls=ExampleFirst, example=("zbus config sample > zbus.toml",))
@command_options
@gathered(CommandOptions)
def _sample(options: CommandOptions) -> None:
    """Print a zbus.toml with every setting: its default, commented out, and its reason.

    As it comes it changes nothing; take the # away before a setting and change its value.
    """
    from zbus.broker.sample import sample

    if options.as_json:
        print_json(sample())
    else:
        click.echo(sample(), nl=False)


def _line(row: Row) -> str:
    return f"{row.key.partition('.')[2]} = {row.value}"
