"""`zbus explain` tells what the registry of errors knows."""

from __future__ import annotations

import json

import pytest
from terminals import invoke

from zbus.errors import every_error
from zbus.explain import EXIT_CODES


@pytest.mark.parametrize("written", ["ZB-301", "zb-301", "301", "RequestTimeout"])
def test_an_error_is_found_however_it_is_written(written: str) -> None:
    """Code, number or name."""
    result = invoke("explain", written)
    assert result.exit_code == 0
    assert result.stdout.startswith("ZB-301 RequestTimeout: ")
    assert "exit code     3" in result.stdout


def test_json_has_the_facts() -> None:
    """One object on one line."""
    found = json.loads(invoke("explain", "ZB-104", "--json").stdout)
    assert (found["code"], found["name"], found["exit_code"]) == ("ZB-104", "NoHandler", 4)
    assert found["retry_safe"] is True


def test_without_an_error_all_are_listed() -> None:
    """Every code, and every exit code with its meaning."""
    text = invoke("explain").stdout
    for kind in every_error():
        assert f"ZB-{kind.number}  {kind.__name__}" in text
    for code, meaning in EXIT_CODES.items():
        assert meaning in text
        assert str(code) in text
    listed = json.loads(invoke("explain", "--json").stdout)
    assert len(listed["errors"]) == len(list(every_error()))
    assert listed["exit_codes"]["4"] == EXIT_CODES[4]


def test_an_error_that_does_not_exist_is_wrong_usage() -> None:
    """With the way to the list."""
    result = invoke("explain", "ZB-999")
    assert result.exit_code == 2
    assert "There is no error 'ZB-999'" in result.stderr
