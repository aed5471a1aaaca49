"""`zbus demo`, and how it draws what happens: zbus/cli/demo.py."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminals import ROOT, Terminals, invoke, terminals, until

from zbus.cli.demo import words_of
from zbus.demo.cast import DemoFailed
from zbus.demo.events import (
    Aborted,
    BrokerBack,
    BrokerKilled,
    Check,
    Event,
    Latency,
    RoundOver,
    Started,
)
from zbus.demo.parts import living_in
from zbus.demo.plan import Plan

PLAN = Plan(engines=2, rounds=12)
STARTED = Started(pids={"broker": 7, "server": 8}, runtime_dir="/tmp/zbus-demo-x", took_s=1.25)
ROUND = RoundOver(
    number=3, accuracy=0.8125, loss=1.0, metrics=1200, at_engines={"engine-1": 0.8}, faults={}
)
RAISED = RoundOver(
    number=4, accuracy=0.9, loss=0.5, metrics=1, at_engines={}, faults={"engine-2": "it raised"}
)
KEPT = Check(promise="every request ended once", kept=True, found="3 asked, 3 ended")
BROKEN = Check(promise="nothing is left behind", kept=False, found="process 7")
LATENCY = Latency(requests=2000, p50_ms=0.6213, p99_ms=3.2, waited=150)
KILLED, BACK = BrokerKilled(pid=7, successor=9), BrokerBack(after_ms=1234.0)
ABORTED = Aborted(
    job="astray", pid=7, answer="late", step="asked", ending="exit code 0", took_ms=1041.3
)
ABORTED_LINE = (
    "job astray: its handler has not answered; process 7 is gone 1,041 ms after the abort"
    " (asked, exit code 0)"
)
LATENCY_LINE = (
    "latency of 2,000 requests while training: p50 0.62 ms, p99 3.20 ms; 150 more met the restart"
)
LINES: list[tuple[Event, str]] = [
    (
        STARTED,
        "2 processes over ipc in /tmp/zbus-demo-x, started in 1.2 s: broker 7, server 8",
    ),
    (ROUND, "round  3/12  accuracy 0.812  loss 1.000   1,200 metrics"),
    (
        RAISED,
        "engine-2: it raised\nround  4/12  accuracy 0.900  loss 0.500       1 metrics",
    ),
    (
        KILLED,
        "broker 7 killed with SIGKILL while requests are under way; broker 9 starts in its place",
    ),
    (BACK, "a reply after 1,234 ms; the training goes on by itself"),
    (
        ABORTED,
        ABORTED_LINE,
    ),
    (KEPT, "ok     every request ended once: 3 asked, 3 ended"),
    (BROKEN, "FAILED nothing is left behind: process 7"),
    (LATENCY, LATENCY_LINE),
]
Telling = Callable[..., bool]


def telling(kept: bool, seen: list[object]) -> Telling:
    """Stands in for the story: tells one event of each kind."""

    def live(plan: Plan, tell: Callable[[Event], None], keep: Path | None) -> bool:
        seen.extend((plan, keep))
        for event, _ in LINES:
            tell(event)
        return kept

    return live


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a story that goes well was given."""
    seen: list[object] = []
    monkeypatch.setattr("zbus.cli.demo.live", telling(True, seen))
    return seen


@pytest.fixture
def here() -> Iterator[Terminals]:
    """A terminal with a runtime directory that the demo is not to use."""
    with terminals() as here:
        yield here


@pytest.mark.parametrize(("event", "line"), LINES)
def test_each_event_has_its_words(event: Event, line: str) -> None:
    """In a line, or two where a handler raised."""
    assert words_of(event, PLAN) == line


def test_off_a_terminal_there_is_a_line_an_event(seen: list[object]) -> None:
    """And at the end what to try next; standard error is for errors."""
    result = invoke("demo", "--rounds", "12")
    assert result.exit_code == 0, result.output
    *lines, first, second, third = result.stdout.splitlines()
    assert lines == "\n".join(line for _, line in LINES).splitlines()
    assert first.startswith("Next:")
    assert first.endswith(" broker")
    assert " serve echo --echo" in second
    assert " req echo hi" in third
    assert result.stderr == ""


