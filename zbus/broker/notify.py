"""What the broker tells its supervisor: systemd's notify protocol, in the standard library.

Rules of this room:

* Nothing here raises and nothing waits: a supervisor that does not read must not stop a
  broker. What is returned says whether the kernel took the notice.
* No socket is kept: notices are rare, and nothing is left open.
* Without ``NOTIFY_SOCKET`` every call does nothing, so that nobody needs to ask.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Sends notices to the socket that the environment names.

    ``watchdog_s`` is the interval in which the supervisor wants to hear ``watchdog``, or None
    where it does not ask this process; call it at half of that.
    """

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ, os.getpid() if pid is None else pid)

    def ready(self, status: str) -> bool:
        """The broker is bound and serves; ``status`` is one line for ``systemctl status``."""
        return self._send("READY=1", _status(status))

    def stopping(self, status: str) -> bool:
        """The broker drains and will exit."""
        return self._send("STOPPING=1", _status(status))

    def status(self, status: str) -> bool:
        """What it does now."""
        return self._send(_status(status))

    def watchdog(self) -> bool:
        """The broker's loop still goes round."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
                door.setblocking(False)
                door.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def _status(text: str) -> str:
    """A line end would begin another notice, so there is none."""
    return f"STATUS={' '.join(text.split())}"


def _address(name: str) -> bytes | None:
    """The socket's address: a path, or an abstract name that is written with a leading @."""
    if name.startswith("/"):
        return os.fsencode(name)
    if name.startswith("@") and len(name) > 1:
        return b"\0" + os.fsencode(name[1:])
    return None


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    usec = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    if not (usec.isascii() and usec.isdigit() and len(usec) <= 18 and int(usec)):
        return None
    return int(usec) / 1_000_000
