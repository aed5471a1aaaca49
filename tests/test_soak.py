"""The long profile of the simulator says what it saw, and how a failure is shown again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import soak
from zbus.protocol.memory import Memory
from zbus.testing.tally import Tally


def test_a_short_soak_says_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    """Requests, runs, rate, and the counts of everything; exit 0."""
    assert soak.main(["--requests", "60", "--each", "30"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"soak: \d+ requests in 2 runs, \d+ s, \d+ a second", output)
    assert "outcomes: " in output
    assert "executed: " in output
    assert "happened: " in output


@pytest.mark.pure
def test_a_broken_promise_is_an_exit_of_1_with_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line fails in the same way, and needs nothing of the runs before it."""
    monkeypatch.setattr(Memory, "get", lambda self, key: None)
    assert soak.main(["--requests", "4000", "--each", "200"]) == 1
    output = capsys.readouterr().out
    assert "soak: FAILED: " in output
    replay = re.search(r"replay: python tools/soak\.py (.*)", output)
    assert replay is not None
    assert soak.main(replay[1].split()) == 1
    again = capsys.readouterr().out
    assert again[again.index("soak: FAILED") :] == output[output.index("soak: FAILED") :]


def test_the_trace_of_a_run_is_the_same_each_time(tmp_path: Path) -> None:
    """Byte for byte."""
    traces = [tmp_path / "one", tmp_path / "other"]
    for trace in traces:
        assert soak.main(["--seed", "5", "--each", "20", "--runs", "1", "--trace", str(trace)]) == 0
    assert traces[0].read_bytes() == traces[1].read_bytes()
    assert len(traces[0].read_bytes()) > 10_000


def test_a_long_soak_that_saw_too_little_is_vacuous(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From so many requests on, everything must have come up; a short one may miss something."""
    monkeypatch.setattr(Tally, "missing", lambda self: iter(["fault: vanish"]))
    assert soak.main(["--requests", "20", "--each", "20"]) == 0
    monkeypatch.setattr(soak, "ENOUGH", 10)
    assert soak.main(["--requests", "20", "--each", "20"]) == 1
    assert "soak: VACUOUS: never seen: fault: vanish" in capsys.readouterr().out
