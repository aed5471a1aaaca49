"""What to start as an engine: the program, and who it is on the bus.

Rules:

* Nothing that speaks for the parent reaches the child through the environment: neither its own
  name, life and proof on the bus, nor its line to a supervisor.
* A key goes as a value through the pipe, read anew for each life: the child needs no file, and
  neither its command line nor its environment says anything of it. Its broker lets a key have its
  own name and all below it, so a parent hands on its own, and the child is ``site-1.job-7``.
* A program that ends with exit code 0 has done its work, and is not started again.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zbus.errors import ChildFailed, ConfigError
from zbus.peer.credentials import File, keys_of
from zbus.peer.handover import Handover
from zbus.protocol.topics import check_name

__all__ = ["Launch", "Restarts", "Tally", "environment"]

_NOT_ITS_OWN = (
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "ZBUS_EPOCH",
    "ZBUS_LAUNCH",
    "ZBUS_NAME",
    "ZBUS_TOKEN",
)


@dataclass(frozen=True, slots=True)
class Restarts:
    """At most ``most`` restarts in any ``within_s`` seconds; one more, and it is given up."""

    most: int
    within_s: float

    def __post_init__(self) -> None:
        if self.most < 0 or not 0.0 < self.within_s < math.inf:
            raise ValueError(f"{self.most} restarts in {self.within_s} s are no intensity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One engine to start.

    Args:
        argv: the program and its arguments, as for exec; no shell.
        name: its name on the bus, and here.
        job: the job that it runs, by which it is aborted.
        endpoint: where it attaches as an engine; empty is the default of this machine.
        backend: where it attaches as a server.
        key: the file of the secret key that it shows over tcp, such as the parent's own; None is
            what ZBUS_KEY of its environment names.
        server_key: the file of the broker's public key, or several; needed with ``key``.
        environ: its environment; None is ours. What speaks for us in it is left out.
        folder: its working directory; None is ours.
        log: the file that its output is appended to; None is our own output.
        restarts: start it again where it ends badly; None is never.

    Raises:
        InvalidName: ``name`` is no name of the bus.
        ValueError: there is no program, or one of the keys is missing.
    """

    argv: tuple[str, ...]
    name: str
    job: str = ""
    endpoint: str = ""
    backend: str = ""
    key: File | None = None
    server_key: File | Sequence[File] | None = None
    environ: Mapping[str, str] | None = None
    folder: Path | None = None
    log: Path | None = None
    restarts: Restarts | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.argv or not self.argv[0]:
            raise ValueError(f"there is no program to start as {self.name}")
        if bool(self.key) != bool(self.server_key):
            raise ValueError(f"{self.name} needs both a key and a server key, or neither")

    def handover(self, epoch: int, token: str) -> Handover:
        """What its life of this epoch is handed; the key files are read here.

        Raises:
            ChildFailed: a key file cannot be used.
        """
        keys = None
        if self.key:
            try:
                keys = keys_of({"key": self.key, "server_key": self.server_key})
            except ConfigError as error:
                raise ChildFailed(f"{self.name} cannot be given its key: {error.what}") from error
        return Handover(
            name=self.name,
            epoch=epoch,
            token=token,
            job=self.job,
            endpoint=self.endpoint,
            backend=self.backend,
            keys=keys,
        )


class Tally:
    """Counts restarts against their intensity."""

    def __init__(self, intensity: Restarts | None) -> None:
        self._intensity = intensity
        self._instants: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Whether another restart is allowed at ``now`` (seconds); if so it is counted."""
        if self._intensity is None:
            return False
        while self._instants and self._instants[0] <= now - self._intensity.within_s:
            self._instants.popleft()
        if len(self._instants) >= self._intensity.most:
            return False
        self._instants.append(now)
        return True


def environment(environ: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a child, without what speaks for its parent."""
    given = os.environ if environ is None else environ
    return {name: text for name, text in given.items() if name not in _NOT_ITS_OWN}
