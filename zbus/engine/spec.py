"""The interfaces that components find behind ``fl_ctx.get_engine()``, as the seed era has them.

Rules of this room:

* Methods and parameter names are contract, to the letter (contract sections 2.1 to 2.3).
* All methods are synchronous, and may be called from any thread. A timeout is in seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from zbus.engine.component import Widget
from zbus.engine.context import FLContext
from zbus.engine.shareable import Shareable
from zbus.engine.task import Client, TaskAssignment
from zbus.engine.workspace import Workspace

__all__ = ["ClientEngineExecutorSpec", "ClientEngineSpec", "ServerEngineSpec"]


class ClientEngineSpec(ABC):
    """What every engine of a client can do."""

    @abstractmethod
    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell every component of this process of an event."""

    @abstractmethod
    def get_task_assignment(self, fl_ctx: FLContext) -> TaskAssignment | None:
        """The next task from the server; None if there is none."""

    @abstractmethod
    def new_context(self) -> FLContext:
        """A new context of this run."""

    @abstractmethod
    def send_task_result(self, result: Shareable, fl_ctx: FLContext) -> bool:
        """Hand in a task's result; whether the server has taken it."""

    @abstractmethod
    def get_workspace(self) -> Workspace | None:
        """The workspace of this process."""

    @abstractmethod
    def get_component(self, component_id: str) -> Any:
        """The component of this id; None if there is none."""

    @abstractmethod
    def get_all_components(self) -> dict[str, Any]:
        """Every component by its id."""

    def get_widget(self, widget_id: str) -> Widget | None:
        """The widget of this id; None if there is none."""
        component = self.get_component(widget_id)
        return component if isinstance(component, Widget) else None


class ClientEngineExecutorSpec(ClientEngineSpec, ABC):
    """What the engine of a client's job process can do besides."""

    @abstractmethod
    def register_aux_message_handler(
        self, topic: str, message_handle_func: Callable[..., Any]
    ) -> None:
        """Serve an aux topic; see ``aux_request_handle_func_signature``."""

    @abstractmethod
    def send_aux_request(
        self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> Shareable:
        """Ask the server; with a timeout of 0 it is told, and nobody waits."""

    @abstractmethod
    def fire_and_forget_aux_request(
        self, topic: str, request: Shareable, fl_ctx: FLContext
    ) -> Shareable:
        """Tell the server; the reply says whether it was accepted for sending."""

    @abstractmethod
    def aux_send(
        self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> Shareable:
        """Ask the server, without looking at the arguments first."""

    @abstractmethod
    def build_component(self, config_dict: Any) -> Any:
        """The component that this configuration says; None for an empty one."""

    @abstractmethod
    def abort_app(self, job_id: str, fl_ctx: FLContext) -> None:
        """Abort the run of this job."""


class ServerEngineSpec(ABC):
    """What the engine of the server's job process can do."""

    @abstractmethod
    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell every component of this process of an event."""

    @abstractmethod
    def get_clients(self) -> list[Client]:
        """The clients of the job."""

    @abstractmethod
    def sync_clients_from_main_process(self) -> None:
        """Ask anew who the clients are."""

    @abstractmethod
    def validate_clients(self, client_names: list[str]) -> tuple[list[Client], list[str]]:
        """The clients of these names, and the names that no client has."""

    @abstractmethod
    def new_context(self) -> FLContext:
        """A new context of this run."""

    @abstractmethod
    def get_workspace(self) -> Workspace | None:
        """The workspace of this process."""

    @abstractmethod
    def get_component(self, component_id: str) -> Any:
        """The component of this id; None if there is none."""

    @abstractmethod
    def get_widget(self, widget_id: str) -> Widget | None:
        """The widget of this id; None if there is none."""

    @abstractmethod
    def register_aux_message_handler(
        self, topic: str, message_handle_func: Callable[..., Any]
    ) -> None:
        """Serve an aux topic; see ``aux_request_handle_func_signature``."""

    @abstractmethod
    def send_aux_request(
        self,
        targets: list[str] | None,
        topic: str,
        request: Shareable,
        timeout: float,
        fl_ctx: FLContext,
    ) -> dict[str, Shareable]:
        """Ask clients: ``{client name: reply}``; no targets are all clients."""

    def fire_and_forget_aux_request(
        self, targets: list[str] | None, topic: str, request: Shareable, fl_ctx: FLContext
    ) -> dict[str, Shareable]:
        """Tell clients, and wait for nobody."""
        return self.send_aux_request(targets, topic, request, 0.0, fl_ctx)

    @abstractmethod
    def persist_components(self, fl_ctx: FLContext, completed: bool) -> None:
        """Keep the state of the components."""

    @abstractmethod
    def restore_components(self, snapshot: Any, fl_ctx: FLContext) -> None:
        """Give the components a kept state back."""

    @abstractmethod
    def start_client_job(self, job_id: str, client_sites: Any) -> Any:
        """Start a job at clients."""

    @abstractmethod
    def check_client_resources(self, resource_reqs: dict[str, Any]) -> dict[str, Any]:
        """Ask clients whether they can run a job: ``{client name: (ok, token)}``."""

    @abstractmethod
    def cancel_client_resources(
        self, resource_check_results: dict[str, Any], resource_reqs: dict[str, Any]
    ) -> None:
        """Let clients give back what they keep for a job."""

    @abstractmethod
    def get_client_name_from_token(self, token: str) -> str:
        """The name of the client with this token; empty if none has it."""
