"""The engine of a client's job process: ``ClientEngineExecutorSpec`` of the seed era on the bus.

Rules of this room:

* Names, parameters and return codes are the seed era's; what differs on purpose stands in
  ``docs/engine.md``.
* The server may end this run (``__end_run__``) and abort it; both are answered once it is done.
* A task is asked for as often as the caller likes; the same one comes until its result is in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zbus.engine.bus import Attach, attach_to
from zbus.engine.client_aux_runner import ClientAuxRunner
from zbus.engine.constants import FLContextKey, ProcessType, ReservedHeaderKey, ReservedTopic
from zbus.engine.constants import ReturnCode as Rc
from zbus.engine.context import FLContext
from zbus.engine.job_engine import Equipment, JobEngine
from zbus.engine.letters import letter_of, replied
from zbus.engine.outcomes import refusal
from zbus.engine.shareable import Shareable, make_reply
from zbus.engine.spec import ClientEngineExecutorSpec
from zbus.engine.targets import Directory
from zbus.engine.task import Client, TaskAssignment
from zbus.errors import ZbusError
from zbus.peer.dispatcher import Dispatcher, Incoming

__all__ = ["TASK_S", "ClientEngine", "JobClient"]

TASK_S = 30.0
"""How long a task or its result may take where the caller does not say."""


class JobClient(JobEngine):
    """A client in a job, without a way to send that belongs to one era.

    Args:
        site: this client's name.
        job_id: the job; a word without dots.
        clients: all clients of the job, where this one is to send to others.
        endpoint: the broker's frontend; None for the default one.
        equipment: components, event handlers, workspace and builder.
        attach: how to attach, instead of by ``endpoint``.

    Raises:
        InvalidName: site and job give no name for the bus.
        BrokerUnreachable, RefusedError: as for ``zbus.connect``.
    """

    def __init__(
        self,
        site: str,
        job_id: str,
        clients: Iterable[str | Client] = (),
        *,
        endpoint: str | None = None,
        equipment: Equipment | None = None,
        attach: Attach | None = None,
    ) -> None:
        directory = Directory(site, job_id, [*clients] or [site])
        super().__init__(directory, ProcessType.CLIENT_JOB, equipment)
        self._aux = ClientAuxRunner(self, {ReservedTopic.END_RUN: self._handle_end_run})
        dispatcher = Dispatcher()
        dispatcher.add(directory.topic("abort"), self._serve_abort)
        self.attach(attach or attach_to(endpoint, "engine"), dispatcher)

    @property
    def aux_runner(self) -> ClientAuxRunner:
        """The handlers of aux messages, and the seed era's way to the server."""
        return self._aux

    def get_task_assignment(
        self, fl_ctx: FLContext, timeout: float | None = None
    ) -> TaskAssignment | None:
        """The next task of this client; None if the server has none, or cannot be reached."""
        task = self._ask("task", Shareable(), fl_ctx, timeout)
        if task.get_return_code() != Rc.OK:
            return None
        name = task.get_header(ReservedHeaderKey.TASK_NAME)
        return TaskAssignment(name, task.get_header(ReservedHeaderKey.TASK_ID), task)

    def send_task_result(
        self, result: Shareable, fl_ctx: FLContext, timeout: float | None = None
    ) -> bool:
        """Hand in a task's result; whether the server has taken it, now or before.

        The task is the one of the result's headers, else the context's ``__task_id__``.

        Raises:
            CallerError: it could not be sent at all; ``UnencodableBody`` and ``TooLarge`` here.
        """
        sent = Shareable(result)
        sent[ReservedHeaderKey.HEADERS] = dict(result.get(ReservedHeaderKey.HEADERS) or ())
        for key in (FLContextKey.TASK_NAME, FLContextKey.TASK_ID):
            if sent.get_header(key) is None:
                sent.set_header(key, fl_ctx.get_prop(key))
        reply = self._ask("result", sent, fl_ctx, timeout)
        return bool(reply.get_return_code() == Rc.OK)

    def _ask(
        self, purpose: str, request: Shareable, fl_ctx: FLContext, timeout: float | None
    ) -> Shareable:
        letter = letter_of(request, purpose, fl_ctx.get_all_public_props())
        timeout_s = TASK_S if timeout is None else timeout
        topic = self.directory.topic(purpose)
        try:
            return replied(self.bus.request(topic, letter, timeout=timeout_s, unserved="wait"))
        except ZbusError as error:
            self.aux_runner.log_warning(fl_ctx, f"no {purpose}: {error}")
            return refusal(error)

    def _handle_end_run(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """What is done about ``__end_run__`` where no component has registered it."""
        self.abort_signal.trigger(True)
        self.end_run(fl_ctx)
        return make_reply(Rc.OK)

    def _serve_abort(self, body: Any, request: Incoming) -> bool:
        """The server aborts the job."""
        if self.site_at(request.source) != "server":
            raise PermissionError(f"{request.source} is not the server of this job")
        self.abort_app(self.job_id, self.new_context())
        return True


class ClientEngine(JobClient, ClientEngineExecutorSpec):
    """The engine with the seed era's way to send: one request to the server, one Shareable."""

    def send_aux_request(
        self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> Shareable:
        """Ask the server. Whatever happens on the way is a reply with a return code; the headers
        ``__zbus_error__`` and ``__executed__`` say more.

        Args:
            topic: any text; the server's handler for it answers.
            request: is not changed, and not kept.
            timeout: seconds until there is a reply, whatever happens; 0 tells, and does not wait.
            fl_ctx: its public props travel along.

        Raises:
            TypeError, ValueError: the arguments are no request.
            CallerError: it could not be sent at all; ``UnencodableBody`` and ``TooLarge`` here.
        """
        return self._aux.send_aux_request(topic, request, timeout, fl_ctx)

    def fire_and_forget_aux_request(
        self, topic: str, request: Shareable, fl_ctx: FLContext
    ) -> Shareable:
        """Tell the server, in order. OK means accepted, SERVER_NOT_READY that the bound on what
        is not settled is reached; errors as for ``send_aux_request``."""
        return self._aux.send_aux_request(topic, request, 0.0, fl_ctx)

    def aux_send(
        self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> Shareable:
        """Ask the server, without looking at the arguments first.

        Raises:
            CallerError: it could not be sent at all; ``UnencodableBody`` and ``TooLarge`` here.
        """
        letter = letter_of(request, topic, fl_ctx.get_all_public_props())
        outcome = self.exchange.ask_server(letter, timeout)
        return refusal(outcome) if isinstance(outcome, ZbusError) else outcome
