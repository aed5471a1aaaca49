"""What the broker writes to standard error: events, through the logging of the standard library.

    logger.info("peer_attached", extra={"fields": {"peer": name, "role": "engine"}})

Rules of this room:

* An event is a short name that does not change; what varies stands in its fields. As JSON, a
  line opens with ``ts``, ``level``, ``logger`` and ``event``, in this order and always, then
  come the fields in the order given.
* Bodies, tokens and keys are never written: bytes are shown by their length, fields with such
  names are withheld, objects are named by their type, long texts are cut. Everything is
  escaped to ASCII, so that no peer can begin a line of its own or colour a terminal.
* A reader that stalls does not stop the broker: ``LineWriter`` has a bounded queue and a thread
  that alone writes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Final, Self

from zbus.broker.lines import LineWriter
from zbus.broker.sections import LogSection

__all__ = ["JsonFormatter", "LogStream", "TextFormatter"]

_TEXT_MAX_CHARS = 1_024
_TRACEBACK_MAX_CHARS = 16_384
_LIST_MAX = 64
_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_HEAD = ("ts", "level", "logger", "event")
_SECRETS = frozenset(
    {"body", "bodies", "frames", "key", "keys", "password", "proof", "secret", "token", "tokens"}
)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+*-]+", re.ASCII)
_PRIORITIES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line. ``journal`` puts the priority before it, as journald reads it."""

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _cut(record.getMessage(), _TEXT_MAX_CHARS),
        }
        line |= _fields(record)
        if record.exc_info:
            line["traceback"] = _cut(self.formatException(record.exc_info), _TRACEBACK_MAX_CHARS)
        return (_priority(record.levelno) if self._journal else "") + json.dumps(line)


class TextFormatter(logging.Formatter):
    """A line for people: time, level, logger, event, fields; a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().isoformat("T", "milliseconds")
        words = [at[11:23], f"{record.levelname.lower():7}", _escaped(record.name)]
        words.append(_escaped(_cut(record.getMessage(), _TEXT_MAX_CHARS)))
        words += [f"{_escaped(name)}={_shown(value)}" for name, value in _fields(record).items()]
        lines = [" ".join(words)]
        if record.exc_info:
            story = _cut(self.formatException(record.exc_info), _TRACEBACK_MAX_CHARS)
            lines += [f"  {_escaped(line)}" for line in story.splitlines()]
        return "\n".join(lines)


class LogStream:
    """The log of this process, from its making until ``close``."""

    def __init__(
        self, section: LogSection, environ: Mapping[str, str], descriptor: int = 2
    ) -> None:
        formatter = _formatter(section.format, environ, descriptor)
        self._writer = LineWriter(descriptor, lambda count: _dropped_line(formatter, count))
        self._handler = _LineHandler(self._writer)
        self._handler.setFormatter(formatter)
        root = logging.getLogger()
        self._level_before = root.level
        root.addHandler(self._handler)
        root.setLevel(_LEVELS[section.level])

    @property
    def dropped(self) -> int:
        """Lines that were not written because the reader was too slow."""
        return self._writer.dropped

    def close(self) -> None:
        """Write what waits, as far as the reader takes it within a second, and stop."""
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level_before)
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _LineHandler(logging.Handler):
    """Makes the line on the thread that logs, where the fields are still what they were."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record))
        except Exception:  # noqa: BLE001 - a record that cannot be said is counted, never raised
            self._writer.drop()


def _formatter(
    form: str, environ: Mapping[str, str], descriptor: int
) -> JsonFormatter | TextFormatter:
    if form == "text" or (form == "auto" and os.isatty(descriptor)):
        return TextFormatter()
    return JsonFormatter(journal=_is_journal(environ, descriptor))


def _is_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether the descriptor is the stream that systemd connected to the journal."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _priority(level: int) -> str:
    return next((prefix for least, prefix in _PRIORITIES if level >= least), "<7>")


def _dropped_line(formatter: logging.Formatter, count: int) -> str:
    record = logging.LogRecord(
        "zbus.broker", logging.WARNING, __file__, 0, "log_lines_dropped", None, None
    )
    record.fields = {"count": count}
    return formatter.format(record)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    if not isinstance(fields, Mapping):
        return {}
    return {_free(str(name)): _safe(str(name), value) for name, value in fields.items()}


def _free(name: str) -> str:
    return f"{name}_" if name in _HEAD or name == "traceback" else _cut(name, _TEXT_MAX_CHARS)


def _safe(name: str, value: object) -> object:
    """A value that may be written: never a body, a token or a key."""
    if isinstance(value, list | tuple | set | frozenset) and not _is_secret(name):
        some = [_safe_one(each) for each in list(value)[:_LIST_MAX]]
        return some if len(value) <= _LIST_MAX else [*some, "..."]
    if _is_secret(name) and not isinstance(value, int | float | None):
        return "withheld"
    return _safe_one(value)


def _is_secret(name: str) -> bool:
    return not _SECRETS.isdisjoint(name.lower().split("_"))


def _safe_one(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, str | PurePath):
        return _cut(str(value), _TEXT_MAX_CHARS)
    return f"<{type(value).__name__}>"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "..."


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1].replace('\\"', '"')


def _shown(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value)
