"""Targets to outcomes: the one call under every way to send that engines have.

Rules of this room:

* The answer has an entry for every target, whatever happened to it (contract 13.3). An entry is
  a Shareable or the error of the bus; the faces make a reply of their era from it.
* A target that nobody is has no address, and an entry all the same. A name that is no text is a
  ``TypeError``.
* One deadline holds for the whole call. What cannot be encoded raises before anything is sent.
* The server is found by its topic and waited for: not ready is not gone (contract 15, i1221).
  A client is found by its name, ``site.job``, so that several jobs share one broker.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from zbus.engine.bus import Bus, Reply
from zbus.engine.constants import ReturnCode, SiteType
from zbus.engine.courier import Courier
from zbus.engine.letters import replied, sealed, weight_of
from zbus.engine.outcomes import code_of
from zbus.engine.shareable import Shareable, make_reply
from zbus.engine.task import Client
from zbus.errors import InvalidName, NoTarget, ZbusError
from zbus.protocol.topics import check_name

__all__ = ["Directory", "Exchange", "Outcome", "Target"]

Outcome: TypeAlias = Shareable | ZbusError
_SERVER = ""
"""The server's address: none, as its topic finds it."""
_LEAST_S = 0.001


class Target(NamedTuple):
    """A name, as a key of the answer, and where that is on the bus; None if nobody has it."""

    name: str
    address: str | None


class Directory:
    """The sites of one job. ``clients`` are names, or ``Client`` objects."""

    def __init__(self, site: str, job_id: str, clients: Iterable[str | Client]) -> None:
        if "." in check_name(job_id, "job_id"):
            raise InvalidName(f"job_id {job_id!r:.80} has a dot, which divides it from the site")
        self.site = site
        self.job_id = job_id
        self.clients: dict[str, Client] = {}
        check_name(site, "site")
        self.enter(clients)

    def enter(self, clients: Iterable[str | Client]) -> None:
        """These are the clients from now on."""
        every = [each if isinstance(each, Client) else Client(each, "") for each in clients]
        for client in every:
            if check_name(client.name, "client").lower() == SiteType.SERVER:
                raise InvalidName(f"a client cannot be called {client.name!r}")
        self.clients = {client.name: client for client in every}

    @property
    def server(self) -> Target:
        """The job's server."""
        return Target(SiteType.SERVER, _SERVER)

    def address(self, site: str) -> str:
        """What this site's engine is called on the bus."""
        return f"{site}.{self.job_id}"

    def topic(self, purpose: str) -> str:
        """The topic of the bus for one purpose of this job."""
        return f"flare.{self.job_id}.{purpose}"

    def site_at(self, address: str) -> str | None:
        """The site that has this name on the bus; None for one that is not in this job."""
        site, _, job_id = address.rpartition(".")
        return site if job_id == self.job_id else None

    def named(self, name: object) -> Target:
        """Who is meant by a name: the server, in any case of letters, or a client."""
        if isinstance(name, Client):
            name = name.name
        if not isinstance(name, str):
            raise TypeError(f"a target must be a str or a Client, not {type(name)}")
        if name.lower() == SiteType.SERVER:
            return self.server
        return Target(name, self.address(name) if name in self.clients else None)

    def of_client(self, targets: object) -> list[Target]:
        """Whom a client means: nothing is the server, ``@ALL`` the server and other clients."""
        if targets is None or targets == "" or targets == []:
            return [self.server]
        if targets == SiteType.ALL:
            others = [name for name in self.clients if name != self.site]
            return self._each([SiteType.SERVER, *others])
        return self._each([targets] if isinstance(targets, str) else targets)

    def of_server(self, targets: object) -> list[Target]:
        """Whom the server means: nothing is all clients. A str is a ``TypeError`` (13.4)."""
        return self._each(list(self.clients) if targets is None or targets == [] else targets)

    def check(self, names: Iterable[str]) -> tuple[list[Client], list[str]]:
        """The clients of these names, and the names that no client has."""
        every = list(names)
        valid = [self.clients[name] for name in every if name in self.clients]
        return valid, [name for name in every if name not in self.clients]

    def _each(self, targets: object) -> list[Target]:
        if not isinstance(targets, list):
            raise TypeError(f"targets must be a list of names, not {type(targets)}")
        return list(dict.fromkeys(map(self.named, targets)))


