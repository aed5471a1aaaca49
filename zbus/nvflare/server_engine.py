"""The server's engine, nvflare 2.9's ServerEngineSpec over the bus, for a job's process.

Rules:

* It attaches to the broker's backend as ``server.job``; clients push to it and pull tasks.
* Targets None and [] are all clients, a str is a TypeError, and an unknown name has an entry
  (contract 13, rows 3 and 4).
* What only nvflare's parent process can do, start jobs and reserve resources, raises and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import ProcessType, ReturnCode, SnapshotKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.fl_snapshot import RunSnapshot
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.private.defs import SpecialTaskName

from zbus.nvflare.job_engine import Equipment, JobEngine
from zbus.nvflare.messages import decode, encode_reply
from zbus.nvflare.targets import Directory
from zbus.peer.dispatcher import Dispatcher, Incoming

__all__ = ["ServerEngine"]


class ServerEngine(JobEngine, ServerEngineSpec):
    """The server of one job.

    Args:
        job: the job's id.
        clients: all clients of the job, by name or as nvflare's ``Client``.
        endpoint: the broker's backend; None for the default one.
        equipment: components, event handlers, widgets, workspace, tasks.

    Raises:
        InvalidName: a site and the job give no name for the bus.
        BrokerUnreachable, RefusedError: as for ``zbus.connect``.
    """

    def __init__(
        self,
        job: str,
        clients: Iterable[Any],
        *,
        endpoint: str | None = None,
        equipment: Equipment | None = None,
    ) -> None:
        super().__init__(
            Directory("server", job, clients), ProcessType.SERVER_JOB, equipment or Equipment()
        )
        dispatcher = Dispatcher()
        dispatcher.add(self.topic("task"), self._give_task)
        dispatcher.add(self.topic("result"), self._take_result)
        self.attach(endpoint, "server", dispatcher)

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
        """Ask clients: ``{name: reply}``; as for ``ClientEngine.send_aux_request``."""
        requests = dict.fromkeys(self.directory.of_server(targets), request)
        return self.exchange.send(topic, requests, timeout, fl_ctx)

    def validate_targets(self, target_names: list[str]) -> tuple[list[Any], list[str]]:
        """The Clients of these names, and the names that no client has."""
        clients = self.directory.clients
        valid = [clients[name] for name in target_names if name in clients]
        return valid, [name for name in target_names if name not in clients]

    # -- clients and state ---------------------------------------------------------------------

    def get_clients(self) -> list[Any]:
        """All clients of the job."""
        return list(self.directory.clients.values())

    def sync_clients_from_main_process(self) -> list[Any]:
        """All clients of the job: they are known from the start, and nobody need be asked."""
        return self.get_clients()

    def get_client_name_from_token(self, token: str) -> str:
        """The name of the client with this token; empty if there is none."""
        for client in self.directory.clients.values():
            if token and client.get_token() == token:
                return str(client.name)
        return ""

    def persist_components(self, fl_ctx: Any, completed: bool) -> None:
        """Nothing: nvflare 2.9 has given up snapshots, and only keeps the call."""

    def restore_components(self, snapshot: Any, fl_ctx: Any) -> None:
        """Give every component its part of the snapshot, and the context its props.

        Raises:
            TypeError: it is no RunSnapshot.
        """
        if not isinstance(snapshot, RunSnapshot):
            raise TypeError(f"snapshot must be RunSnapshot but got {type(snapshot)}")
        for component_id, component in self._components.items():
            if isinstance(component, FLComponent):
                component.restore(snapshot.get_component_snapshot(component_id), fl_ctx)
        fl_ctx.props.update(snapshot.get_component_snapshot(SnapshotKey.FL_CONTEXT) or {})

    def update_job_run_status(self) -> NoReturn:
        """The parent's business."""
        raise _not_here("a job's status")

    def start_client_job(self, job: Any, client_sites: Any, fl_ctx: Any) -> NoReturn:
        """The parent's business."""
        raise _not_here("starting jobs")

    def check_client_resources(self, job: Any, resource_reqs: Any, fl_ctx: Any) -> NoReturn:
        """The parent's business."""
        raise _not_here("reserving resources")

    def cancel_client_resources(
        self, resource_check_results: Any, resource_reqs: Any, fl_ctx: Any
    ) -> NoReturn:
        """The parent's business."""
        raise _not_here("freeing resources")

    # -- tasks ---------------------------------------------------------------------------------

    def _give_task(self, body: object, request: Incoming) -> bytes:
        asked, fl_ctx = self._received(body)
        name, task_id, task = SpecialTaskName.TRY_AGAIN, "", Shareable()
        client = self.directory.client_at(request.source)
        if self._equipment.tasks is not None and client is not None:
            name, task_id, task = self._equipment.tasks.process_task_request(client, fl_ctx)
        task = Shareable() if task is None else task
        task.set_header(ReservedHeaderKey.TASK_NAME, name or SpecialTaskName.TRY_AGAIN)
        task.set_header(ReservedHeaderKey.TASK_ID, task_id)
        if asked.get_cookie_jar():
            task.set_cookie_jar(asked.get_cookie_jar())
        return encode_reply(task, fl_ctx.get_all_public_props())

    def _take_result(self, body: object, request: Incoming) -> str:
        result, fl_ctx = self._received(body)
        client = self.directory.client_at(request.source)
        if self._equipment.tasks is None or client is None:
            return str(ReturnCode.TASK_UNKNOWN)
        name = result.get_header(ReservedHeaderKey.TASK_NAME)
        task_id = result.get_header(ReservedHeaderKey.TASK_ID)
        self._equipment.tasks.process_submission(client, name, task_id, result, fl_ctx)
        return str(ReturnCode.OK)

    def _received(self, body: object) -> tuple[Any, Any]:
        shareable = decode(body)
        fl_ctx = self.new_context()
        peer_context = FLContext()
        peer_context.set_public_props(shareable.get_peer_props() or {})
        fl_ctx.set_peer_context(peer_context)
        return shareable, fl_ctx


def _not_here(what: str) -> NotImplementedError:
    return NotImplementedError(
        f"{what} is the business of nvflare's parent process; this is one job's engine, started"
        " by whoever runs the job"
    )
