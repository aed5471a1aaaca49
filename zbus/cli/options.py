"""What every command takes, and how a command is declared: options, help, times.

Rules of this room:

* Every command has ``--json`` and ``--debug``; every command that attaches to a broker has
  ``--endpoint``, ``--connect``, ``--key`` and ``--server-key``. They mean the same everywhere, so
  they are declared once.
* Keys are files. A key that would not be used, or not suffice, is wrong usage and not silence.
* A command's options come to it as one frozen object (``gathered``).
* Help opens with an example, for that is what people look for.
* A time on the command line is a number of seconds, or has its unit: ``5``, ``250ms``, ``2min``.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "CONNECT_S",
    "CommandOptions",
    "ExampleFirst",
    "PeerOptions",
    "command_options",
    "connect_time",
    "gathered",
    "peer_options",
    "seconds",
]

O = TypeVar("O")  # noqa: E741
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
CONNECT_S = 5.0
"""How long a command tries to reach a broker when no setting says otherwise."""
_ETC = Path("/etc/zbus")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """What every command takes."""

    as_json: bool
    debug: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions(CommandOptions):
    """What every command takes that attaches to a broker. None stands for the default."""

    endpoint: str | None
    connect_s: float | None
    key: Path | None = None
    server_key: tuple[Path, ...] = ()


class ExampleFirst(click.Command):
    """A command whose help opens with an example of its use."""

    def __init__(self, *arguments: Any, example: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.example = example

    def format_help(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Example, usage, what it does, options."""
        for line in self.example:
            formatter.write(f"  {line}\n")
        formatter.write_paragraph()
        super().format_help(context, formatter)


def seconds(text: str) -> float:
    """A time above zero as an option has it: seconds, or a number with its unit."""
    try:
        time_s = _seconds(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r:.40} is no time: {error}.") from None
    if not (math.isfinite(time_s) and time_s > 0):
        raise click.BadParameter(f"{text!r:.40} is no time above zero.")
    return time_s


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        from zbus.broker.units import parse_duration

        return parse_duration(text)


def gathered(kind: Callable[..., O]) -> Callable[[Callable[[O], R]], Callable[..., R]]:
    """Give a command its options as one object of this kind."""

    def decorate(command: Callable[[O], R]) -> Callable[..., R]:
        @functools.wraps(command)
        def gather(**options: Any) -> R:
            return command(kind(**options))

        return gather

    return decorate


def command_options(command: F) -> F:
    """Add what every command takes."""
    command = click.option("--debug", is_flag=True, help="Show where an error came from.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line.")(
        command
    )


def peer_options(variable: str) -> Callable[[F], F]:
    """Add what every command takes that attaches to a broker; ``variable`` of the environment
    names the default endpoint."""

    def decorate(command: F) -> F:
        connect = click.option(
            "--connect",
            "connect_s",
            type=seconds,
            metavar="TIME",
            help=f"How long to try to reach the broker.  [default: times.connect, {CONNECT_S:g}]",
        )
        endpoint = click.option(
            "--endpoint",
            envvar=variable,
            metavar="ADDRESS",
            help=f"Where the broker is.  [default: ${variable}, or this machine's]",
        )
        return endpoint(connect(_key_options(command_options(command))))

    return decorate


def _key_options(command: F) -> F:
    server_key = click.option(
        "--server-key",
        "server_key",
        type=click.Path(path_type=Path),
        metavar="FILE",
        multiple=True,
        help="The broker's public key; may be given twice while it changes."
        "  [default: $ZBUS_SERVER_KEY]",
    )
    key = click.option(
        "--key",
        "key",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The secret key to show over tcp.  [default: $ZBUS_KEY]",
    )
    return key(server_key(command))


def connect_time(options: PeerOptions) -> float:
    """Seconds to try to reach the broker: what ``--connect`` says, else ``times.connect``.

    The settings are only read where there are any; that costs as much as a request.
    """
    if options.connect_s is not None:
        return options.connect_s
    if "ZBUS_TIMES_CONNECT" not in os.environ and not _ETC.exists():
        return CONNECT_S
    from zbus.broker.settings import load

    return load().settings.times.connect_s
