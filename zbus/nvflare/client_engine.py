"""The client's engine, nvflare 2.9's ClientEngineExecutorSpec over the bus, for a job's process.

Rules:

* It is a real subclass of nvflare's spec, with its parameter names, so that unmodified
  components take it for theirs.
* Answers have an entry for every target, keyed by site name, also where nvflare returns ``{}``.
* ``abort_app`` acts on its own job and on no other (contract 12, row 22).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nvflare.apis.fl_constant import FLContextKey, ProcessType, ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.private.fed.client.client_engine_executor_spec import (
    ClientEngineExecutorSpec,
    TaskAssignment,
)

from zbus.errors import RequestError
from zbus.nvflare.job_engine import Equipment, JobEngine
from zbus.nvflare.messages import decode, encode
from zbus.nvflare.targets import Directory
from zbus.peer.dispatcher import Dispatcher

__all__ = ["ClientEngine"]

_TASK_S = 30.0
"""How long a task or its result may take where the caller does not say."""


class ClientEngine(JobEngine, ClientEngineExecutorSpec):
    """One client in one job.

    Args:
        site: this client's name, among ``clients``.
        job: the job's id.
        clients: all clients of the job, by name or as nvflare's ``Client``.
        endpoint: the broker's frontend; None for the default one.
        equipment: components, event handlers, widgets, workspace, builder.

    Raises:
        InvalidName: site and job give no name for the bus.
        BrokerUnreachable, RefusedError: as for ``zbus.connect``.
    """

    def __init__(
        self,
        site: str,
        job: str,
        clients: Iterable[Any],
        *,
        endpoint: str | None = None,
        equipment: Equipment | None = None,
    ) -> None:
        super().__init__(
            Directory(site, job, clients), ProcessType.CLIENT_JOB, equipment or Equipment()
        )
        self.attach(endpoint, "engine", Dispatcher())

    # -- aux -----------------------------------------------------------------------------------

    def send_aux_request(
        self,
        targets: Any,
        topic: str,
        request: Any,
        timeout: float,
        fl_ctx: Any,
        optional: bool = False,
        secure: bool = False,
    ) -> dict[str, Any]:
        """Ask targets: ``{name: reply}``; timeout in seconds, 0 is fire-and-forget.

        ``optional`` and ``secure`` change nothing: nothing is logged for an outcome that the
        caller is given, and security is the broker's.

        Raises:
            TypeError, ValueError: the arguments are no request.
            CallerError: it could not be sent at all, such as ``UnencodableBody``.
        """
        requests = dict.fromkeys(self.directory.of_client(targets), request)
        return self.exchange.send(topic, requests, timeout, fl_ctx)

    def fire_and_forget_aux_request(
        self, topic: str, request: Any, fl_ctx: Any, optional: bool = False, secure: bool = False
    ) -> dict[str, Any]:
        """Tell the server, in order: ``{"server": reply}`` at once; OK means accepted."""
        return self.send_aux_request(None, topic, request, 0.0, fl_ctx, optional, secure)

    def validate_targets(self, target_names: list[str]) -> tuple[list[str], list[str]]:
        """The names that are sites of this job, and those that are not."""
        return self.directory.check(target_names)

    # -- tasks ---------------------------------------------------------------------------------

    def get_task_assignment(self, fl_ctx: Any, timeout: float | None = None) -> Any:
        """The next task, as the server's task source gives it; None if it could not be had."""
        props = fl_ctx.get_all_public_props()
        try:
            body = self._ask_server("task", encode(Shareable(), {}, props), timeout)
        except RequestError as error:
            self.aux_runner.log_error(fl_ctx, f"no task could be had: {error}")
            return None
        task = decode(body)
        name = task.get_header(ReservedHeaderKey.TASK_NAME)
        return TaskAssignment(name, task.get_header(ReservedHeaderKey.TASK_ID), task)

    def send_task_result(self, result: Any, fl_ctx: Any, timeout: float | None = None) -> bool:
        """Hand a task's result in; whether the server's task source has taken it."""
        headers = {
            key: result.get_header(key) or fl_ctx.get_prop(key)
            for key in (ReservedHeaderKey.TASK_NAME, ReservedHeaderKey.TASK_ID)
        }
        body = encode(result, headers, fl_ctx.get_all_public_props())
        try:
            return bool(self._ask_server("result", body, timeout) == ReturnCode.OK)
        except RequestError as error:
            self.aux_runner.log_error(fl_ctx, f"a task's result was not taken: {error}")
            return False

    def _ask_server(self, purpose: str, body: bytes, timeout: float | None) -> Any:
        timeout_s = _TASK_S if timeout is None else timeout
        server = self.directory.address("server")
        return self.peer.request(self.topic(purpose), body, timeout=timeout_s, to=server)

    # -- the rest ------------------------------------------------------------------------------

    def get_clients(self) -> list[Any]:
        """All clients of the job."""
        return list(self.directory.clients.values())

    def build_component(self, config_dict: Any) -> Any:
        """What the equipment's builder makes of it.

        Raises:
            RuntimeError: there is no builder.
        """
        if self._equipment.builder is None:
            raise RuntimeError("No configurator set up: give Equipment(builder=AllowedBuilder(…)).")
        return self._equipment.builder.build_component(config_dict)

    def abort_app(self, job_id: str, fl_ctx: Any) -> None:
        """Trigger this job's abort signal, and abort its runner if the context has one.

        Raises:
            ValueError: this engine is in another job.
        """
        if job_id != self.directory.job:
            raise ValueError(f"job {job_id!r} is not here; this is {self.directory.job!r}")
        fl_ctx.get_run_abort_signal().trigger(True)
        self.abort_signal.trigger(True)
        abort = getattr(fl_ctx.get_prop(FLContextKey.RUNNER), "abort", None)
        if callable(abort):
            abort()