class Exchange:
    """Sends the letters of one job, for any number of threads."""

    def __init__(self, bus: Bus, directory: Directory) -> None:
        self._bus = bus
        self._topic = directory.topic("aux")
        self.courier = Courier(bus, directory.topic("tell"), weight_of)

    def ask_server(self, letter: list[Any], timeout: float) -> Outcome:
        """Ask the server, and wait; errors that are the caller's own are outcomes as well."""
        try:
            return replied(self._bus.request(self._topic, letter, timeout=timeout, unserved="wait"))
        except ZbusError as error:
            return error

    def tell_server(self, letter: list[Any]) -> Outcome:
        """Send and forget; OK means that it was accepted."""
        try:
            self._bus.push(self._topic, letter)
        except ZbusError as error:
            return error
        return make_reply(ReturnCode.OK)

    def ask(self, letters: Mapping[Target, list[Any]], timeout: float) -> dict[str, Outcome]:
        """Ask every target at once: ``{name: outcome}``, with an entry for each.

        Raises:
            ZbusError: one that is the caller's own, such as ``UnencodableBody``.
        """
        deadline = time.monotonic() + timeout
        asked: dict[Target, Reply | ZbusError] = {}
        try:
            for target, letter in letters.items():
                left_s = timeout if not asked else deadline - time.monotonic()
                asked[target] = self._submit(target, letter, max(left_s, _LEAST_S))
            return {target.name: _outcome(reply) for target, reply in asked.items()}
        except BaseException:
            for reply in asked.values():
                if not isinstance(reply, ZbusError):
                    reply.cancel()
            raise

    def tell(self, letters: Mapping[Target, list[Any]]) -> dict[str, Outcome]:
        """Send and forget to every target: ``{name: outcome}`` at once; errors as for ``ask``."""
        return {target.name: self._tell(target, letter) for target, letter in letters.items()}

    def flush(self, timeout: float) -> int:
        """Wait until all that was told is settled; how many are not."""
        deadline = time.monotonic() + timeout
        left = self.courier.flush(timeout)
        return left + self._bus.flush(timeout=max(deadline - time.monotonic(), _LEAST_S))

    def _submit(self, target: Target, letter: list[Any], timeout: float) -> Reply | ZbusError:
        if target.address is None:
            return _unknown(target)
        try:
            if target.address == _SERVER:
                return self._bus.submit(self._topic, letter, timeout=timeout, unserved="wait")
            return self._bus.submit(self._topic, letter, timeout=timeout, to=target.address)
        except ZbusError as error:
            return _own_or_outcome(error)

    def _tell(self, target: Target, letter: list[Any]) -> Outcome:
        if target.address is None:
            return _unknown(target)
        if target.address == _SERVER:
            outcome = self.tell_server(letter)
            return _own_or_outcome(outcome) if isinstance(outcome, ZbusError) else outcome
        try:
            self.courier.accept(target.address, sealed(letter))
        except ZbusError as error:
            return _own_or_outcome(error)
        return make_reply(ReturnCode.OK)


def _unknown(target: Target) -> NoTarget:
    return NoTarget(f"no site of this job is called {target.name!r:.80}")


def _own_or_outcome(error: ZbusError) -> ZbusError:
    """The error as an outcome; the caller's own is raised."""
    if code_of(error) is None:
        raise error
    return error


def _outcome(reply: Reply | ZbusError) -> Outcome:
    if isinstance(reply, ZbusError):
        return reply
    try:
        return replied(reply.result())
    except ZbusError as error:
        return _own_or_outcome(error)
