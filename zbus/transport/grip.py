"""A grip on one connection at a time, by its descriptor: to look at it, and to end it.

Rules of this room:

* The descriptors are ZeroMQ's, which closes them whenever it likes. A grip holds a copy, so that
  what is looked at and what is ended is one connection, and no other that got its number since.
* The copy goes to a descriptor that the grip has from the beginning, so that a process that has
  none left can still end connections.
* The kernel counts what a tcp connection has brought. Of an ipc connection it tells only what
  waits, which is mostly nothing; what it has brought shows in the size of the process alone.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios

__all__ = ["Footprint", "Grip"]

_COUNT_AT = 128
"""Where ``tcpi_bytes_received`` stands in ``struct tcp_info``."""
_COUNT = struct.Struct("=Q")
_INFO_BYTES = _COUNT_AT + _COUNT.size
_WAITING = struct.Struct("=i")
_CREDENTIALS = struct.Struct("=3i")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Grip:
    """Holds nothing, or a copy of one connection's descriptor."""

    __slots__ = ("_nothing", "_socket")

    def __init__(self) -> None:
        self._nothing = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # What this object does, it does to whatever its descriptor stands for at that time. Its
        # family says no more than how long an address may be.
        copy = os.dup(self._nothing.fileno())
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, copy)

    def hold(self, descriptor: int) -> bool:
        """Hold this one from now on; False if there is no such descriptor."""
        try:
            os.dup2(descriptor, self._socket.fileno(), inheritable=False)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Hold nothing. The connection ends only now, if it was to end meanwhile."""
        os.dup2(self._nothing.fileno(), self._socket.fileno(), inheritable=False)

    def taken(self) -> int | None:
        """Bytes that were read from it until now, by whomever; None if the kernel does not count
        them."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
            answer = fcntl.ioctl(self._socket, termios.FIONREAD, bytes(_WAITING.size))
        except OSError:
            return None
        if len(info) < _INFO_BYTES:
            return None
        brought, waiting = _COUNT.unpack_from(info, _COUNT_AT)[0], _WAITING.unpack(answer)[0]
        return max(int(brought) - int(waiting), 0)

    def origin(self) -> str:
        """Who is at the other end: an address, or a process of this machine; empty if unknown."""
        try:
            name = self._socket.getpeername()
            if isinstance(name, tuple):
                return str(name[0])
            credentials = self._socket.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
        except OSError:
            return ""
        return f"process {_CREDENTIALS.unpack(credentials)[0]}"

    def cut(self) -> None:
        """End what is held; ZeroMQ notices at once, and closes it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended

    def close(self) -> None:
        """Hold nothing any more. A second call does nothing."""
        self._socket.close()
        self._nothing.close()


class Footprint:
    """How much memory this process has, seen from outside."""

    __slots__ = ("_file",)

    def __init__(self) -> None:
        self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def size(self) -> int:
        """Bytes, now."""
        return int(os.pread(self._file, 256, 0).split()[1]) * _PAGE_BYTES

    def close(self) -> None:
        """A second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
