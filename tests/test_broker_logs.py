"""What the broker logs: zbus/broker/logs.py."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zbus.broker.logs import JsonFormatter, LogStream, TextFormatter
from zbus.broker.sections import LogSection

HEAD = ["ts", "level", "logger", "event"]
SECRET = "hunter2"
EVENTS = {"debug": 4, "info": 3, "warning": 2, "error": 1}
"""How many of four events, one of each level, a level lets through."""


class Loud:
    """Says its secret to whoever asks for its text."""

    def __repr__(self) -> str:
        return SECRET


class Color(IntEnum):
    RED = 1


def record(event: str, fields: object = None, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord("zbus.broker", level, __file__, 1, event, None, None)
    made.created = 1_700_000_000.25
    made.fields = fields
    return made


def as_json(event: str, fields: object = None) -> dict[str, object]:
    line = JsonFormatter().format(record(event, fields))
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def test_json_has_fixed_keys_first() -> None:
    """Time in UTC, level, logger, event; then the fields in their order."""
    line = JsonFormatter().format(record("peer_attached", {"peer": "engine-1", "epoch": 3}))
    assert line == (
        '{"ts": "2023-11-14T22:13:20.250Z", "level": "info", "logger": "zbus.broker", '
        '"event": "peer_attached", "peer": "engine-1", "epoch": 3}'
    )


def test_text_is_for_people() -> None:
    """One line; values that could be misread stand in quotes."""
    line = TextFormatter().format(
        record("peer_lost", {"peer": "a b", "for_s": 2.5, "topics": ["x"], "endpoint": "ipc:///a"})
    )
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.250 info    zbus\.broker peer_lost "
        r'peer="a b" for_s=2\.5 topics=\["x"\] endpoint=ipc:///a',
        line,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"body": SECRET},
        {"BODY": SECRET},
        {"reply_body": SECRET},
        {"token": SECRET},
        {"launch_token": SECRET},
        {"key": (SECRET, 1)},
        {"bodies": [SECRET]},
        {"password": SECRET},
        {"proof": SECRET.encode()},
        {"text": SECRET.encode()},
        {"text": bytearray(SECRET.encode())},
        {"text": memoryview(SECRET.encode())},
        {"parts": [SECRET.encode(), SECRET.encode()]},
        {"thing": Loud()},
        {"things": [Loud()]},
        {"nested": [[SECRET]]},
        {"table": {"token": SECRET}},
    ],
)
@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_no_body_token_or_key_is_written(
    formatter: logging.Formatter, fields: dict[str, object]
) -> None:
    """By the name of the field, by the type of the value, at any depth."""
    line = formatter.format(record("event", fields))
    assert SECRET not in line
    assert next(iter(fields)) in line


def test_sizes_and_ordinary_values_are_written() -> None:
    """A number is never a body; what is left out shows."""
    fields = {
        "body_bytes": 12,
        "frames": 2,
        "open": True,
        "nothing": None,
        "ratio": float("inf"),
        "color": Color.RED,
        "path": Path("/run/zbus"),
        "content": b"12345",
        "chunk": bytearray(6),
        "view": memoryview(bytes(7)),
        "names": {"a"},
        "monkey": "ape",
        "error": ValueError("x"),
    }
    assert as_json("event", fields) | dict.fromkeys(HEAD, 0) == dict.fromkeys(HEAD, 0) | {
        "body_bytes": 12,
        "frames": 2,
        "open": True,
        "nothing": None,
        "ratio": "inf",
        "color": 1,
        "path": "/run/zbus",
        "content": "<5 bytes>",
        "chunk": "<6 bytes>",
        "view": "<7 bytes>",
        "names": ["a"],
        "monkey": "ape",
        "error": "<ValueError>",
    }


def test_a_field_cannot_take_the_place_of_a_fixed_key() -> None:
    """It gets a name of its own."""
    found = as_json("real", {"event": "forged", "level": "forged", "traceback": "forged"})
    assert (found["event"], found["level"]) == ("real", "info")
    assert (found["event_"], found["level_"], found["traceback_"]) == ("forged",) * 3


def test_long_values_are_cut() -> None:
    """A peer that sends a long name does not fill the disk."""
    found = as_json("e" * 5_000, {"text": "x" * 5_000, "names": ["x"] * 5_000, "n" * 5_000: 1})
    assert len(json.dumps(found)) < 4_500
    assert str(found["text"]).endswith("x...")


def test_fields_that_are_no_mapping_are_no_fields() -> None:
    """Somebody else's use of the same attribute harms nobody."""
    assert list(as_json("event", "text")) == HEAD


