"""`zbus push` pushes, waits until all is taken, and says what became of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from terminals import Terminals, bus, invoke

from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import Peer, connect
from zbus.protocol.session import SessionLimits


class Taken:
    """What a server has taken, in order."""

    def __init__(self) -> None:
        self.bodies: list[object] = []
        self.gate = threading.Event()
        self.late_gate = threading.Event()

    def take(self, body: object) -> None:
        self.bodies.append(body)

    def late(self, body: object) -> None:
        self.late_gate.wait(60)
        self.bodies.append(body)

    def stuck(self, body: object) -> None:
        self.gate.wait(60)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Terminals, Taken]]:
    taken, dispatcher = Taken(), Dispatcher()
    dispatcher.add("take", taken.take)
    dispatcher.add("late", taken.late)
    dispatcher.add("stuck", taken.stuck)
    with bus() as terminals:
        endpoint = f"ipc://{terminals.place}/backend"
        with connect(endpoint, "server", dispatcher=dispatcher, role="server"):
            yield terminals, taken
            taken.gate.set()
            taken.late_gate.set()


@pytest.fixture
def here(served: tuple[Terminals, Taken]) -> Terminals:
    return served[0]


@pytest.fixture
def taken(served: tuple[Terminals, Taken]) -> Taken:
    served[1].bodies.clear()
    return served[1]


@pytest.mark.real
def test_a_push_is_delivered_and_counted(here: Terminals, taken: Taken) -> None:
    """When the command has ended, the handler has it."""
    result = here.here("push", "take", "hi")
    assert result.exit_code == 0
    assert result.stdout == "1 accepted, 1 delivered, 0 dropped, 0 queued\n"
    assert taken.bodies == ["hi"]


@pytest.mark.real
def test_bodies_are_what_was_typed(here: Terminals, taken: Taken) -> None:
    """Text, JSON, or nothing."""
    here.here("push", "take", '{"load": 0.5}')
    here.here("push", "take", '{"load": 0.5}', "--json-body")
    here.here("push", "take")
    assert taken.bodies == ['{"load": 0.5}', {"load": 0.5}, None]


@pytest.mark.real
def test_lines_of_standard_input_are_pushed_in_order(here: Terminals, taken: Taken) -> None:
    """Each line is a push; the last may lack its end."""
    result = here.here("push", "take", "-", "--json", text="a\n\nb c\r\nd")
    assert json.loads(result.stdout) == {
        "topic": "take",
        "accepted": 4,
        "delivered": 4,
        "dropped": 0,
        "queued": 0,
    }
    assert taken.bodies == ["a", "", "b c", "d"]
    taken.bodies.clear()
    here.here("push", "take", "-", "--json-body", "--count", "2", text='1\n{"a": null}\n')
    assert taken.bodies == [1, 1, {"a": None}, {"a": None}]


def narrow(monkeypatch: pytest.MonkeyPatch, here: Terminals) -> None:
    """A peer that takes few pushes at once."""

    @contextmanager
    def connected(options: object, purpose: str) -> Iterator[Peer]:
        limits = SessionLimits(pushes=16)
        with connect(f"ipc://{here.place}/frontend", limits=limits) as peer:
            yield peer

    monkeypatch.setattr("zbus.cli.push.connected", connected)


@pytest.mark.real
def test_p07_a_bound_that_is_reached_is_waited_out(
    here: Terminals, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more than may wait at once: nothing is lost, doubled or out of order."""
    narrow(monkeypatch, here)
    lines = [str(number) for number in range(500)]
    result = here.here("push", "take", "-", text="\n".join(lines))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "500 accepted, 500 delivered, 0 dropped, 0 queued\n"
    assert taken.bodies == lines


@pytest.mark.real
def test_p07_a_bound_that_nobody_lowers_is_an_error(
    here: Terminals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the timeout without any progress: exit code 7, and not one was taken."""
    narrow(monkeypatch, here)
    began = time.monotonic()
    result = here.here("push", "nobody", "x", "--count", "17", "--timeout", "300ms")
    assert 0.3 <= time.monotonic() - began < 10
    assert result.exit_code == 7
    assert "(ZB-202)" in result.stderr


@pytest.mark.real
def test_p07_more_than_may_be_under_way_are_all_delivered(here: Terminals, taken: Taken) -> None:
    """A bound that is reached is waited out; nothing is lost, doubled or out of order."""
    lines = [str(number) for number in range(70_000)]
    result = here.here(
        "push",
        "take",
        "-",
        text="\n".join(lines),
    )
    assert result.exit_code == 0, result.stderr
    assert taken.bodies == lines


@pytest.mark.real
def test_what_nobody_takes_exits_3_and_says_why(here: Terminals) -> None:
    """After the timeout, with the number and that nobody serves it."""
    began = time.monotonic()
    result = here.here("push", "nobody", "hi", "--count", "3", "--timeout", "300ms")
    assert 0.3 <= time.monotonic() - began < 10
    assert result.exit_code == 3
    assert result.stderr.startswith(
        'zbus: 3 of 3 pushes to "nobody" were not taken in 0.3 s; no peer serves that topic now '
        "(ZB-301). It may have run."
    )


@pytest.mark.real
def test_what_a_handler_does_not_finish_exits_3(here: Terminals, taken: Taken) -> None:
    """Somebody serves it, so that is not said."""
    result = here.here("push", "stuck", "hi", "--timeout", "0.3", "--json")
    facts = json.loads(result.stderr)
    assert facts["exit_code"] == result.exit_code == 3
    assert facts["executed"] == "maybe"
    assert "no peer serves" not in facts["message"]
    taken.gate.set()


@pytest.mark.real
def test_a_line_that_is_no_json_ends_it_after_those_before(here: Terminals, taken: Taken) -> None:
    """The error names the line; what was accepted arrives, also beyond a window."""
    lines = [str(number) for number in range(3_000)]
    opening = threading.Timer(0.5, taken.late_gate.set)
    opening.start()
    text = "\n".join([*lines, "three", "4"])
    result = here.here("push", "late", "-", "--json-body", text=text)
    opening.join()
    assert result.exit_code == 2
    assert "Line 3001 is no JSON" in result.stderr
    assert taken.bodies == list(range(3_000))


@pytest.mark.parametrize(
    "words",
    [(), ("take", "hi", "--count", "0"), ("take", "{", "--json-body"), ("take", "--json-body")],
)
def test_wrong_usage_exits_2(words: tuple[str, ...]) -> None:
    """What can be told without a broker is told without one."""
    result = invoke("push", *words, "--connect", "1ms")
    assert result.exit_code == 2, result.stderr


@pytest.mark.real
def test_the_brokers_own_topics_are_not_pushed_to(here: Terminals) -> None:
    """They are answered, not handled."""
    result = here.here("push", "zbus.ping", "hi")
    assert result.exit_code == 2
    assert "reserved" in result.stderr
