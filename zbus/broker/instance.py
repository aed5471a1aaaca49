"""One broker to a runtime directory and to a socket path: the lock taken before any bind.

Rules of this room (promise P23):

* A second process that binds a live ipc path would succeed and leave the first one deaf, so
  nothing is bound before the locks are held: ``broker.lock`` in the runtime directory, and
  ``PATH.lock`` beside the socket of every ipc endpoint, wherever that is.
* A lock is ``flock`` on an open file, held for life. It dies with its process, so a file that
  kill -9 left behind means nothing; the number in it is for people.
* A released lock leaves no file. Whoever locks a file that is no longer the one of that name
  (its holder has just removed it) takes the new one.
* The runtime directory is ours alone: our user's, no symbolic link, writable by nobody else.
  The directory of any other socket may also be root's, or sticky like ``/tmp``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from zbus.errors import AlreadyRunning, ConfigError
from zbus.transport.endpoints import ipc_path

__all__ = ["LOCK_NAME", "InstanceLock"]

LOCK_NAME = "broker.lock"
_ATTEMPTS = 100
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class InstanceLock:
    """The right to be the broker here. Held from its making until ``close`` or death.

    Raises ``AlreadyRunning``, which names the holder, where another broker has a lock, and
    ``ConfigError`` where a directory is missing, unsafe or not to be written.
    """

    def __init__(self, directory: Path, endpoints: Iterable[str] = ()) -> None:
        self.directory = directory
        self._held: list[_HeldLock] = []
        sockets = (path for endpoint in endpoints if (path := ipc_path(endpoint)) is not None)
        try:
            _make_directory(directory)
            self._held.append(_locked(directory, LOCK_NAME, ours_alone=True))
            for path in sorted(set(sockets)):
                ours_alone = path.parent == directory
                self._held.append(_locked(path.parent, f"{path.name}.lock", ours_alone=ours_alone))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go and remove the lock files. A second call does nothing."""
        while self._held:
            self._held.pop().release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _HeldLock:
    """A locked file: its descriptor, its directory's, and its name there."""

    def __init__(self, folder: int, name: str, lock: int) -> None:
        self._folder = folder
        self._name = name
        self._lock = lock

    def release(self) -> None:
        """Remove the file while it is still locked, so that no one can hold a nameless lock."""
        with contextlib.suppress(OSError):  # removed by hand: the lock is let go all the same
            os.unlink(self._name, dir_fd=self._folder)
        os.close(self._lock)
        os.close(self._folder)


def _make_directory(directory: Path) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigError(
            f"the runtime directory {directory} cannot be made: {error.strerror}; "
            "make it, or choose another with broker.runtime_dir"
        ) from error


def _locked(directory: Path, name: str, *, ours_alone: bool) -> _HeldLock:
    folder = _opened_directory(directory, ours_alone=ours_alone)
    try:
        return _HeldLock(folder, name, _locked_file(directory, folder, name))
    except BaseException:
        os.close(folder)
        raise


def _opened_directory(directory: Path, *, ours_alone: bool) -> int:
    """A descriptor of the directory, so that what was judged is what is used."""
    try:
        no_link = os.O_NOFOLLOW if ours_alone else 0
        folder = os.open(directory, _OPEN_DIRECTORY | no_link)
    except OSError as error:
        link = " (it may be no symbolic link)" if directory.is_symlink() else ""
        raise ConfigError(f"{directory} cannot be used: {error.strerror}{link}") from error
    try:
        _judge_directory(directory, os.fstat(folder), ours_alone=ours_alone)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _judge_directory(directory: Path, found: os.stat_result, *, ours_alone: bool) -> None:
    uid = os.geteuid()
    if found.st_uid != uid and (ours_alone or found.st_uid != 0):
        raise ConfigError(
            f"{directory} belongs to user {found.st_uid}, and this broker runs as user {uid}; "
            "run it as that user, or choose another directory"
        )
    sticky = bool(found.st_mode & stat.S_ISVTX) and not ours_alone
    if found.st_mode & _OTHERS_WRITE and not sticky:
        raise ConfigError(
            f"others can write to {directory} (mode {stat.S_IMODE(found.st_mode):04o}), so they "
            f"could take its sockets; chmod go-w {directory}, or choose another directory"
        )


def _locked_file(directory: Path, folder: int, name: str) -> int:
    for _ in range(_ATTEMPTS):
        lock = _opened_lock(directory, folder, name)
        try:
            _take(directory / name, lock)
            if _is_current(folder, name, lock):
                _sign(lock)
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
    raise ConfigError(f"{directory / name} does not stay in its place; something removes it")


def _opened_lock(directory: Path, folder: int, name: str) -> int:
    try:
        return os.open(name, _OPEN_LOCK, 0o600, dir_fd=folder)
    except OSError as error:
        raise ConfigError(
            f"the lock {directory / name} cannot be opened: {error.strerror}; "
            f"let this user write to {directory}, or choose another directory"
        ) from error


def _take(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise AlreadyRunning(
            f"another broker (process {holder}) runs in {path.parent}: it holds {path.name}"
        ) from None
    except OSError as error:
        raise ConfigError(f"the lock {path} cannot be locked: {error.strerror}") from error


def _is_current(folder: int, name: str, lock: int) -> bool:
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(lock))


def _sign(lock: int) -> None:
    with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
