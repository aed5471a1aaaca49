"""The engines with the way to send of 2.3 and later: targets, and a dict of replies by name.

Rules of this room:

* It is the same call as the seed era's, "targets to outcomes"; only arguments, shape and return
  codes differ: a timeout is TIMEOUT here.
* The answer has an entry for every target, also for names that nobody has (contract 13.3, 13.12),
  and requests for several targets are answered for real (13.2).
* ``optional`` and ``secure`` change nothing: nothing is logged about an outcome that the caller
  is given, and secrecy is the broker's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zbus.engine import wire
from zbus.engine.client_aux_runner import check_arguments, check_request
from zbus.engine.client_engine import JobClient
from zbus.engine.constants import SiteType
from zbus.engine.context import FLContext
from zbus.engine.job_engine import JobEngine
from zbus.engine.letters import letter_of
from zbus.engine.outcomes import refusal
from zbus.engine.server_engine import JobServer, not_here
from zbus.engine.shareable import Shareable
from zbus.engine.targets import Target
from zbus.engine.task import Client
from zbus.errors import ZbusError

__all__ = ["ModernClientEngine", "ModernServerEngine"]


class _Sending(JobEngine):
    """What client and server have in common here."""

    def _find(self, targets: Any) -> list[Target]:
        raise NotImplementedError

    def send_aux_request(
        self,
        targets: str | list[str] | None,
        topic: str,
        request: Shareable,
        timeout: float,
        fl_ctx: FLContext,
        optional: bool = False,
        secure: bool = False,
    ) -> dict[str, Shareable]:
        """Ask every target at once: ``{name: reply}``; with a timeout of 0 they are told.

        For a client no target is the server, ``"@ALL"`` the server and all other clients; for
        the server no target is all clients, and a str is a ``TypeError``.

        Raises:
            TypeError, ValueError: the arguments are no request.
            CallerError: it could not be sent at all; ``UnencodableBody`` and ``TooLarge`` here.
        """
        found = self._find(targets)
        check_request(request)
        return self._sent(topic, dict.fromkeys(found, request), timeout, fl_ctx)

    def multicast_aux_requests(
        self,
        topic: str,
        target_requests: Mapping[str, Shareable],
        timeout: float,
        fl_ctx: FLContext,
        optional: bool = False,
        secure: bool = False,
    ) -> dict[str, Shareable]:
        """The same with a request for each target; errors as for ``send_aux_request``."""
        requests = {self.directory.named(name): each for name, each in target_requests.items()}
        for request in requests.values():
            check_request(request)
            wire.check(request, {})
        return self._sent(topic, requests, timeout, fl_ctx)

    def _sent(
        self,
        topic: str,
        requests: Mapping[Target, Shareable],
        timeout: float,
        fl_ctx: FLContext,
    ) -> dict[str, Shareable]:
        check_arguments(topic, timeout, fl_ctx)
        props = fl_ctx.get_all_public_props()
        letters = {target: letter_of(each, topic, props) for target, each in requests.items()}
        exchange = self.exchange
        outcomes = exchange.ask(letters, timeout) if timeout else exchange.tell(letters)
        return {
            name: refusal(outcome, modern=True) if isinstance(outcome, ZbusError) else outcome
            for name, outcome in outcomes.items()
        }


class ModernClientEngine(_Sending, JobClient):
    """A client's engine for code of 2.3 and later."""

    def fire_and_forget_aux_request(
        self,
        topic: str,
        request: Shareable,
        fl_ctx: FLContext,
        optional: bool = False,
        secure: bool = False,
    ) -> dict[str, Shareable]:
        """Tell the server: ``{"server": reply}`` at once, OK where it was accepted."""
        return self.send_aux_request(SiteType.SERVER, topic, request, 0.0, fl_ctx)

    def validate_targets(self, target_names: list[str]) -> tuple[list[str], list[str]]:
        """The names that are the server or a client of the job, and those that are not."""
        every = list(target_names)
        valid = [name for name in every if self.directory.named(name).address is not None]
        return valid, [name for name in every if name not in valid]

    def get_cell(self) -> Any:
        """None: there is no cell network here, and aux messages need none."""
        return None

    def _find(self, targets: Any) -> list[Target]:
        return self.directory.of_client(targets)


class ModernServerEngine(_Sending, JobServer):
    """The server's engine for code of 2.3 and later."""

    def fire_and_forget_aux_request(
        self,
        targets: list[str] | None,
        topic: str,
        request: Shareable,
        fl_ctx: FLContext,
        optional: bool = False,
        secure: bool = False,
    ) -> dict[str, Shareable]:
        """Tell clients: ``{name: reply}`` at once, OK where it was accepted."""
        return self.send_aux_request(targets, topic, request, 0.0, fl_ctx)

    def validate_targets(self, target_names: list[str]) -> tuple[list[Client], list[str]]:
        """The clients of these names, and the names that no client has."""
        return self.validate_clients(target_names)

    def start_client_job(self, job: Any, client_sites: Any, fl_ctx: FLContext) -> Any:
        """Not here: engines are started by their parent, see ``zbus.engine.children``."""
        raise not_here("starting a job")

    def check_client_resources(self, job: Any, resource_reqs: Any, fl_ctx: FLContext) -> Any:
        """Not here: there is no resource manager in the process of a job."""
        raise not_here("checking resources")

    def cancel_client_resources(
        self, resource_check_results: Any, resource_reqs: Any, fl_ctx: FLContext
    ) -> None:
        """Not here: there is no resource manager in the process of a job."""
        raise not_here("cancelling resources")

    def update_job_run_status(self) -> None:
        """Not here: a job's status is kept by the parent."""
        raise not_here("a job's status")

    def _find(self, targets: Any) -> list[Target]:
        return self.directory.of_server(targets)
