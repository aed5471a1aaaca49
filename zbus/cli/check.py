"""`zbus check`: judge a broker's configuration and say what it would bind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from zbus.broker.settings import Loaded, load
from zbus.cli.options import CommandOptions, ExampleFirst, command_options, gathered
from zbus.cli.output import print_json, print_text
from zbus.errors import ConfigError

__all__ = ["command", "problems_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(CommandOptions):
    file: Path | None


@click.command("check", cls=ExampleFirst, example=("zbus check", "zbus check my-zbus.toml"))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@command_options
@gathered(_Options)
def command(options: _Options) -> int:
    """Judge the configuration that a broker would be started with, and say what it would bind.

    It consists of /etc/zbus/zbus.toml, /etc/zbus/conf.d/*.toml, FILE and the ZBUS_* variables,
    each stronger than the one before. Exit code 78 if anything is wrong with it, after a list of
    everything that is.
    """
    try:
        loaded = load(config=options.file)
    except ConfigError as error:
        problems = problems_of(error)
        if options.as_json:
            print_json({"valid": False, "problems": problems})
        else:
            for problem in problems:
                print_text(problem)
        return error.exit_code
    _approve(loaded, options.as_json)
    return 0


def problems_of(error: ConfigError) -> list[str]:
    """What is wrong, one by one: a story of several has each in an indented line."""
    listed = [line.strip() for line in error.what.splitlines() if line.startswith("  ")]
    return listed or [error.what]


def _approve(loaded: Loaded, as_json: bool) -> None:
    settings = loaded.settings
    bound = {
        "frontend": settings.listen.frontend,
        "backend": settings.listen.backend,
        "pipe": settings.listen.pipe,
    }
    place = str(settings.broker.runtime_dir)
    if as_json:
        print_json({"valid": True, "problems": [], "runtime_dir": place, **bound})
        return
    print_text("the configuration is valid; a broker would bind")
    for door, endpoints in bound.items():
        for endpoint in endpoints:
            print_text(f"  {door:8}  {endpoint}")
    print_text(f"and lock {place}")
