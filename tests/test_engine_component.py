"""Components find their engine in the context, and say what a log line is about."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from zbus.engine.component import FLComponent, Widget
from zbus.engine.constants import EventScope, EventType, LogMessageTag
from zbus.engine.context import FLContext, FLContextManager
from zbus.engine.shareable import Shareable


class Engine:
    """Remembers what is fired."""

    def __init__(self) -> None:
        self.fired: list[tuple[str, Any, Any]] = []

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        said = fl_ctx.get_prop("__event_data__"), fl_ctx.get_prop("__event_scope__")
        self.fired.append((event_type, *said))

    def context(self) -> FLContext:
        return FLContextManager(self, "site-1", "job-1").new_context()


class Forgetful(FLComponent):
    """Does not call its parent's constructor, and takes arguments of its own."""

    def __init__(self, width: int) -> None:
        self.width = width


def test_a_component_works_without_its_constructor() -> None:
    """Name, logger and handlers are there whatever the subclass does."""
    component = Forgetful(3)
    assert (component.name, component.width) == ("Forgetful", 3)
    component.register_event_handler("a", print)
    assert Forgetful(4).get_event_handlers() == {}
    component.log_info(FLContext(), "text")
    assert component.get_persist_state(FLContext()) == {}
    assert isinstance(Widget(), FLComponent)


def test_events_go_to_the_engine_of_the_context() -> None:
    """With origin, scope and data; data of one event is gone after it."""
    engine, component = Engine(), FLComponent()
    context = engine.context()
    component.fire_event("a", context)
    component.fire_event_with_data("b", context, "key", 1)
    event = Shareable()
    component.fire_fed_event("c", event, context, targets=["site-2"])
    component.system_panic("reason", context)
    component.task_panic("other", context)
    assert engine.fired == [
        ("a", None, EventScope.LOCAL),
        ("b", None, EventScope.LOCAL),
        ("c", event, EventScope.FEDERATION),
        (EventType.FATAL_SYSTEM_ERROR, "reason", EventScope.LOCAL),
        (EventType.FATAL_TASK_ERROR, "other", EventScope.LOCAL),
    ]
    assert event.get_header("_targets") == ["site-2"]
    assert context.get_prop("key", "none") is None
    assert context.get_prop("__event_origin__") == "FLComponent"


def test_without_an_engine_an_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can hear it, and nothing is raised."""
    FLComponent().fire_event("lonely", FLContext())
    assert "no engine for event 'lonely'" in caplog.text


@pytest.mark.parametrize(
    ("event", "context", "error"),
    [(1, FLContext(), TypeError), ("", FLContext(), ValueError), ("a", {}, TypeError)],
)
def test_wrong_arguments_are_refused(event: Any, context: Any, error: type[Exception]) -> None:
    """Types and contexts of events are what they say they are."""
    with pytest.raises(error):
        FLComponent().fire_event(event, context)


def test_a_fed_event_carries_a_shareable() -> None:
    """Anything else is a TypeError."""
    with pytest.raises(TypeError, match="must be a Shareable"):
        FLComponent().fire_fed_event("a", {}, FLContext())  # type: ignore[arg-type]


@pytest.mark.parametrize(("types", "handler"), [(1, print), ("a", 1)])
def test_handlers_are_callables_for_event_types(types: Any, handler: Any) -> None:
    """What is neither is refused when it is registered."""
    with pytest.raises(ValueError, match="must be"):
        FLComponent().register_event_handler(types, handler)


def test_a_line_says_what_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    """Site, run, peer and task stand before the text."""
    context = Engine().context()
    context.set_prop("__task_name__", "train")
    context.set_prop("__task_id__", "7")
    context.set_peer_context(FLContextManager(None, "server", "job-2").new_context())
    FLComponent().log_error(context, "100% wrong", fire_event=False)
    assert caplog.messages == [
        (
            "[identity=site-1, run=job-1, peer=server, peer_run=job-2, task_name=train, task_id=7]:"
            " 100% wrong"
        )
    ]


@pytest.mark.parametrize(
    ("level", "fires"),
    [
        ("debug", False),
        ("info", False),
        ("warning", True),
        ("error", True),
        ("critical", True),
        ("exception", False),
    ],
)
def test_warnings_and_worse_fire_an_event(level: str, fires: bool) -> None:
    """Others when asked; the event carries the line, also where no log is written."""
    engine, component = Engine(), FLComponent()
    component.logger.setLevel(logging.CRITICAL + 1)
    log = getattr(component, f"log_{level}")
    log(engine.context(), "text")
    assert bool(engine.fired) is fires
    log(engine.context(), "text", fire_event=True)
    event, data, scope = engine.fired[-1]
    assert (event, scope) == (f"_{level}_log_available", EventScope.LOCAL)
    assert data["key"] == getattr(LogMessageTag, level.upper())
    assert "]: text" in data["value"]
    component.logger.setLevel(logging.NOTSET)


def test_an_exception_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Where it was raised stands in the log."""
    try:
        raise LookupError("no luck")
    except LookupError:
        FLComponent().log_exception(FLContext(), "it failed")
    assert "it failed\nTraceback" in caplog.text
    assert "no luck" in caplog.text
