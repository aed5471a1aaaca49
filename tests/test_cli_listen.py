"""`zbus listen` prints pushes, and takes no more of them than it prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from terminals import Terminals, bus, invoke, until

from zbus.peer.peer import Peer, connect

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def here() -> Iterator[Terminals]:
    with bus() as terminals:
        yield terminals


@pytest.fixture
def engine(here: Terminals) -> Iterator[Peer]:
    with connect(f"ipc://{here.place}/frontend", "engine-1") as peer:
        yield peer


def test_pushes_are_printed_in_order_until_a_signal(here: Terminals, engine: Peer) -> None:
    """One a line, each as soon as it comes; the end is quiet and good."""
    with here.beside("listen", "lines") as listener:
        for body in ("hi", "two\twords", {"a": [1, b"x"]}):
            engine.push("lines", body)
        assert [listener.line() for _ in range(3)] == [
            "hi",
            "two\twords",
            '{"a": [1, "<1 bytes>"]}',
        ]
        assert engine.flush(timeout=10) == 0
        assert 'listening to "lines"' in listener.errors
        listener.signal(signal.SIGINT)
        assert listener.end() == 0
        assert listener.errors.count("\n") == 1


def test_json_lines_say_from_whom(here: Terminals, engine: Peer) -> None:
    """A request is printed, too, and replied to with None."""
    with here.beside("listen", "objects", "--json") as listener:
        engine.push("objects", b"\x00")
        assert json.loads(listener.line()) == {
            "topic": "objects",
            "source": "engine-1",
            "push": True,
            "body": {"base64": "AA=="},
        }
        assert engine.request("objects", 1, timeout=10) is None
        assert json.loads(listener.line())["push"] is False


def test_a_count_ends_it_and_leaves_the_rest_to_others(here: Terminals, engine: Peer) -> None:
    """What was not printed was not taken: the next who listens gets it, once."""
    for number in range(6):
        engine.push("some", str(number))
    first = here.zbus("listen", "some", "--count", "2")
    assert (first.returncode, first.stdout) == (0, b"0\n1\n")
    until(lambda: engine.counters().delivered == 2, "what was printed is settled")
    assert engine.counters().queued == 4
    second = here.zbus("listen", "some", "--count", "4")
    assert (second.returncode, second.stdout) == (0, b"2\n3\n4\n5\n")
    until(lambda: engine.counters().queued == 0, "all pushes are settled")
    assert engine.counters().delivered == 6


def test_a_reader_that_goes_away_ends_it(here: Terminals, engine: Peer) -> None:
    """Quietly, and what was not printed is not taken."""
    script = f"{sys.executable} -m zbus listen piped --json | head -1; echo ${{PIPESTATUS[0]}}"
    with subprocess.Popen(
        ["bash", "-c", script], env=here.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as shell:
        until(lambda: "piped" in engine.request("zbus.topics", timeout=5), "it listens")
        for number in range(3):
            engine.push("piped", number)
            until(lambda: engine.counters().queued < 3, "pushes are on their way")
        out, errors = shell.communicate(timeout=30)
    lines = out.decode().splitlines()
    assert json.loads(lines[0])["body"] == 0
    assert lines[1] == "141"
    assert "Traceback" not in errors.decode()
    rest = here.zbus("listen", "piped", "--count", "1")
    assert rest.returncode == 0
    engine.close(drain=0.0)


def test_wrong_usage_exits_2() -> None:
    """A count is one at least."""
    assert invoke("listen").exit_code == 2
    assert invoke("listen", "x", "--count", "0").exit_code == 2
    assert invoke("listen", "x y", "--connect", "1ms").exit_code == 2
