"""`zbus req` asks once: the reply on standard output, or why there is none and an exit code."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from terminals import Terminals, bus, invoke, terminals, until

from zbus.peer.dispatcher import Dispatcher, Incoming
from zbus.peer.peer import Peer, connect

ANSWERS = {
    "text": "hi",
    "nothing": None,
    "dict": {"a": [1, 2.5]},
    "bytes": b"\x00\xff",
    "array": np.zeros((2, 3), "f4"),
}


@pytest.fixture(scope="module")
def here() -> Iterator[Terminals]:
    dispatcher = Dispatcher()
    dispatcher.add("echo", lambda body: body)
    dispatcher.add("answer", lambda body: ANSWERS[body])
    dispatcher.add("who", lambda body, request: request.source)

    @dispatcher.on("slow")
    def slow(body: object, request: Incoming) -> None:
        while not request.cancelled:
            time.sleep(0.01)

    with bus() as terminals:
        endpoint = f"ipc://{terminals.place}/backend"
        with connect(endpoint, "server", dispatcher=dispatcher, role="server"):
            yield terminals


def failed(here: Terminals, *words: str) -> dict[str, object]:
    """What ``--json`` says of a request that failed."""
    result = here.here("req", *words, "--json")
    assert result.stdout == ""
    facts: dict[str, object] = json.loads(result.stderr)
    assert facts["exit_code"] == result.exit_code
    return facts


@pytest.mark.real
@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("echo", "hi"), b"hi\n"),
        (("echo",), b"null\n"),
        (("echo", "--", "--json"), b"--json\n"),
        (("echo", "[1, null]"), b"[1, null]\n"),
        (("echo", '{"a": 1.0}', "--json-body"), b'{"a": 1.0}\n'),
        (("echo", '"hi"', "--json-body"), b"hi\n"),
        (("answer", "nothing"), b"null\n"),
        (("answer", "bytes"), b"\x00\xff"),
        (("answer", "array"), b'"<float32 array 2x3>"\n'),
        (("echo", "hi", "--timeout", "5000ms", "--to", "server"), b"hi\n"),
        (("echo", "hi", "--wait"), b"hi\n"),
    ],
)
def test_the_reply_is_printed(here: Terminals, words: tuple[str, ...], printed: bytes) -> None:
    """Text and bytes as they are, anything else as JSON."""
    result = here.here("req", *words)
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, printed, "")


@pytest.mark.real
def test_the_body_may_come_from_standard_input(here: Terminals) -> None:
    """All of it, to the last line end; bytes that are no text come as bytes."""
    assert here.here("req", "echo", "-", text="a\nb\n").stdout == "a\nb\n\n"
    assert here.here("req", "echo", "-", text=b"\xff").stdout_bytes == b"\xff"


@pytest.mark.real
def test_json_has_the_reply_and_how_long_it_took(here: Terminals) -> None:
    """One object; bytes in it are base64."""
    said = json.loads(here.here("req", "answer", "bytes", "--json").stdout)
    assert said["topic"] == "answer"
    assert said["reply"] == {"base64": "AP8="}
    assert 0 < said["took_s"] < 5


@pytest.mark.real
def test_p03_unserved_is_told_at_once_and_exits_4(here: Terminals) -> None:
    """Not after the timeout; in words that say it was not run."""
    began = time.monotonic()
    result = here.here("req", "nobody", "hi", "--timeout", "60")
    assert time.monotonic() - began < 10
    assert result.exit_code == 4
    assert result.stdout == ""
    assert result.stderr.startswith(
        'zbus: no peer serves topic "nobody" (ZB-104). It was not run. '
    )
    facts = failed(here, "nobody")
    assert (facts["code"], facts["executed"], facts["retry_safe"]) == ("ZB-104", "no", True)
    assert failed(here, "echo", "--to", "nobody")["code"] == "ZB-102"


@pytest.mark.real
def test_a_timeout_exits_3_and_may_have_run(here: Terminals) -> None:
    """On time, and without a word of a reply."""
    began = time.monotonic()
    facts = failed(here, "slow", "--timeout", "300ms")
    assert 0.3 <= time.monotonic() - began < 10
    assert (facts["code"], facts["executed"], facts["exit_code"]) == ("ZB-301", "maybe", 3)


@pytest.mark.real
def test_a_handler_that_raises_exits_1_and_did_run(here: Terminals) -> None:
    """The error names what it raised."""
    facts = failed(here, "answer", "unknown")
    assert (facts["code"], facts["executed"], facts["exit_code"]) == ("ZB-401", "yes", 1)
    assert "KeyError" in str(facts["message"])


@pytest.mark.real
def test_a_body_that_is_too_large_exits_7() -> None:
    """It never leaves, where the broker takes no large ones."""
    with bus("--object-max", "0B") as terminals:
        result = terminals.here("req", "echo", "-", text="x" * 2_000_000)
    assert result.exit_code == 7
    assert "(ZB-203). It was not run." in result.stderr


@pytest.mark.real
def test_waiting_for_a_server_is_waiting(here: Terminals) -> None:
    """``--wait`` ends by the timeout where nobody comes, and it was not run."""
    began = time.monotonic()
    result = here.here("req", "nobody", "--wait", "--timeout", "0.3")
    assert 0.3 <= time.monotonic() - began < 10
    assert result.exit_code == 3


@pytest.mark.real
def test_without_a_broker_it_exits_5(tmp_path: Path) -> None:
    """After as long as ``--connect`` says; nothing was sent."""
    with terminals() as here:
        began = time.monotonic()
        facts = failed(here, "echo", "hi", "--connect", "200ms")
        assert 0.2 <= time.monotonic() - began < 10
    assert (facts["code"], facts["executed"], facts["exit_code"]) == ("ZB-101", "no", 5)
    assert str(here.place) in str(facts["message"])


@pytest.mark.real
def test_the_endpoint_may_be_given(here: Terminals) -> None:
    """By the option, else by the environment."""
    frontend = f"ipc://{here.place}/frontend"
    elsewhere = {"ZBUS_RUNTIME_DIR": str(here.place / "none")}
    words = ("req", "echo", "hi", "--connect", "5")
    assert invoke(*words, "--endpoint", frontend, environment=elsewhere).stdout == "hi\n"
    given = {**elsewhere, "ZBUS_ENDPOINT": frontend}
    assert invoke(*words, environment=given).stdout == "hi\n"


@pytest.mark.real
def test_its_peer_has_a_name_of_its_own(here: Terminals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside an engine that has ``ZBUS_NAME``: it must not take that engine's name over."""
    monkeypatch.setenv("ZBUS_NAME", "server")
    first, second = here.here("req", "who").stdout, here.here("req", "who").stdout
    assert first.startswith("zbus-req-")
    assert first != second


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("echo", "hi", "more"),
        ("echo", "--timeout", "0"),
        ("echo", "--timeout", "soon"),
        ("echo", "{", "--json-body"),
        ("echo", "--json-body"),
    ],
)
def test_wrong_usage_exits_2_before_anything_is_sent(words: tuple[str, ...]) -> None:
    """There is not even a broker."""
    result = invoke("req", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("zbus: ")
    assert json.loads(invoke("req", *words, "--json").stderr)["exit_code"] == 2


@pytest.mark.real
@pytest.mark.parametrize("words", [("a b", "hi"), ("echo", "--to", "a b")])
def test_a_name_that_breaks_the_grammar_exits_2(here: Terminals, words: tuple[str, ...]) -> None:
    """It is told which."""
    result = here.here("req", *words)
    assert result.exit_code == 2
    assert "'a b' is not valid (ZB-503)" in result.stderr


@pytest.mark.real
def test_ctrl_c_gives_the_request_up_quietly(here: Terminals) -> None:
    """130 and not a word; the handler is told that nobody waits any more."""
    with connect(f"ipc://{here.place}/frontend") as engine:
        with here.beside("req", "slow", "--timeout", "60") as asking:
            until(lambda: _held(engine) == 1, "the handler runs")
            asking.signal(signal.SIGINT)
            assert asking.end() == 130
            assert asking.errors == ""
        until(lambda: _held(engine) == 0, "the handler has ended")


def _held(engine: Peer) -> int:
    return sum(peer["holds"] for peer in engine.request("zbus.peers", timeout=5))


@pytest.mark.real
def test_a_whole_process_is_quick(here: Terminals) -> None:
    """W10: from start to end, imports included. The bound here is far above the target, for a
    machine with other work."""
    took_s = []
    for _ in range(5):
        began = time.monotonic()
        done = here.zbus("req", "echo", "hi")
        took_s.append(time.monotonic() - began)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hi\n", b"")
    assert min(took_s) < 1.0