TEXT = st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=9)
VALUES = SCALARS | st.lists(SCALARS | st.lists(TEXT, max_size=2), max_size=3)


@given(TEXT, st.dictionaries(TEXT, VALUES, max_size=4))
@example("\x7f\x1b[31m\x9b\n", {"a\nb": "\x7f\u2028", "c": ["\x7f"]})
def test_any_record_is_one_printable_line(event: str, fields: Mapping[str, object]) -> None:
    """No control character, no line of one's own, no colour; and JSON is JSON."""
    found = as_json(event, fields)
    assert list(found)[:4] == HEAD
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(record(event, fields))
        assert re.fullmatch(r"[ -~]+", line)


def test_a_traceback_is_written() -> None:
    """As one key of JSON, and below the line for people."""
    try:
        raise ValueError("bad\x1b[31m")
    except ValueError:
        made = record("turn_failed")
        made.exc_info = sys.exc_info()
    assert "ValueError: bad" in json.loads(JsonFormatter().format(made))["traceback"]
    lines = TextFormatter().format(made).splitlines()
    assert lines[1] == "  Traceback (most recent call last):"
    assert lines[-1] == r"  ValueError: bad\u001b[31m"


@pytest.mark.parametrize(
    ("level", "prefix"),
    [("DEBUG", "<7>"), ("INFO", "<6>"), ("WARNING", "<4>"), ("ERROR", "<3>"), ("CRITICAL", "<3>")],
)
def test_the_journal_gets_priorities(level: str, prefix: str) -> None:
    """So that ``journalctl -p warning`` finds what it should."""
    made = record("event", level=logging.getLevelNamesMapping()[level])
    line = JsonFormatter(journal=True).format(made)
    assert line.startswith(f"{prefix}{{")
    assert JsonFormatter().format(made) == line.removeprefix(prefix)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def written(
    pipe: tuple[int, int], section: LogSection, environ: Mapping[str, str] | None = None
) -> list[str]:
    """What comes out for one event of each level."""
    with LogStream(section, environ or {}, pipe[1]):
        for level in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger("zbus.broker"), level)(level, extra={"fields": {"n": 1}})
    said = os.read(pipe[0], 65_536)
    while said.count(b"\n") < EVENTS[section.level]:  # a terminal hands over in pieces
        ready, _, _ = select.select([pipe[0]], [], [], 10)
        assert ready, said
        said += os.read(pipe[0], 65_536)
    return said.decode().splitlines()


@pytest.mark.parametrize(("level", "events"), EVENTS.items())
def test_the_level_decides_what_is_written(pipe: tuple[int, int], level: str, events: int) -> None:
    """And nothing of it stays after close."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    lines = written(pipe, LogSection(level=level))
    assert len(lines) == events
    assert before == (root.level, list(root.handlers))


def test_auto_is_json_off_a_terminal(pipe: tuple[int, int]) -> None:
    """And text only where it is asked for."""
    assert json.loads(written(pipe, LogSection())[0])["event"] == "info"
    assert json.loads(written(pipe, LogSection(format="json"))[0])["n"] == 1
    assert written(pipe, LogSection(format="text"))[0].endswith("zbus.broker info n=1")


def test_auto_is_text_on_a_terminal() -> None:
    """JSON stays JSON there where it is asked for."""
    ours, theirs = os.openpty()
    try:
        assert written((ours, theirs), LogSection())[0].endswith("zbus.broker info n=1")
        assert written((ours, theirs), LogSection(format="json"))[0].startswith("{")
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_journals_stream_is_known_by_its_number(pipe: tuple[int, int]) -> None:
    """Not by the variable alone: a child whose errors go elsewhere inherits that too."""
    found = os.fstat(pipe[1])
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    assert written(pipe, LogSection(), environ)[0].startswith("<6>{")
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"}
    assert written(pipe, LogSection(), environ)[0].startswith("{")


def test_a_record_that_cannot_be_said_is_counted(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller does not notice, the log does."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own would raise
    with LogStream(LogSection(), {}, pipe[1]) as stream:
        logging.getLogger("zbus.broker").info("%d of %d", "one")
        assert stream.dropped == 1
        logging.getLogger("zbus.broker").info("next")
    lines = [json.loads(line) for line in os.read(pipe[0], 65_536).decode().splitlines()]
    assert [line["event"] for line in lines] == ["next", "log_lines_dropped"]
    assert lines[1]["count"] == 1
    assert lines[1]["level"] == "warning"
