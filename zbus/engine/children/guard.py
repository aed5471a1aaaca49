"""The guard: a small process between a parent and one engine, so that neither outlives the other.

It is executed as a file, by an interpreter without site packages, and imports the standard library
only: ``python -I -S guard.py PARENT CONTROL LAUNCH ARGV...``. Rules:

* The parent is gone when its end of the control socket closes or its pidfd says so, whichever is
  first. Neither asks which thread started us, and a fork that holds the socket does not hide it.
* The engine dies with the guard: PDEATHSIG, which counts for the thread that started it, and the
  guard has one thread only. So there is no instant in which killing any process leaves an engine.
* Nobody but the guard signals the engine's process group, because the guard reaps the engine and
  knows that the number is still its own.
* When the engine ends, however, all that it started ends too: the guard is their subreaper. Only
  then is the end reported.
* Whoever ends the parent's group or control group politely ends the engine, not its guard.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_libc = ctypes.CDLL(None, use_errno=True)


def main(words: list[str]) -> int:
    """Start the engine, and return when it and all that it started are gone."""
    parent, control, launch = (int(word) for word in words[:3])
    _prepare()
    with socket.socket(fileno=control) as control_socket:
        try:
            parent_fd = os.pidfd_open(parent)
        except ProcessLookupError:
            return 1
        if os.getppid() != parent:
            return 1
        return _guard(control_socket, parent_fd, launch, words[3:])


def _prepare() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _POLITE:
        # A handler, unlike SIG_IGN, is not inherited; what was ignored before stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _heed_not)


def _guard(control: socket.socket, parent_fd: int, launch: int, argv: list[str]) -> int:
    guard_pid = os.getpid()

    def tie() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard_pid:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    try:
        # The one thread there is calls ``tie``, so that no lock of another can be held.
        engine = subprocess.Popen(argv, pass_fds=(launch,), start_new_session=True, preexec_fn=tie)
    except (OSError, subprocess.SubprocessError) as error:
        _tell(control, f"failed {argv[0]} cannot be started: {error}")
        return 127
    os.close(launch)
    engine_fd = os.pidfd_open(engine.pid)
    _tell(control, f"started {engine.pid}", engine_fd)
    _watch(control, parent_fd, engine_fd, engine.pid)
    code = engine.wait()
    _sweep()
    _hear_out(control)
    _tell(control, f"ended {code}")
    return 0


def _watch(control: socket.socket, parent_fd: int, engine_fd: int, group: int) -> None:
    """Pass signals on until the engine has ended; end it when the parent has."""
    poll = select.poll()
    for descriptor in (control.fileno(), parent_fd, engine_fd):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if engine_fd in ready:
            return
        numbers = _asked(control) if control.fileno() in ready else b"\0"
        if parent_fd in ready or not numbers:
            _signal_group(group, signal.SIGKILL)
            return
        for number in filter(None, numbers):
            _signal_group(group, number)


def _asked(control: socket.socket) -> bytes:
    try:
        return control.recv(64)
    except ConnectionError:
        return b""


def _hear_out(control: socket.socket) -> None:
    """Leave nothing unread: else the parent would get ECONNRESET, and not our last message."""
    control.shutdown(socket.SHUT_RD)
    while _asked(control):
        pass


def _sweep() -> None:
    """End what the engine left: it is our child now, and so is what that leaves in turn."""
    while True:
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    us = os.getpid()
    return [
        int(entry) for entry in os.listdir("/proc") if entry.isdecimal() and _parent(entry) == us
    ]


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program, in parentheses, may hold anything.
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _tell(control: socket.socket, text: str, *descriptors: int) -> None:
    with suppress(OSError):
        socket.send_fds(control, [text.encode("utf-8", "replace")], descriptors)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _heed_not(_number: int, _frame: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
