"""The engine of the server's job process: handlers, requests to clients, tasks, end and abort.

Rules of this room:

* The answer to a request has a Shareable for every target, also for one that nobody is
  (contract 12.19). Wrong arguments raise (12.8).
* Clients are told in order, each by itself; a slow one keeps no other waiting (12.18).
* Whoever asks for a task is who the broker says it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zbus.engine.aux_runner import AuxRunner
from zbus.engine.bus import Attach, Reply, attach_to
from zbus.engine.client_aux_runner import check_arguments
from zbus.engine.component import FLComponent
from zbus.engine.constants import ProcessType, ReservedHeaderKey, ReservedTopic, SiteType
from zbus.engine.constants import ReturnCode as Rc
from zbus.engine.context import FLContext
from zbus.engine.job_engine import CONFIRM_S, Equipment, JobEngine
from zbus.engine.letters import letter_of, received, reply_of
from zbus.engine.outcomes import refusal
from zbus.engine.shareable import Shareable, make_reply
from zbus.engine.spec import ServerEngineSpec
from zbus.engine.targets import Directory, Outcome, Target
from zbus.engine.task import Client
from zbus.engine.tasks import Task, TaskBoard
from zbus.errors import ZbusError
from zbus.peer.dispatcher import Dispatcher, Incoming

__all__ = ["JobServer", "ServerEngine", "not_here"]

_Clients = Iterable[str | Client]


class JobServer(JobEngine):
    """The server in a job, without a way to send that belongs to one era.

    Args:
        job_id: the job; a word without dots.
        clients: all clients of the job, by name or as ``Client``; or a function that says them.
        endpoint: the broker's backend; None for the default one.
        equipment: components, event handlers, workspace and builder.
        attach: how to attach, instead of by ``endpoint``.

    Raises:
        InvalidName: the job, or a client, gives no name for the bus.
        BrokerUnreachable, RefusedError: as for ``zbus.connect``.
    """

    def __init__(
        self,
        job_id: str,
        clients: _Clients | Callable[[], _Clients] = (),
        *,
        endpoint: str | None = None,
        equipment: Equipment | None = None,
        attach: Attach | None = None,
    ) -> None:
        self._who = clients if callable(clients) else None
        directory = Directory(SiteType.SERVER, job_id, clients() if callable(clients) else clients)
        super().__init__(directory, ProcessType.SERVER_JOB, equipment)
        self.tasks = TaskBoard()
        self.snapshot: dict[str, Any] | None = None
        """The state of the components that was persisted last; None once the job is completed."""
        self._aux = AuxRunner(self)
        dispatcher = Dispatcher()
        dispatcher.add(directory.topic("task"), self._serve_task)
        dispatcher.add(directory.topic("result"), self._serve_result)
        self.attach(attach or attach_to(endpoint, "server"), dispatcher)

    @property
    def aux_runner(self) -> AuxRunner:
        """The handlers of aux messages."""
        return self._aux

    # -- clients ---------------------------------------------------------------------------

    def get_clients(self) -> list[Client]:
        """The clients of the job."""
        return list(self.directory.clients.values())

    def sync_clients_from_main_process(self) -> None:
        """Ask anew who the clients are, where this engine was given a function for it."""
        if self._who is not None:
            self.directory.enter(self._who())

    def validate_clients(self, client_names: list[str]) -> tuple[list[Client], list[str]]:
        """The clients of these names, and the names that no client has."""
        return self.directory.check(client_names)

    def get_client_name_from_token(self, token: str) -> str:
        """The name of the client with this token; empty if none has it."""
        named = (client.name for client in self.get_clients() if client.token == token and token)
        return next(named, "")

    # -- tasks -----------------------------------------------------------------------------

    def assign_task(self, client: str, name: str, content: Shareable) -> Task:
        """Give a client a task, behind those that it has; ``tasks.wait`` waits for its result.

        Raises:
            ValueError: no client has this name.
            TypeError: the content is no Shareable.
        """
        if client not in self.directory.clients:
            raise ValueError(f"no client of this job is called {client!r:.80}")
        if not isinstance(content, Shareable):
            raise TypeError(f"content must be a Shareable, not {type(content)}")
        return self.tasks.put(client, name, content)

    def _serve_task(self, body: Any, request: Incoming) -> list[Any]:
        asked, _ = received(body)
        task = self.tasks.next_of(self.site_at(request.source) or "")
        reply = make_reply(Rc.TASK_UNKNOWN) if task is None else task.content
        return reply_of(reply, asked, self.new_context().get_all_public_props())

    def _serve_result(self, body: Any, request: Incoming) -> list[Any]:
        result, _ = received(body)
        task_id = result.get_header(ReservedHeaderKey.TASK_ID)
        taken = self.tasks.take(self.site_at(request.source) or "", task_id, result)
        reply = make_reply(Rc.OK if taken else Rc.TASK_UNKNOWN)
        return reply_of(reply, result, self.new_context().get_all_public_props())

    # -- the end ---------------------------------------------------------------------------

    def end_clients(self, fl_ctx: FLContext, timeout: float = CONFIRM_S) -> dict[str, Shareable]:
        """Tell every client that the run is over (``__end_run__``): ``{name: reply}``, OK from
        those whose run has ended."""
        everybody = self.directory.of_server(None)
        return self._send(everybody, ReservedTopic.END_RUN, Shareable(), timeout, fl_ctx)

    def abort_clients(self, timeout: float = CONFIRM_S) -> dict[str, Shareable]:
        """Abort the job at every client: ``{name: reply}``, OK from those that confirm it."""
        topic = self.directory.topic("abort")
        asked: dict[str, Reply | ZbusError] = {}
        for name in self.directory.clients:
            address = self.directory.address(name)
            try:
                asked[name] = self.bus.submit(topic, None, timeout=timeout, to=address)
            except ZbusError as error:
                asked[name] = error
        return {name: _confirmed(reply) for name, reply in asked.items()}

    def abort_app(self, job_id: str, fl_ctx: FLContext) -> None:
        """Abort the job here, and at every client; see ``JobEngine.abort_app``. Whoever does not
        confirm it is logged.

        Raises:
            ValueError: this engine runs another job.
        """
        if job_id == self.job_id:
            self.abort_signal.trigger(True)
            self.tasks.give_up()
            for name, reply in self.abort_clients().items():
                if reply.get_return_code() != Rc.OK:
                    self._aux.log_warning(fl_ctx, f"{name} did not confirm the abort: {reply}")
        super().abort_app(job_id, fl_ctx)

    # -- state of components ---------------------------------------------------------------

    def persist_components(self, fl_ctx: FLContext, completed: bool) -> None:
        """Put the state of all components into ``snapshot``; None when the job is completed."""
        components = self.get_all_components().items()
        self.snapshot = (
            None
            if completed
            else {
                name: component.get_persist_state(fl_ctx)
                for name, component in components
                if isinstance(component, FLComponent)
            }
        )

    def restore_components(self, snapshot: Any, fl_ctx: FLContext) -> None:
        """Give the components the state that ``snapshot`` had."""
        for name, state in (snapshot or {}).items():
            component = self.get_component(name)
            if isinstance(component, FLComponent):
                component.restore(state, fl_ctx)

    # -- sending ---------------------------------------------------------------------------

    def _send(
        self,
        targets: list[Target],
        topic: str,
        request: Shareable,
        timeout: float,
        fl_ctx: FLContext,
    ) -> dict[str, Shareable]:
        """Ask, or tell where the timeout is 0; return codes of the seed era."""
        letter = letter_of(request, topic, fl_ctx.get_all_public_props())
        letters = dict.fromkeys(targets, letter)
        exchange = self.exchange
        outcomes = exchange.ask(letters, timeout) if timeout else exchange.tell(letters)
        return {name: _replied(outcome) for name, outcome in outcomes.items()}


class ServerEngine(JobServer, ServerEngineSpec):
    """The engine with the seed era's way to send."""

    def send_aux_request(
        self,
        targets: list[str] | None,
        topic: str,
        request: Shareable,
        timeout: float,
        fl_ctx: FLContext,
    ) -> dict[str, Shareable]:
        """Ask clients at once: ``{client name: reply}``, with an entry for each target.

        Args:
            targets: names or ``Client`` objects; None or an empty list are all clients.
            topic: any text; the clients' handlers for it answer.
            request: is not changed, and not kept.
            timeout: seconds for the whole call; 0 tells, and does not wait.
            fl_ctx: its public props travel along.

        Raises:
            TypeError, ValueError: the arguments are no request.
            CallerError: it could not be sent at all; ``UnencodableBody`` and ``TooLarge`` here.
        """
        if not isinstance(request, Shareable):
            raise ValueError(f"request must be a Shareable, not {type(request)}")
        found = self.directory.of_server(targets)
        check_arguments(topic, timeout, fl_ctx)
        return self._send(found, topic, request, timeout, fl_ctx)

    # -- what the process above does -------------------------------------------------------

    def start_client_job(self, job_id: str, client_sites: Any) -> Any:
        """Not here: engines are started by their parent, see ``zbus.engine.children``."""
        raise not_here("starting a job")

    def check_client_resources(self, resource_reqs: dict[str, Any]) -> dict[str, Any]:
        """Not here: there is no resource manager in the process of a job."""
        raise not_here("checking resources")

    def cancel_client_resources(
        self, resource_check_results: dict[str, Any], resource_reqs: dict[str, Any]
    ) -> None:
        """Not here: there is no resource manager in the process of a job."""
        raise not_here("cancelling resources")


def not_here(what: str) -> NotImplementedError:
    """What is raised where only the process above could do it."""
    return NotImplementedError(
        f"{what} is done by the parent of the engines, not by the engine of one job"
    )


def _replied(outcome: Outcome) -> Shareable:
    return refusal(outcome) if isinstance(outcome, ZbusError) else outcome


def _confirmed(reply: Reply | ZbusError) -> Shareable:
    if isinstance(reply, ZbusError):
        return refusal(reply)
    try:
        reply.result()
    except ZbusError as error:
        return refusal(error)
    return make_reply(Rc.OK)
