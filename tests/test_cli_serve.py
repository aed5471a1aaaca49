"""`zbus serve`: echo, a program or a function for a topic, until a signal."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from terminals import Terminals, bus, invoke, until

from zbus.cli.serve import found_function
from zbus.errors import HandlerError
from zbus.peer.peer import Peer, connect

JOBS = """
import time

def submit(body, request):
    return {"accepted": body["id"], "from": request.source}

class Table:
    @staticmethod
    async def later(body):
        return "later"

def hang(body):
    open("hangs", "w").close()
    time.sleep(60)

number = 3
"""


@pytest.fixture(scope="module")
def here() -> Iterator[Terminals]:
    with bus() as terminals:
        (terminals.place / "my_jobs.py").write_text(JOBS)
        yield terminals


@pytest.fixture
def engine(here: Terminals) -> Iterator[Peer]:
    with connect(f"ipc://{here.place}/frontend", "engine-1") as peer:
        yield peer


@pytest.mark.real
def test_echo_replies_with_the_body(here: Terminals, engine: Peer) -> None:
    """Whatever it is; and the first line says that it serves, as whom."""
    with here.beside("serve", "echo", "--echo", "--name", "parrot") as server:
        assert server.line() == 'serving "echo" as parrot; Ctrl-C ends it'
        for body in ("hi", None, b"\xff", (1, {2}), {"a": [1.5]}):
            assert engine.request("echo", body, timeout=10) == body
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        assert server.errors == ""


@pytest.mark.real
def test_json_says_ready_as_an_object(here: Terminals) -> None:
    """A made-up name is unique, so that two may serve one topic."""
    words = ("serve", "a", "--echo", "--json")
    with here.beside(*words) as one, here.beside(*words) as two:
        first, second = json.loads(one.line()), json.loads(two.line())
    assert first["ready"] is True
    assert first["topic"] == "a"
    assert first["name"] != second["name"]


@pytest.mark.real
def test_a_program_replies(here: Terminals, engine: Peer) -> None:
    """Its words are those of a shell's line, without a shell; pushes run it, too."""
    program = f"""{sys.executable} -c "import sys; print(sys.stdin.read().upper() + '$HOME')" """
    with here.beside("serve", "upper", "--exec", program) as server:
        server.line()
        assert engine.request("upper", "hi", timeout=10) == "HI$HOME"
        engine.push("upper", "x")
        assert engine.flush(timeout=10) == 0


@pytest.mark.real
def test_a_program_that_fails_is_a_handler_error(here: Terminals, engine: Peer) -> None:
    """Whoever asks learns the exit code and the last words; the operator reads one line more."""
    with here.beside("serve", "fail", "--exec", "sh -c 'echo no luck >&2; exit 3'") as server:
        server.line()
        with pytest.raises(HandlerError, match="ended with exit code 3: no luck"):
            engine.request("fail", "hi", timeout=10)
        until(lambda: "zbus: the handler of 'fail' raised" in server.errors, "it is logged")
        assert "Traceback" not in server.errors


@pytest.mark.real
def test_a_program_is_killed_when_its_time_is_up(here: Terminals, engine: Peer) -> None:
    """The time of the request; the server goes on."""
    command = "sh -c 'echo $$ > new && mv new pid; exec sleep 60'"
    with here.beside("serve", "sleepy", "--exec", command) as server:
        server.line()
        with pytest.raises(TimeoutError):
            engine.request("sleepy", timeout=4.0)
        path = here.place / "pid"
        until(path.exists, "the program ran")
        pid = int(path.read_text())
        until(lambda: not Path(f"/proc/{pid}").exists(), "the program is gone")
        assert server.process.poll() is None


@pytest.mark.real
def test_a_function_serves(here: Terminals, engine: Peer) -> None:
    """Of a module in the current directory; sync, async, or an attribute of a class."""
    with here.beside("serve", "job.submit", "my_jobs:submit") as server:
        server.line()
        reply = engine.request("job.submit", {"id": 7}, timeout=10)
        assert reply == {"accepted": 7, "from": "engine-1"}
        with pytest.raises(HandlerError, match="KeyError"):
            engine.request("job.submit", {}, timeout=10)
        until(lambda: "Traceback" in server.errors, "the operator is told where")
    with here.beside("serve", "job.later", "my_jobs:Table.later") as server:
        server.line()
        assert engine.request("job.later", timeout=10) == "later"


@pytest.mark.real
def test_p18_a_signal_drains_and_a_second_one_ends_it(here: Terminals, engine: Peer) -> None:
    """Exit code 1 and a count where something was left; at once after the second."""
    words, hangs = ("serve", "hang", "my_jobs:hang", "--drain"), here.place / "hangs"
    for drain, second, code in (("200ms", False, 1), ("60", True, 130)):
        with here.beside(*words, drain) as server, ThreadPoolExecutor(1) as pool:
            server.line()
            asked = pool.submit(engine.request, "hang", timeout=30)
            until(hangs.exists, "the handler runs")
            hangs.unlink()
            server.signal(signal.SIGINT)
            if second:
                until(lambda: "hang" not in engine.request("zbus.topics", timeout=5), "it drains")
                server.signal(signal.SIGINT)
            began = time.monotonic()
            assert server.end() == code
            assert time.monotonic() - began < 10
            assert ("left unfinished: 1 handlers" in server.errors) is not second
            assert asked.exception(30) is not None


@pytest.mark.real
def test_a_name_that_is_taken_over_ends_the_older(here: Terminals) -> None:
    """With the error of the broker and its exit code."""
    with here.beside("serve", "b", "--echo", "--name", "twice") as older:
        older.line()
        with here.beside("serve", "b", "--echo", "--name", "twice") as newer:
            newer.line()
            assert older.end() == 6
            assert "(ZB-108)" in older.errors


@pytest.mark.real
def test_the_frontend_is_not_for_servers(here: Terminals) -> None:
    """The broker says so."""
    frontend = f"ipc://{here.place}/frontend"
    result = here.here("serve", "c", "--echo", "--endpoint", frontend, "--connect", "2")
    assert result.exit_code == 6
    assert "not the socket for a server" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("x",), "Give one of"),
        (("x", "--echo", "--exec", "cat"), "Give one of"),
        (("x", "my_jobs:submit", "--echo"), "Give one of"),
        (("x", "--exec", "a 'b"), "No closing quotation"),
        (("x", "--exec", " "), "needs a program"),
        (("x", "no_such_module:f"), "cannot be imported"),
        (("x", "os:no_such_name"), "cannot be imported"),
        (("x", "os:sep"), "is no function"),
        (("x", "json"), "is not MODULE:FUNCTION"),
        (("x y", "--echo"), "is not valid"),
        (("zbus.ping", "--echo"), "is reserved"),
        ((), "Missing argument"),
    ],
)
def test_wrong_usage_exits_2(words: tuple[str, ...], told: str) -> None:
    """Before a broker is looked for."""
    result = invoke("serve", *words, "--connect", "1ms")
    assert result.exit_code == 2, result.stderr
    assert told in result.stderr


def test_a_function_is_found_by_its_path() -> None:
    """A dotted module, and a dotted name in it."""
    assert found_function("os.path:join") is os.path.join
    assert found_function("pathlib:Path.cwd") == Path.cwd
    with pytest.raises(click.UsageError):
        found_function(":f")
