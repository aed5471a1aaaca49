"""What commands print: text for people, JSON for programs, tables for either.

Rules of this room:

* With ``--json`` a result is JSON on standard output, one value a line, ASCII. Without it, it
  is text; colour and boxes only on a terminal.
* A reply that is text is printed as it is, but on a terminal its control characters are shown
  instead of obeyed: a peer must not be able to colour a terminal or to hide what it says.
* rich costs as much to import as a whole request, so it is imported for a terminal only.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import IO, Any

import click

from zbus.cli.values import plain, shown

__all__ = ["is_terminal", "print_json", "print_reply", "print_table", "print_text", "printable"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that turn the direction of writing."""
_GAP = "  "


def is_terminal(stream: IO[Any]) -> bool:
    """Whether a person looks at this stream."""
    return stream.isatty()


def printable(text: str, stream: IO[Any]) -> str:
    """The text as it may be written there: as it is, but on a terminal."""
    return _CONTROL.sub(_escaped, text) if is_terminal(stream) else text


def print_text(text: str) -> None:
    """A line or more for people."""
    click.echo(printable(text, sys.stdout))


def print_json(value: object) -> None:
    """One line of JSON; whatever JSON cannot say is said as ``values.plain`` does."""
    click.echo(json.dumps(plain(value)))


def print_reply(value: object) -> None:
    """A body for people: text as it is, bytes as they are unless this is a terminal, else JSON."""
    if isinstance(value, bytes | bytearray | memoryview) and not is_terminal(sys.stdout):
        click.echo(bytes(value), nl=False)
    elif isinstance(value, str):
        print_text(value)
    else:
        print_text(shown(value))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows below their titles: a table on a terminal, columns everywhere else."""
    if is_terminal(sys.stdout):
        _print_rich(titles, rows)
        return
    cells = [tuple(titles), *(tuple(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    for row in cells:
        line = _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _print_rich(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell, sys.stdout)) for cell in row))
    Console().print(table)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
