"""Who is meant: the names that components give, and the peers of the bus behind them.

Rules (contract section 3.2):

* A peer is called ``site.job`` on the bus, so that several jobs share one broker. A site's FQCN
  in its job's cell network reads the same.
* Every name that is asked for is resolved; one that nobody has gets a target without address,
  so that it has an entry in the answer all the same (contract 13, row 3).
* A name of another type than str, and a str where the server wants a list, is a ``TypeError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.fl_constant import SiteType

from zbus.protocol.topics import check_name

__all__ = ["Directory", "Target"]

_SERVER = "server"


@dataclass(frozen=True, slots=True)
class Target:
    """A name, as a key of the answer, and its peer on the bus; None if nobody has the name."""

    name: str
    address: str | None


class Directory:
    """The sites of one job."""

    def __init__(self, site: str, job: str, clients: Iterable[str | Any]) -> None:
        self.site = site
        self.job = job
        self.clients: dict[str, Any] = {}
        for each in clients:
            client = each if isinstance(each, Client) else Client(each, "")
            self.clients[client.name] = client
        for name in (site, *self.clients):
            check_name(f"{name}.{job}")

    def address(self, site: str) -> str:
        """The name that this site's engine has on the bus."""
        return f"{site}.{self.job}"

    def client_at(self, address: str) -> Any:
        """The Client behind a peer's name; None if there is none."""
        site, _, job = address.partition(".")
        return self.clients.get(site) if job == self.job else None

    def named(self, name: object) -> Target:
        """What one name means: "server" and "server_parent" in any case, or a client."""
        if not isinstance(name, str):
            raise TypeError(f"target name must be str but got {type(name)}")
        if name.lower() == SiteType.SERVER_PARENT:
            return Target(name, _SERVER)
        if name.lower() == SiteType.SERVER:
            return Target(_SERVER, self.address(_SERVER))
        return Target(name, self.address(name) if name in self.clients else None)

    def of_client(self, targets: object) -> list[Target]:
        """What a client means: nothing is the server, "@ALL" the server and the other clients."""
        if not targets:
            return [self.named(_SERVER)]
        if targets == SiteType.ALL:
            others = [name for name in self.clients if name != self.site]
            return self._each([_SERVER, *others])
        return self._each([targets] if isinstance(targets, str) else targets)

    def of_server(self, targets: object) -> list[Target]:
        """What the server means: nothing is all clients."""
        return self._each(targets or list(self.clients))

    def check(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """The names of clients or of the server, and those that nobody has."""
        every = list(names)
        valid = [name for name in every if name == _SERVER or name in self.clients]
        return valid, [name for name in every if name not in valid]

    def _each(self, targets: object) -> list[Target]:
        if not isinstance(targets, list):
            raise TypeError(f"targets must be a list of names but got {type(targets)}")
        return list(dict.fromkeys(self.named(name) for name in targets))
