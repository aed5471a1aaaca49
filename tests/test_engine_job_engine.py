"""What client and server have in common: components, events, and a run that ends once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, ended, in_a_thread
from engine_stages import JOB, Recorder, Wire, job, wired_pair

from zbus.engine import (
    ClientEngine,
    EventType,
    FLComponent,
    FLContext,
    FLContextKey,
    Signal,
    Widget,
    Workspace,
)
from zbus.engine.builder import ANYTHING, ComponentBuilder
from zbus.engine.job_engine import Equipment
from zbus.errors import ComponentNotAuthorized

START = [EventType.ABOUT_TO_START_RUN, EventType.START_RUN]
END = [EventType.ABOUT_TO_END_RUN, EventType.END_RUN]


class Runner:
    """Ends the run itself when it is aborted, as FLARE's own does."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.aborts = 0

    def abort(self) -> None:
        self.aborts += 1
        with self.engine.new_context() as fl_ctx:
            for event in END:
                self.engine.fire_event(event_type=event, fl_ctx=fl_ctx)


def engine(**gear: Any) -> ClientEngine:
    return ClientEngine("site-1", JOB, attach=Wire().attach, equipment=Equipment(**gear))


def test_components_and_widgets() -> None:
    """By id; None for an unknown one, and for a widget that is none."""
    widget, plain = Widget(), object()
    made = engine(components={"w": widget, "p": plain})
    assert made.get_component("w") is made.get_widget("w") is widget
    assert made.get_component("p") is plain
    assert made.get_widget("p") is made.get_widget("x") is made.get_component("x") is None
    made.get_all_components().clear()
    made.add_component("n", 7)
    assert made.get_all_components() == {"w": widget, "p": plain, "n": 7}
    with pytest.raises(ValueError, match="already"):
        made.add_component("n", 8)
    with pytest.raises(TypeError):
        made.add_component(7, 8)  # type: ignore[arg-type]


def test_two_of_one_class_hear_events() -> None:
    """Each once, also when it is said twice (12.25)."""
    one, two = Recorder(), Recorder()
    made = engine(components={"one": one}, handlers=[one, two])
    made.fire_event(event_type="e", fl_ctx=made.new_context())
    assert one.heard == two.heard == ["e"]
    with pytest.raises(TypeError):
        made.listen(object())  # type: ignore[arg-type]


def test_contexts_say_whose_they_are(tmp_path: Path) -> None:
    """Engine, job, site, process type, signal and workspace."""
    workspace = Workspace(str(tmp_path))
    made = engine(workspace=workspace)
    fl_ctx = made.new_context()
    assert fl_ctx.get_engine() is made
    assert (fl_ctx.get_job_id(), fl_ctx.get_identity_name()) == (JOB, "site-1")
    assert fl_ctx.get_run_abort_signal() is made.abort_signal
    assert fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT) is made.get_workspace() is workspace
    assert fl_ctx.get_all_public_props() == {"__run_num__": JOB, "__identity_name__": "site-1"}


def test_building_a_component() -> None:
    """With the builder that was given; what is built hears events."""
    made = engine(builder=ComponentBuilder([ANYTHING]))
    built = made.build_component({"path": "engine_stages.Recorder"})
    made.fire_event("e", made.new_context())
    assert built.heard == ["e"]
    assert made.build_component({}) is None
    with pytest.raises(ComponentNotAuthorized):
        engine(builder=ComponentBuilder(["other"])).build_component({"path": "a.B"})
    with pytest.raises(RuntimeError, match="No configurator set up"):
        engine().build_component({"path": "engine_stages.Recorder"})


def test_a_run_starts_once_and_ends_once() -> None:
    """Whoever says so, and however often."""
    recorder = Recorder()
    made = engine(handlers=[recorder])
    made.start_run()
    with pytest.raises(RuntimeError):
        made.start_run()
    assert made.end_run() == made.end_run() == 0
    made.fire_event(EventType.END_RUN, made.new_context())
    made.abort_app(JOB, made.new_context())
    assert recorder.heard == START + END
    assert made.is_over
    ended_first = engine()
    ended_first.end_run()
    with pytest.raises(RuntimeError):
        ended_first.start_run()


def test_abort_ends_the_run_by_its_runner() -> None:
    """The one of the context first; the run ends once though the runner ends it, too."""
    recorder = Recorder()
    made = engine(handlers=[recorder])
    own, of_context = Runner(made), Runner(made)
    made.runner = own
    made.abort_app(JOB, made.new_context())
    assert (own.aborts, of_context.aborts) == (1, 0)
    fl_ctx = made.new_context()
    fl_ctx.set_prop(FLContextKey.RUNNER, of_context)
    fl_ctx.set_prop(FLContextKey.RUN_ABORT_SIGNAL, signal := Signal())
    made.abort_app(JOB, fl_ctx)
    assert (own.aborts, of_context.aborts) == (1, 1)
    assert signal.triggered
    assert made.abort_signal.triggered
    assert recorder.heard == END


def test_abort_acts_on_its_own_job() -> None:
    """Another one is refused, and nothing happens here (12.22)."""
    recorder = Recorder()
    made = engine(handlers=[recorder])
    for job_id in ("job-2", "", None):
        with pytest.raises(ValueError, match="job-1"):
            made.abort_app(job_id, made.new_context())  # type: ignore[arg-type]
    assert not made.abort_signal.triggered
    assert recorder.heard == []


def test_abort_returns_when_the_run_has_ended() -> None:
    """Also the second one, while the first is at it; one from within an event does not wait."""
    go_on, entered = threading.Event(), threading.Event()

    class Slow(FLComponent):
        def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
            if event_type == EventType.END_RUN:
                made.abort_app(JOB, fl_ctx)
                entered.set()
                go_on.wait(BOUND_S)

    made = engine(handlers=[Slow(), recorder := Recorder()])
    first, _ = in_a_thread(lambda: made.abort_app(JOB, made.new_context()))
    assert entered.wait(BOUND_S)
    second, results = in_a_thread(lambda: made.abort_app(JOB, made.new_context()))
    second.join(0.05)
    assert not results
    go_on.set()
    ended(first)
    ended(second)
    assert results == [None]
    assert recorder.heard == END


def test_the_last_metrics_are_handed_over() -> None:
    """What a component tells in END_RUN is settled when the run has ended (12.14)."""
    flushed: list[float] = []
    server, client = wired_pair()

    def flush(*, timeout: float) -> int:
        flushed.append(timeout)
        return 0

    client.bus.flush = flush  # type: ignore[method-assign]
    client.end_run(drain=3.0)
    client.end_run(drain=3.0)
    assert len(flushed) == 1
    assert 2.0 < flushed[0] <= 3.0
    client.close(drain=0.0)
    assert len(flushed) == 1
    server.close()


@pytest.mark.real
def test_closing_leaves_no_name(tmp_path: Path) -> None:
    """The next engine of the same site and job attaches at once."""
    with job(tmp_path) as made:
        left = made.clients["site-1"].close()
        assert tuple(left) == (0, 0, 0)
        again = made.add_client("site-1")
        assert again.bus.is_attached  # type: ignore[attr-defined]
