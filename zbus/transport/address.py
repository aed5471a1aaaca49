"""Where a port binds or connects: what is refused, and why, in words.

Rules of this room:

* ZeroMQ binds over whatever is at an ipc path, be it another broker's live socket or a file
  that is no socket, and it reads any tcp port modulo 65536. Both are refused here, before it is
  asked. This is no lock: two that bind in the same moment need one, which the daemon has.
* Every refusal is a ``ConfigError``, or ``AlreadyRunning`` where somebody listens; it names the
  endpoint and what to do.
* What we made we remove, and nothing else: a socket file is ours while its inode is.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass

from zbus.errors import AlreadyRunning, ConfigError, ZbusError

__all__ = ["PATH_MAX_BYTES", "OwnPath", "check_address", "check_vacant", "refusal"]

PATH_MAX_BYTES = 107
"""The kernel's room for the path of a socket, less the zero at its end."""

_IPC = "ipc://"
_TCP = "tcp://"
_NO_ADDRESS = "that is no address; write ipc:///path or tcp://host:port"
_NOT_ALLOWED = "this user may not; choose another path, or a port above 1023"
_CAUSES = {
    errno.EINVAL: _NO_ADDRESS,
    errno.EPROTONOSUPPORT: _NO_ADDRESS,
    errno.ENAMETOOLONG: f"its path is longer than {PATH_MAX_BYTES} bytes; choose a shorter one",
    errno.ENOENT: "its directory does not exist; make it first",
    errno.ENOTDIR: "its directory is a file; choose another path",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENODEV: "no interface of this machine is called that; use an address that it has",
    errno.EADDRNOTAVAIL: "this machine does not have that address; use one that it has",
    errno.EMFILE: "this process may open no more files; raise its limit (ulimit -n)",
}


@dataclass(frozen=True, slots=True)
class OwnPath:
    """The socket file that a bind of ours made; ZeroMQ leaves it behind."""

    path: str
    file: tuple[int, int]

    @classmethod
    def of(cls, endpoint: str) -> OwnPath | None:
        """The file of an endpoint that has just been bound; None where there is none."""
        path = _path(endpoint)
        if path is None:
            return None
        return cls(os.path.abspath(path), _file(path))

    def unlink(self) -> None:
        """Remove it, unless another stands there now. To be called before the socket is closed:
        until then no other file can have its inode."""
        try:
            if _file(self.path) == self.file:
                os.unlink(self.path)
        except OSError:
            pass  # gone already, or no longer ours to remove


def check_address(endpoint: str) -> None:
    """Refuse what ZeroMQ would take and should not.

    Raises:
        ConfigError: it is no address of ours.
    """
    if not endpoint.startswith((_IPC, _TCP)) or "\0" in endpoint:
        raise refusal(endpoint, errno.EINVAL)
    path = endpoint.removeprefix(_IPC)
    if path != endpoint and len(os.fsencode(path)) > PATH_MAX_BYTES:
        raise refusal(endpoint, errno.ENAMETOOLONG)
    port = endpoint.rpartition(":")[2]
    if path == endpoint and port != "*" and not _is_port(port):
        raise ConfigError(f"cannot use {endpoint}: a tcp port is a number up to 65535")


def check_vacant(endpoint: str) -> None:
    """Refuse an ipc path that is in use. The socket that a killed process left is not.

    Raises:
        AlreadyRunning: somebody listens there.
        ConfigError: what is there is no socket, or not ours to look at.
    """
    path = _path(endpoint)
    if path is None:
        return
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"cannot bind {endpoint}: a file that is no socket is there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return
    except OSError as error:
        if error.errno != errno.EAGAIN:  # which says that somebody listens and is busy
            raise refusal(endpoint, error.errno or errno.EINVAL) from None
    raise refusal(endpoint, errno.EADDRINUSE)


def refusal(endpoint: str, number: int) -> ZbusError:
    """The error for what the system said."""
    if number == errno.EADDRINUSE:
        return AlreadyRunning(f"cannot bind {endpoint}: somebody listens there")
    return ConfigError(f"cannot use {endpoint}: {_CAUSES.get(number) or os.strerror(number)}")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= 65_535


def _path(endpoint: str) -> str | None:
    """The file of an ipc endpoint; none for tcp, for abstract names and for ZeroMQ's own."""
    path = endpoint.removeprefix(_IPC)
    return None if path == endpoint or path.startswith(("@", "*")) else path


def _file(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
