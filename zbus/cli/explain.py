"""`zbus explain`: what an error code means, or all of them and the exit codes."""

from __future__ import annotations

from dataclasses import dataclass

import click

from zbus.cli.options import CommandOptions, ExampleFirst, command_options, gathered
from zbus.cli.output import print_json, print_table, print_text
from zbus.errors import every_error
from zbus.explain import EXIT_CODES, explain, facts, find_error

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(CommandOptions):
    error: str | None


@click.command(
    "explain",
    cls=ExampleFirst,
    example=("zbus explain ZB-301", "zbus explain RequestTimeout", "zbus explain"),
)
@click.argument("error", required=False)
@command_options
@gathered(_Options)
def command(options: _Options) -> None:
    """Say what ERROR means, whether the handler ran, and what to do.

    ERROR is a code or a name, as in ZB-301, 301 or RequestTimeout. Without it, every error and
    exit code is listed.
    """
    if options.error is None:
        _list(options)
        return
    kind = find_error(options.error)
    if kind is None:
        raise click.UsageError(
            f"There is no error {options.error!r:.40}; `zbus explain` lists them."
        )
    if options.as_json:
        print_json(facts(kind))
    else:
        print_text(explain(kind))


def _list(options: _Options) -> None:
    known = [facts(kind) for kind in every_error()]
    if options.as_json:
        print_json({"errors": known, "exit_codes": EXIT_CODES})
        return
    columns = ("code", "name", "executed", "exit_code", "summary")
    rows = [[str(fact[column]) for column in columns] for fact in known]
    print_table(("CODE", "NAME", "RAN", "EXIT", "WHAT HAPPENED"), rows)
    print_text("")
    print_table(("EXIT", "MEANS"), [[str(code), text] for code, text in EXIT_CODES.items()])
