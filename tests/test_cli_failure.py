"""What a failed command says: words for people, an object for programs, a code for shells."""

from __future__ import annotations

import json

import click
import pytest

from zbus import errors
from zbus.cli.failure import exit_code_of, facts_of, report
from zbus.errors import Executed, every_error


@pytest.mark.parametrize("kind", list(every_error()))
def test_every_error_is_told_with_its_facts(
    kind: type[errors.ZbusError], capsys: pytest.CaptureFixture[str]
) -> None:
    """Code, whether it ran, remedy and exit code are those of the registry, in both forms."""
    error = kind("it broke", executed=Executed.MAYBE, retry_after_s=0.25)
    assert report(error) == kind.exit_code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"zbus: it broke (ZB-{kind.number}). It may have run. {kind.remedy}\n"
    assert report(error, as_json=True) == kind.exit_code
    told = capsys.readouterr()
    assert told.out == ""
    assert json.loads(told.err) == {
        "code": f"ZB-{kind.number}",
        "name": kind.__name__,
        "executed": "maybe",
        "retry_safe": False,
        "retry_after_s": 0.25,
        "exit_code": kind.exit_code,
        "message": "it broke",
        "remedy": kind.remedy,
    }


def test_wrong_usage_is_exit_code_2_and_was_not_run() -> None:
    """It has no code of an error of the bus, but every other fact."""
    facts = facts_of(click.UsageError("Missing argument 'TOPIC'."))
    assert facts["code"] is None
    assert facts["exit_code"] == 2
    assert (facts["executed"], facts["retry_safe"]) == ("no", True)
    assert facts["message"] == "Missing argument 'TOPIC'."
    assert set(facts) == set(facts_of(errors.NoHandler()))


def test_anything_else_is_a_bug_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 70, the kind and text of the exception, and how to see more."""
    assert report(KeyError("x")) == 70
    told = capsys.readouterr().err
    assert "KeyError: 'x'" in told
    assert "(ZB-901)" in told
    assert "--debug" in told
    assert "Traceback" not in told
    assert exit_code_of(OSError("disk full")) == 70


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback stands before the sentence."""
    try:
        raise errors.NoHandler("nobody")
    except errors.NoHandler as error:
        report(error, debug=True)
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.splitlines()[-1].startswith("zbus: nobody (ZB-104).")


def test_a_peer_cannot_write_to_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process put into an error is shown, not obeyed."""
    monkeypatch.setattr("zbus.cli.output.is_terminal", lambda stream: True)
    report(errors.HandlerError("raised \x1b[31mred\r"))
    assert "raised \\x1b[31mred\\r (ZB-401)" in capsys.readouterr().err
