"""The half of an engine that client and server have in common: components, contexts, the run.

Rules of this room:

* One engine is one site in one job, and one peer on the bus, called ``site.job``.
* A run starts once and ends once, whoever ends it: its END_RUN is fired once, and what was told
  and forgotten is handed over before the end, within a bound (contract 12.14).
* Every component is told of events, also a second one of the same class (12.25).
* ``abort_app`` acts on this engine's job and on no other (12.22), and returns when it is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zbus.engine.aux_runner import AuxRunner
from zbus.engine.builder import ComponentBuilder
from zbus.engine.bus import Attach, Bus
from zbus.engine.component import FLComponent, Widget
from zbus.engine.constants import EventType, FLContextKey
from zbus.engine.context import FLContext, FLContextManager
from zbus.engine.events import fire_event
from zbus.engine.signal import Signal
from zbus.engine.targets import Directory, Exchange
from zbus.engine.workspace import Workspace
from zbus.errors import RequestTimeout
from zbus.peer.channel import DRAIN_S, Left
from zbus.peer.dispatcher import Dispatcher

__all__ = ["CONFIRM_S", "END_DRAIN_S", "Equipment", "JobEngine"]

END_DRAIN_S = 10.0
"""How long the end of a run waits until what was told is settled."""
CONFIRM_S = 30.0
"""How long an abort waits until the run has ended."""
_ONCE = frozenset({EventType.ABOUT_TO_END_RUN, EventType.END_RUN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What an engine is given: components by id, further event handlers, workspace, builder."""

    components: Mapping[str, Any] = field(default_factory=dict)
    handlers: Sequence[FLComponent] = ()
    workspace: Workspace | None = None
    builder: ComponentBuilder | None = None


