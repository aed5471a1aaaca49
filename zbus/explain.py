"""What each error means, in words and as facts: for ``zbus explain`` and ``docs/errors.md``.

Rules of this room:

* Every fact is read off the classes of ``zbus.errors``. This room adds sentences, and a
  description for each exit code; it knows no error by name.
* The command line prints ``explain``, ``--json`` prints ``facts``, ``tools/errors_page.py``
  writes ``errors_page``: three views of one registry.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from zbus.errors import Executed, ZbusError, every_error

__all__ = ["EXIT_CODES", "errors_page", "explain", "facts", "find_error"]

EXIT_CODES = {
    0: "done",
    1: "it failed",
    2: "wrong usage",
    3: "timed out; it may have run",
    4: "nobody serves it; it was not run",
    5: "no broker reached; nothing was sent",
    6: "denied",
    7: "refused: too large, malformed or overloaded",
    8: "the peer that had it is lost",
    9: "aborted",
    70: "a bug in zbus",
    78: "the configuration is not valid",
}
"""What the exit codes of the command line say."""

_RAN = {
    Executed.NO: "No. The handler was not run.",
    Executed.MAYBE: "Perhaps. The handler may have run.",
    Executed.YES: "Yes. The handler was run.",
}
_AGAIN = {
    Executed.NO: "It is safe: nothing can run twice.",
    Executed.MAYBE: "Only where running it twice does no harm.",
    Executed.YES: "Only where running it twice does no harm.",
}


def find_error(text: str) -> type[ZbusError] | None:
    """The error of a code or a class name: ``ZB-301``, ``zb-301``, ``301``, ``RequestTimeout``."""
    wanted = text.strip().casefold().removeprefix("zbus.").removeprefix("zb-")
    for kind in every_error():
        if wanted in {str(kind.number), kind.__name__.casefold()}:
            return kind
    return None


def facts(kind: type[ZbusError]) -> dict[str, str | int | bool | list[str]]:
    """What the registry knows of an error, as plain values."""
    return {
        "code": f"ZB-{kind.number}",
        "name": kind.__name__,
        "summary": kind.summary,
        "meaning": _meaning(kind),
        "executed": kind.default_executed.value,
        "retry_safe": kind.default_executed is Executed.NO,
        "exit_code": kind.exit_code,
        "remedy": kind.remedy,
        "caught_as": list(_caught_as(kind)),
    }


def explain(kind: type[ZbusError]) -> str:
    """What happened, whether it ran, what to do: a dozen lines for a terminal."""
    return "\n".join(
        [
            f"ZB-{kind.number} {kind.__name__}: {kind.summary}",
            "",
            _meaning(kind),
            "",
            f"  did it run?   {_RAN[kind.default_executed]}",
            f"  ask again?    {_AGAIN[kind.default_executed]}",
            f"  what to do    {kind.remedy}",
            f"  exit code     {kind.exit_code} ({EXIT_CODES[kind.exit_code]})",
            f"  caught as     {', '.join(_caught_as(kind))}",
        ]
    )


def errors_page() -> str:
    """``docs/errors.md``, whole."""
    sections = [_PAGE_HEAD, _table(), "## Exit codes\n", _exit_codes(), "## Each error\n"]
    sections += [_section(kind) for kind in every_error()]
    return "\n".join(sections)


_PAGE_HEAD = """\
# Errors

*Written by `python tools/errors_page.py` from `zbus/errors.py`. Edit that file, not this page.*

Every error zbus raises is a `zbus.ZbusError`. It says what happened, has a code that never
changes its meaning, says whether the handler ran (`error.executed`), and names one thing to do.
`zbus explain ZB-301` prints what stands here.

`executed` is `no` only where that is certain, so an error with `error.retry_safe` can be asked
again without the handler running twice. The table shows what an error says by default; one that
knows more says more.
"""


def _table() -> str:
    lines = ["| code | class | what happened | ran? | exit |", "|---|---|---|---|---|"]
    for kind in every_error():
        name = f"[{kind.__name__}](#{_anchor(kind)})"
        ran = kind.default_executed.value
        lines.append(f"| ZB-{kind.number} | {name} | {kind.summary} | {ran} | {kind.exit_code} |")
    return "\n".join([*lines, ""])


def _exit_codes() -> str:
    lines = ["The `zbus` command ends with one of these.", "", "| exit | means |", "|---|---|"]
    lines += [f"| {number} | {text} |" for number, text in EXIT_CODES.items()]
    return "\n".join([*lines, ""])


def _section(kind: type[ZbusError]) -> str:
    return "\n".join(
        [
            f"### ZB-{kind.number} {kind.__name__}",
            "",
            _meaning(kind).replace("``", "`"),
            "",
            f"- Did it run? {_RAN[kind.default_executed]}",
            f"- Ask again? {_AGAIN[kind.default_executed]}",
            f"- What to do: {kind.remedy}",
            f"- Caught as: {', '.join(f'`{name}`' for name in _caught_as(kind))}",
            "",
        ]
    )


def _anchor(kind: type[ZbusError]) -> str:
    return f"zb-{kind.number}-{kind.__name__.lower()}"


def _meaning(kind: type[ZbusError]) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def _caught_as(kind: type[ZbusError]) -> Iterator[str]:
    """The class and the bases under which an ``except`` finds it, nearest first."""
    for base in kind.__mro__:
        if issubclass(base, ZbusError):
            yield f"zbus.{base.__name__}"
        elif base not in {Exception, BaseException, object}:
            yield base.__name__
