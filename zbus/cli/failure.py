"""What a command prints when it fails, and the exit code with which it ends.

Rules of this room:

* An error's words, code and exit code are its class's (``zbus.errors``); this room only lays
  them out: one sentence for people, one object for programs. Both go to standard error, so that
  standard output holds results and nothing else.
* An exception that nobody foresaw is a bug of ours: ``InternalError``, exit code 70. Where it
  happened is shown with ``--debug`` only.
* What a peer sent cannot colour a terminal or begin a line there (``printable``).
"""

from __future__ import annotations

import json
import sys
import traceback

import click

from zbus.cli.output import printable
from zbus.errors import Executed, InternalError, ZbusError

__all__ = ["BROKEN_PIPE", "INTERRUPTED", "exit_code_of", "facts_of", "foreseen", "report"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""
BROKEN_PIPE = 141
"""Exit code when whoever read our output has gone."""
_SEE_WHERE = "Again with --debug shows where."


def foreseen(error: Exception) -> ZbusError | click.ClickException:
    """The error itself, if it is one that we raise; else the ``InternalError`` that it is."""
    if isinstance(error, ZbusError | click.ClickException):
        return error
    return InternalError(f"{InternalError.summary}: {type(error).__name__}: {error}")


def exit_code_of(error: Exception) -> int:
    """The exit code of a command that ends with this error."""
    return foreseen(error).exit_code


def report(error: Exception, *, as_json: bool = False, debug: bool = False) -> int:
    """Say on standard error what went wrong; the exit code."""
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if as_json:
        click.echo(json.dumps(facts_of(error)), err=True)
    else:
        click.echo(printable(_sentence(error), sys.stderr), err=True)
    return exit_code_of(error)


def facts_of(error: Exception) -> dict[str, object]:
    """What a program is told, as plain values. ``code`` is null for wrong usage."""
    known = foreseen(error)
    if isinstance(known, ZbusError):
        return {
            "code": known.code,
            "name": type(known).__name__,
            "executed": known.executed.value,
            "retry_safe": known.retry_safe,
            "retry_after_s": known.retry_after_s,
            "exit_code": known.exit_code,
            "message": known.what,
            "remedy": known.remedy,
        }
    return {
        "code": None,
        "name": type(known).__name__,
        "executed": Executed.NO.value,
        "retry_safe": True,
        "retry_after_s": 0.0,
        "exit_code": known.exit_code,
        "message": known.format_message(),
        "remedy": _help_of(known),
    }


def _sentence(error: Exception) -> str:
    known = foreseen(error)
    if isinstance(known, ZbusError):
        again = "" if known is error else f" {_SEE_WHERE}"
        return f"zbus: {known}{again}"
    return f"zbus: {known.format_message()}\n{_help_of(known)}"


def _help_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return "See zbus --help."
    usage = " ".join(context.command.get_usage(context).split())
    return f"{usage}\nSee {context.command_path} --help."