def test_json_has_an_object_an_event(seen: list[object]) -> None:
    """One a line, each with its kind, and nothing else."""
    result = invoke("demo", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = "started round round broker_killed broker_back aborted check check latency".split()
    assert [event["event"] for event in events] == kinds
    assert events[1]["accuracy"] == 0.8125
    assert events[5]["took_ms"] == 1041.3
    assert events[7] == {
        "event": "check",
        "promise": "nothing is left behind",
        "kept": False,
        "found": "process 7",
    }


def test_options_are_the_plan(seen: list[object], tmp_path: Path) -> None:
    """``--fast`` leaves out what is there for people."""
    invoke("demo", "--rounds", "9", "--engines", "3", "--keep", os.path.relpath(tmp_path))
    invoke("demo", "--fast")
    assert seen == [Plan(rounds=9, engines=3), tmp_path, Plan(pace_s=0.0), None]


@pytest.mark.parametrize("words", [("--rounds", "1"), ("--engines", "0"), ("--engines", "99")])
def test_what_cannot_be_is_wrong_usage(seen: list[object], words: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is started."""
    assert invoke("demo", *words).exit_code == 2
    assert seen == []


def test_kept_files_are_not_mixed(seen: list[object], tmp_path: Path) -> None:
    """A directory with something in it is refused, and left as it is."""
    (tmp_path / "mine").write_text("mine")
    result = invoke("demo", "--keep", str(tmp_path))
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_broken_promise_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is sent on from there."""
    monkeypatch.setattr("zbus.cli.demo.live", telling(False, []))
    result = invoke("demo")
    assert result.exit_code == 1
    assert "FAILED nothing is left behind" in result.stdout
    assert "Next" not in result.stdout


@pytest.mark.parametrize("as_json", [False, True])
def test_a_part_that_failed_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """Standard error says which, and what it printed last."""

    def fail(*arguments: object) -> bool:
        raise DemoFailed("engine-2 ended with exit code 3.\n    its last words")

    monkeypatch.setattr("zbus.cli.demo.live", fail)
    result = invoke("demo", *["--json"] * as_json)
    assert result.exit_code == 1
    assert result.stdout == ""
    if as_json:
        assert json.loads(result.stderr)["message"].startswith("engine-2 ended")
    else:
        assert result.stderr == (
            "zbus: the demo failed: engine-2 ended with exit code 3.\n    its last words\n"
        )


def test_without_its_extra_the_demo_says_what_to_install(
    seen: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and nothing is started."""
    monkeypatch.setattr("zbus.cli.demo.missing", lambda: ["NumPy", "scikit-learn"])
    result = invoke("demo")
    assert result.exit_code == 2
    assert "NumPy and scikit-learn" in result.stderr
    assert 'pip install "zbus-broker[demo]"' in result.stderr
    assert seen == []


@pytest.mark.real
def test_the_demo_passes_as_json(here: Terminals) -> None:
    """The command as programs call it; whoever's bus there is, is left alone."""
    done = here.zbus("demo", "--fast", "--json")
    assert done.stderr == b""
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    counts = Counter(event["event"] for event in events)
    assert counts == {
        "started": 1,
        "round": 16,
        "broker_killed": 1,
        "broker_back": 1,
        "aborted": 1,
        "check": 8,
        "latency": 1,
    }
    assert all(event["kept"] for event in events if event["event"] == "check")
    assert [*here.place.iterdir()] == []


@pytest.mark.real
def test_the_demo_passes_on_a_terminal(here: Terminals) -> None:
    """With bars and colours, and a line that says what is going on."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "zbus", "demo", "--fast"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**here.environment, "TERM": "xterm-256color", "COLUMNS": "120"},
        cwd=ROOT,
    )
    os.close(theirs)
    try:
        text = "".join(_read(ours))
        assert child.wait(20) == 0, text
    finally:
        child.kill()
        child.wait(20)
        os.close(ours)
    assert "round 16/16" in text
    assert "\N{FULL BLOCK}\N{LIGHT SHADE}" in text
    assert "engines train for round 2 of 16" in text
    assert "\x1b[1;32mok" in text


def _read(terminal: int) -> Iterator[str]:
    while True:
        try:
            yield os.read(terminal, 65_536).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            return


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_demo_quietly(here: Terminals, number: int) -> None:
    """Exit code 130, no traceback, and no process or file that stays behind."""
    with here.beside("demo", "--json") as demo:
        started = json.loads(demo.line())
        place = Path(started["runtime_dir"])
        assert len([*living_in(place)]) == 1 + 2 * 6  # all but the server have guards
        demo.signal(number)
        assert demo.end() == 130
        assert demo.errors == ""
    until(lambda: not [*living_in(place)], "all processes are gone")
    assert not place.exists()
