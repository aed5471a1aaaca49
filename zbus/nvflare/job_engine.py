"""The half of an engine that client and server have in common: components, contexts, aux.

Rules:

* One engine is one site of one job, and one peer on the bus, called ``site.job``.
* Contexts come from nvflare's FLContextManager, with what its components look for: engine, job,
  identity, process type, the job's clients and the run's abort signal.
* ``get_cell`` is None: there is no cell network, which is what nvflare's own runner and swarm
  controller take it for. Aux messages need none here.
* ``close`` drains: what was accepted for sending is handed over, for ``drain`` seconds at most.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContextManager
from nvflare.apis.job_def import JobMetaKey
from nvflare.apis.signal import Signal
from nvflare.private.event import fire_event

from zbus.nvflare.aux_runner import BusAuxRunner
from zbus.nvflare.exchange import Exchange
from zbus.nvflare.targets import Directory
from zbus.peer.channel import DRAIN_S, Left
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import connect
from zbus.protocol.session import SessionLimits

__all__ = ["Equipment", "JobEngine"]

_HANDLERS = 64
"""Handlers that run at once: nvflare's own number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What a run brings along; all of it is the caller's, and may be left out.

    ``builder`` is a ``ComponentBuilder`` of nvflare's, such as ``AllowedBuilder``; ``tasks`` is
    for the server, and has ``process_task_request`` and ``process_submission`` of nvflare's
    ServerRunner.
    """

    workspace: Any = None
    components: dict[str, Any] = field(default_factory=dict)
    handlers: list[Any] = field(default_factory=list)
    widgets: dict[str, Any] = field(default_factory=dict)
    builder: Any = None
    tasks: Any = None


class JobEngine:
    """What both kinds of engine do in the same way."""

    def __init__(self, directory: Directory, process_type: Any, equipment: Equipment) -> None:
        super().__init__()
        self.directory = directory
        self.abort_signal = Signal()
        self._equipment = equipment
        self._components = dict(equipment.components)
        self._handlers = [*equipment.handlers, *equipment.widgets.values()]
        clients = [client.to_dict() for client in directory.clients.values()]
        meta = {JobMetaKey.JOB_ID: directory.job, JobMetaKey.JOB_CLIENTS: clients}
        self._contexts = FLContextManager(
            engine=self,
            identity_name=directory.site,
            job_id=directory.job,
            public_stickers={ReservedKey.FQSN: directory.site, ReservedKey.IS_LEAF: True},
            private_stickers={
                FLContextKey.PROCESS_TYPE: process_type,
                FLContextKey.JOB_META: meta,
                FLContextKey.RUN_ABORT_SIGNAL: self.abort_signal,
            },
        )

    def attach(
        self, endpoint: str | None, role: Literal["engine", "server"], dispatcher: Dispatcher
    ) -> None:
        """Take part; requests may come from now on."""
        topic = self.topic("aux")
        address = self.directory.address(self.directory.site)
        self.aux_runner = BusAuxRunner(self, self.directory)
        self._handlers.append(self.aux_runner)
        dispatcher.add(topic, self.aux_runner.serve)
        self.peer = connect(
            endpoint,
            address,
            dispatcher=dispatcher,
            role=role,
            limits=SessionLimits(handlers=_HANDLERS),
        )
        self.exchange = Exchange(self.peer, topic, self.directory.address("server"))

    def topic(self, purpose: str) -> str:
        """The topic of the bus for one purpose of this job."""
        return f"flare.{self.directory.job}.{purpose}"

    def close(self, *, drain: float = DRAIN_S) -> Left:
        """Hand over what was accepted, and leave the bus."""
        deadline = time.monotonic() + drain
        if self.peer.is_open and drain > 0:
            self.exchange.flush(drain)
        return self.peer.close(drain=max(deadline - time.monotonic(), 0.0))

    # -- the methods of nvflare's specs that are the same for both -----------------------------

    def multicast_aux_requests(
        self,
        topic: str,
        target_requests: dict[str, Any],
        timeout: float,
        fl_ctx: Any,
        optional: bool = False,
        secure: bool = False,
    ) -> dict[str, Any]:
        """``send_aux_request`` with a request for each target."""
        named = self.directory.named
        requests = {named(name): request for name, request in target_requests.items()}
        return self.exchange.send(topic, requests, timeout, fl_ctx)

    def new_context(self) -> Any:
        """A context of this run."""
        return self._contexts.new_context()

    def fire_event(self, event_type: str, fl_ctx: Any) -> None:
        """Tell every handler, in order; what one raises is logged."""
        fire_event(event=event_type, handlers=self._handlers, ctx=fl_ctx)

    def get_workspace(self) -> Any:
        """The run's Workspace; None if none was given."""
        return self._equipment.workspace

    def get_component(self, component_id: str) -> Any:
        """The component of this id, or None."""
        return self._components.get(component_id)

    def get_all_components(self) -> dict[str, Any]:
        """Every component by its id."""
        return self._components

    def add_component(self, component_id: str, component: Any) -> None:
        """Add a component; an FLComponent gets events from now on.

        Raises:
            TypeError: the id is no str.
            ValueError: the id is taken.
        """
        if not isinstance(component_id, str):
            raise TypeError(f"component id must be str but got {type(component_id)}")
        if component_id in self._components:
            raise ValueError(f"there is a component {component_id!r} already")
        self._components[component_id] = component
        if isinstance(component, FLComponent):
            self._handlers.append(component)

    def get_widget(self, widget_id: str) -> Any:
        """The widget of this id, or None."""
        return self._equipment.widgets.get(widget_id)

    def register_aux_message_handler(self, topic: str, message_handle_func: Any) -> None:
        """Serve a topic; errors as in contract section 2.1, but for the reserved bulk topic."""
        self.aux_runner.register_aux_message_handler(topic, message_handle_func)

    def get_cell(self) -> None:
        """None: there is no cell network here."""
        return
