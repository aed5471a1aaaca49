"""What commands print, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.cli import output
from zbus.cli.output import print_json, print_reply, print_table, print_text, printable


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@given(st.text())
def test_off_a_terminal_text_is_as_it_is(text: str) -> None:
    """A program gets what was replied, to the character."""
    assert printable(text, io.StringIO()) == text


@given(st.text())
def test_on_a_terminal_nothing_is_obeyed(text: str) -> None:
    """No control character is left but tab and line feed, and what is harmless is as it was."""
    shown = printable(text, Terminal())
    assert all(mark.isprintable() or mark in "\t\n" or ord(mark) >= 0xA0 for mark in shown)
    assert not set(shown) & {"\x1b", "\r", "\x07", "\x9b", "\u202e"}
    if text.isprintable():
        assert shown == text


def test_a_reply_that_is_text_is_printed_as_it_is(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """With one line end after it."""
    print_reply("hi\tthere")
    print_reply("grüezi")
    assert capsysbinary.readouterr().out.decode() == "hi\tthere\ngrüezi\n"


def test_other_replies_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    for reply in (None, True, 1.5, [1, "a"], {"a": b"xy"}):
        print_reply(reply)
    assert capsys.readouterr().out == 'null\ntrue\n1.5\n[1, "a"]\n{"a": "<2 bytes>"}\n'


def test_bytes_are_as_they_are_unless_a_person_looks(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or a pipe gets the bytes; a terminal gets their number."""
    print_reply(b"\x00\xff")
    assert capsysbinary.readouterr().out == b"\x00\xff"
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    print_reply(b"\x00\xff")
    assert capsysbinary.readouterr().out == b'"<2 bytes>"\n'


def test_json_is_one_ascii_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in it."""
    print_json({"text": "grü\n\x1b", "number": float("inf")})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"text": "grü\n\x1b", "number": "inf"}


def test_a_table_has_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Each as wide as its widest cell, with nothing after the last."""
    print_table(("NAME", "N"), [["engine-1", "2"], ["x", "30"]])
    assert capsys.readouterr().out == "NAME      N\nengine-1  2\nx         30\n"


def test_a_table_on_a_terminal_shows_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn by rich, and no cell is taken for markup."""
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    print_table(("NAME",), [["[bold]x[/bold]"], ["y\x1b[0m"]])
    printed = capsys.readouterr().out
    assert "NAME" in printed
    assert "[bold]x[/bold]" in printed
    assert "y\\x1b[0m" in printed


def test_text_ends_with_one_line_end(capsys: pytest.CaptureFixture[str]) -> None:
    """However many lines it has."""
    print_text("a\nb")
    assert capsys.readouterr().out == "a\nb\n"
