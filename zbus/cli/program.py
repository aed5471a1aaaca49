"""A program as a handler: started for each request, its standard output is the reply.

Rules of this room:

* The program reads the body from standard input: text and bytes as they are, None as nothing,
  anything else as JSON. Its output is the reply: text without its last line end, or bytes if it
  is no UTF-8.
* It is given the time that the request has left, a push ``PUSH_MAX_S``; when that is up, or the
  caller gives up, its whole process group is killed. Nothing of it outlives its request.
* Another exit code than 0 is an error, which quotes the last line of its standard error; all of
  that goes to ours, too.
* The group is killed before its leader is waited for: until then its number is not another's.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO, Any

from zbus.cli.values import plain
from zbus.peer.dispatcher import Incoming

__all__ = ["OUTPUT_MAX_BYTES", "PUSH_MAX_S", "Program", "ProgramFailed"]

PUSH_MAX_S = 30.0
OUTPUT_MAX_BYTES = 67_108_864
_CHUNK_BYTES = 65_536
_PIPE_CHUNKS = 16
"""A pipe holds at most a mebibyte."""
_TAIL_BYTES = 1_024
_LOOK_S = 0.1
"""How often to look whether the caller has given up."""


class ProgramFailed(Exception):
    """The program could not be started, was killed, or says by its exit code that it failed."""


class Program:
    """A handler that runs a program. Its words are not given to a shell."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)

    def __call__(self, body: Any, request: Incoming) -> str | bytes:
        """The reply of one run."""
        limit_s = PUSH_MAX_S if request.is_push else request.remaining()
        until = time.monotonic() + limit_s
        child = self._started()
        try:
            run = _Run(child, _input_of(body))
            run.finish(until, request)
        except ProgramFailed as error:
            raise ProgramFailed(f"{shlex.join(self.words)} {error}") from None
        finally:
            code = _ended(child)
        if code:
            raise ProgramFailed(f"{shlex.join(self.words)} {_how(code)}{run.last_words}")
        return _text_of(bytes(run.output))

    def _started(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                self.words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as error:
            raise ProgramFailed(f"cannot start {self.words[0]}: {error.strerror}") from None


class _Run:
    """Feeds a program and reads it, until it exits."""

    def __init__(self, child: subprocess.Popen[bytes], body: bytes) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self.output = bytearray()
        self._tail = bytearray()
        self._rest = memoryview(body)
        self._child = child
        self._stdin, self._stdout, self._stderr = child.stdin, child.stdout, child.stderr

    def finish(self, until: float, request: Incoming) -> None:
        """Go on until the program has exited; ``ProgramFailed`` if it may not go on."""
        exited = os.pidfd_open(self._child.pid)
        with contextlib.closing(selectors.DefaultSelector()) as selector:
            try:
                self._register(selector, exited)
                while not self._step(selector, exited):
                    if time.monotonic() >= until:
                        raise ProgramFailed("took too long and was killed")
                    if request.cancelled:
                        raise ProgramFailed("was killed, for nobody waits for it any more")
            finally:
                os.close(exited)

    @property
    def last_words(self) -> str:
        """The last line of its standard error, as the end of a sentence."""
        lines = self._tail.decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f": {said[-1]}" if said else ""

    def _register(self, selector: selectors.BaseSelector, exited: int) -> None:
        for stream in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(stream.fileno(), False)
        selector.register(exited, selectors.EVENT_READ)
        selector.register(self._stdin, selectors.EVENT_WRITE)
        selector.register(self._stdout, selectors.EVENT_READ)
        selector.register(self._stderr, selectors.EVENT_READ)

    def _step(self, selector: selectors.BaseSelector, exited: int) -> bool:
        """Move what can be moved; whether the program has exited, and all it said is read."""
        ready = [key.fileobj for key, _ in selector.select(_LOOK_S)]
        if exited in ready:
            _kill_group(self._child)
            for stream in (self._stdout, self._stderr):
                self._read_the_last(stream)
            return True
        for stream in (self._stdout, self._stderr):
            if stream in ready and self._read(stream) == b"":
                selector.unregister(stream)
        if self._stdin in ready and not self._write():
            selector.unregister(self._stdin)
            self._stdin.close()
        return False

    def _read_the_last(self, stream: IO[bytes]) -> None:
        """What is in the pipe, and no more, should somebody still hold its other end."""
        for _ in range(_PIPE_CHUNKS):
            if not self._read(stream):
                return

    def _read(self, stream: IO[bytes]) -> bytes | None:
        """Take what is there: empty at the end, None where there is nothing yet."""
        try:
            chunk = os.read(stream.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return None
        if stream is self._stderr:
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
            with contextlib.suppress(OSError):
                os.write(2, chunk)
        elif len(self.output) + len(chunk) > OUTPUT_MAX_BYTES:
            raise ProgramFailed(f"wrote more than {OUTPUT_MAX_BYTES} bytes and was killed")
        else:
            self.output += chunk
        return chunk

    def _write(self) -> bool:
        """Give it more of the body; False once it has all, or wants no more."""
        try:
            self._rest = self._rest[os.write(self._stdin.fileno(), self._rest) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self._rest)


def _ended(child: subprocess.Popen[bytes]) -> int:
    """End whatever is left of the program; its exit code."""
    _kill_group(child)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    return child.wait()


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"


def _input_of(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return (body if isinstance(body, str) else json.dumps(plain(body))).encode()


def _text_of(output: bytes) -> str | bytes:
    try:
        return output.decode().removesuffix("\n")
    except UnicodeDecodeError:
        return output
