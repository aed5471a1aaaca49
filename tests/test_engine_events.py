"""Every component hears an event, in order, whatever the others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zbus.engine.component import FLComponent
from zbus.engine.context import FLContext
from zbus.engine.events import DEPTH_MAX, fire_event

Hear = Callable[[str, FLContext], Any]


class Listener(FLComponent):
    """Does what it is told to do at an event."""

    def __init__(self, hear: Hear) -> None:
        super().__init__()
        self._hear = hear

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self._hear(event_type, fl_ctx)


def fail(_event: str, _context: FLContext) -> None:
    raise LookupError("no luck")


def test_a_failure_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told in order; the failure is logged and kept."""
    told: list[int] = []
    components = [Listener(lambda *_, n=n: told.append(n)) for n in range(3)]
    context = FLContext()
    fire_event("e", [components[0], Listener(fail), *components[1:]], context)
    assert told == [0, 1, 2]
    assert "no luck" in caplog.text
    assert isinstance(context.get_prop("__exceptions__")["Listener"], LookupError)


def test_an_exit_is_no_failure() -> None:
    """SystemExit goes through; the depth is put back all the same."""

    def leave(*_: Any) -> None:
        raise SystemExit(3)

    context = FLContext()
    for _ in range(DEPTH_MAX + 2):
        with pytest.raises(SystemExit):
            fire_event("e", [Listener(leave)], context)


def test_what_is_no_component_is_refused() -> None:
    """Those before it were told."""
    told: list[str] = []
    components: list[Any] = [Listener(lambda e, _: told.append(e)), "text"]
    with pytest.raises(TypeError, match="must be an FLComponent"):
        fire_event("e", components, FLContext())
    assert told == ["e"]


def test_events_in_events_have_an_end() -> None:
    """One that fires itself is refused at a depth that the room says."""
    calls = 0

    def again(event: str, context: FLContext) -> None:
        nonlocal calls
        calls += 1
        fire_event(event, [listener], context)

    listener, context = Listener(again), FLContext()
    fire_event("e", [listener], context)
    assert calls == DEPTH_MAX + 1
    assert isinstance(context.get_prop("__exceptions__")["Listener"], RuntimeError)


def test_a_nested_event_leaves_no_keys_behind() -> None:
    """Each component sees the id and data of the event that it is told."""
    seen: list[Any] = []

    def nest(event: str, context: FLContext) -> None:
        if event == "outer":
            context.set_prop("__event_data__", "inner", sticky=False)
            fire_event("inner", [last], context)

    def hear(event: str, context: FLContext) -> None:
        seen.append((event, context.get_prop("__event_data__"), context.get_prop("__event_id__")))

    last, context = Listener(hear), FLContext()
    context.set_prop("__event_data__", "outer", sticky=False)
    fire_event("outer", [Listener(nest), last], context)
    assert [said[:2] for said in seen] == [("inner", "inner"), ("outer", "outer")]
    assert seen[0][2] != seen[1][2]


def test_a_registered_handler_takes_its_events() -> None:
    """Once each, with its options; other events go to ``handle_event``."""
    told: list[Any] = []
    listener = Listener(lambda event, _: told.append(event))

    def hear(event: str, _context: FLContext, **options: Any) -> None:
        told.append((event, options))

    listener.register_event_handler(["a"], hear, x=1)
    listener.register_event_handler("a", hear, x=2)
    for event in ("a", "b"):
        fire_event(event, [listener], FLContext())
    assert told == [("a", {"x": 1}), "b"]