class JobEngine:
    """Components, contexts, events, the run, and the way to the bus."""

    bus: Bus
    exchange: Exchange

    def __init__(
        self, directory: Directory, process_type: str, equipment: Equipment | None = None
    ) -> None:
        equipment = equipment or Equipment()
        self.directory = directory
        self.job_id = directory.job_id
        self.abort_signal = Signal()
        self.runner: Any = None
        """Whatever runs the job: it has ``abort()``. The context's ``__runner__`` comes first."""
        self._components: dict[str, Any] = {}
        self._listeners: list[FLComponent] = []
        self._workspace = equipment.workspace
        self._builder = equipment.builder
        self._fired: set[str] = set()
        self._turn = threading.RLock()
        self._started = False
        self._ended = False
        self._left = 0
        self._contexts = FLContextManager(
            engine=self,
            identity_name=directory.site,
            job_id=directory.job_id,
            private_stickers={
                FLContextKey.PROCESS_TYPE: process_type,
                FLContextKey.RUN_ABORT_SIGNAL: self.abort_signal,
                FLContextKey.WORKSPACE_OBJECT: equipment.workspace,
            },
        )
        for component_id, component in equipment.components.items():
            self.add_component(component_id, component)
        for handler in equipment.handlers:
            self.listen(handler)

    @property
    def aux_runner(self) -> AuxRunner:
        """The handlers of aux messages."""
        raise NotImplementedError

    def attach(self, attach: Attach, dispatcher: Dispatcher) -> None:
        """Take part: messages may come from now on."""
        directory, runner = self.directory, self.aux_runner
        dispatcher.add(directory.topic("aux"), runner.serve)
        dispatcher.add(directory.topic("tell"), runner.serve_batch)
        self.bus = attach(directory.address(directory.site), dispatcher)
        self.exchange = Exchange(self.bus, directory)

    def site_at(self, address: str) -> str | None:
        """The site behind a name of the bus, if it is in this job."""
        return self.directory.site_at(address)

    # -- components and events -------------------------------------------------------------

    def new_context(self) -> FLContext:
        """A new context of this run."""
        return self._contexts.new_context()

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell every component, in order; what one raises is logged. The end of a run is fired
        once; whoever fires it again is not heard."""
        if event_type in _ONCE:
            with self._turn:
                if event_type in self._fired:
                    return
                self._fired.add(event_type)
        fire_event(event_type, self._listeners, fl_ctx)

    def listen(self, component: FLComponent) -> None:
        """Let a component hear events; once, however often this is said."""
        if not isinstance(component, FLComponent):
            raise TypeError(f"an event handler must be an FLComponent, not {type(component)}")
        if not any(component is known for known in self._listeners):
            self._listeners.append(component)

    def add_component(self, component_id: str, component: Any) -> None:
        """Add a component; an FLComponent hears events from now on.

        Raises:
            TypeError: the id is not a str.
            ValueError: the id is taken.
        """
        if not isinstance(component_id, str):
            raise TypeError(f"component_id must be a str, not {type(component_id)}")
        if component_id in self._components:
            raise ValueError(f"there is a component {component_id!r:.80} already")
        self._components[component_id] = component
        if isinstance(component, FLComponent):
            self.listen(component)

    def get_component(self, component_id: str) -> Any:
        """The component of this id; None if there is none."""
        return self._components.get(component_id)

    def get_all_components(self) -> dict[str, Any]:
        """Every component by its id; the dict is the caller's."""
        return dict(self._components)

    def get_widget(self, widget_id: str) -> Widget | None:
        """The widget of this id; None if there is none."""
        component = self.get_component(widget_id)
        return component if isinstance(component, Widget) else None

    def get_workspace(self) -> Workspace | None:
        """The workspace that this engine was given."""
        return self._workspace

    def build_component(self, config_dict: Any) -> Any:
        """The component that this configuration says, which hears events if it is an FLComponent.

        Raises:
            RuntimeError: this engine was given no builder.
            ComponentError: it cannot, or may not, be built.
        """
        if self._builder is None:
            raise RuntimeError("No configurator set up: give Equipment(builder=...)")
        component = self._builder.build_component(config_dict)
        if isinstance(component, FLComponent):
            self.listen(component)
        return component

    def register_aux_message_handler(
        self, topic: str, message_handle_func: Callable[..., Any]
    ) -> None:
        """Serve an aux topic.

        Raises:
            TypeError, ValueError: see ``AuxRunner.register_aux_message_handler``.
        """
        self.aux_runner.register_aux_message_handler(topic, message_handle_func)

    # -- the run ---------------------------------------------------------------------------

    def start_run(self) -> None:
        """Fire the events of the start, in which components register their handlers; then
        whatever is not registered is unknown.

        Raises:
            RuntimeError: the run was started before, or has ended.
        """
        with self._turn:
            if self._started or self._ended:
                raise RuntimeError(f"the run of job {self.job_id} was started before")
            self._started = True
            fl_ctx = self.new_context()
            self.fire_event(EventType.ABOUT_TO_START_RUN, fl_ctx)
            self.fire_event(EventType.START_RUN, fl_ctx)
        self.aux_runner.open()

    def end_run(self, fl_ctx: FLContext | None = None, *, drain: float = END_DRAIN_S) -> int:
        """Fire the events of the end, and wait until what was told is settled.

        Returns how much is not, when ``drain`` seconds are over; a second call returns the same.

        Raises:
            RequestTimeout: another thread is ending the run, and has not in 30 s.
        """
        if not self._turn.acquire(timeout=CONFIRM_S):
            raise RequestTimeout(f"the run of job {self.job_id} has not ended in {CONFIRM_S:g} s")
        try:
            if not self._ended:
                self._ended = True
                fl_ctx = fl_ctx or self.new_context()
                self.fire_event(EventType.ABOUT_TO_END_RUN, fl_ctx)
                self.fire_event(EventType.END_RUN, fl_ctx)
                self._left = self.exchange.flush(drain)
            return self._left
        finally:
            self._turn.release()

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, or is just ending."""
        return self._ended

    def abort_app(self, job_id: str, fl_ctx: FLContext) -> None:
        """Abort the run: trigger its signal, abort its runner, and end it. Returns when all
        that is done.

        Raises:
            ValueError: this engine runs another job.
            RequestTimeout: the run has not ended in 30 s.
        """
        if job_id != self.job_id:
            raise ValueError(f"job {job_id!r:.80} is not here; this is {self.job_id!r:.80}")
        self.abort_signal.trigger(True)
        signal = fl_ctx.get_run_abort_signal()
        if signal is not None and signal is not self.abort_signal:
            signal.trigger(True)
        abort = getattr(fl_ctx.get_prop(FLContextKey.RUNNER) or self.runner, "abort", None)
        if callable(abort):
            abort()
        self.end_run(fl_ctx)

    def close(self, *, drain: float = DRAIN_S) -> Left:
        """Hand over what was accepted, and leave the bus. Ends no run, and fires nothing."""
        deadline = time.monotonic() + drain
        self.aux_runner.open()
        if drain > 0:
            self.exchange.flush(drain)
        return self.bus.close(drain=max(deadline - time.monotonic(), 0.0))
