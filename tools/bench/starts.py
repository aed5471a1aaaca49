"""How long it takes to start (W10): an import, a broker, a whole command."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actor import BenchFailed, python_environment

__all__ = ["started"]

_FACE = "import zbus; zbus.connect, zbus.serve, zbus.Dispatcher"
_WAIT_S = 30.0


def started() -> dict[str, float]:
    """The figures of one round."""
    with tempfile.TemporaryDirectory(prefix="zb") as place:
        environment = python_environment() | {"ZBUS_RUNTIME_DIR": place}
        import_s = _cpu_of(["-c", _FACE], environment) - _cpu_of(["-c", "pass"], environment)
        began = time.perf_counter()
        with _running(["broker"], environment):
            ready_s = time.perf_counter() - began
            with _running(["serve", "echo", "--echo"], environment):
                began = time.perf_counter()
                _cpu_of(["-m", "zbus", "req", "echo", "hi"], environment)
                req_s = time.perf_counter() - began
    figures = {"import_cpu_ms": import_s, "broker_ready_ms": ready_s, "req_ms": req_s}
    return {name: seconds * 1_000 for name, seconds in figures.items()}


def _cpu_of(words: list[str], environment: dict[str, str]) -> float:
    """Processor seconds of a Python process from start to end."""
    process = subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchFailed(f"exit code {process.returncode}: {' '.join(words)}")
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _running(words: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A command, from the line with which it says that it is ready."""
    command = [sys.executable, "-m", "zbus", *words]
    log = Path(environment["ZBUS_RUNTIME_DIR"], "log")
    with log.open("ab") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(_WAIT_S) or not os.read(process.stdout.fileno(), 1_024):
                raise BenchFailed(f"never ready: {' '.join(command)}\n{log.read_text('utf-8')}")
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
