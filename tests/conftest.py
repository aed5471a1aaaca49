"""What every test gets: Hypothesis profiles, a bound on its time, and a short runtime directory.

Rules of this room:

* A test that hangs fails by itself, with the stacks of all threads, and the others go on.
* ``HYPOTHESIS_PROFILE`` chooses how hard the properties are tried: ``dev`` (the default) finds
  new examples each time, ``ci`` tries the same ones each time, ``nightly`` tries many.
* ``ZBUS_`` settings of the person who runs the tests change no test.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings
from processes.cluster import Cluster

TEST_S = 120
"""How long a test may take, and its fixtures each."""
SLOW_TEST_S = 300
"""How long a test marked ``slow`` may take."""

NVFLARE_PYTHON = os.environ.get("ZBUS_NVFLARE_PYTHON", "")
"""An interpreter that has nvflare, for the tests that compare with it."""

for variable in [name for name in os.environ if name.startswith("ZBUS_")]:
    del os.environ[variable]

# No deadline for a single example: a shared machine may pause for longer than any of them. The
# bound on the whole test stands instead. CI repeats the same examples, so that a red run is the
# change's fault and not the dice's.
settings.register_profile(
    "dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", settings.get_profile("dev"), derandomize=True, database=None, print_blob=True
)
settings.register_profile(
    "nightly",
    settings.get_profile("dev"),
    max_examples=2_000,
    stateful_step_count=100,
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


class TookTooLong(BaseException):
    """No ``Exception``, so that neither the code under test nor Hypothesis holds it up."""


@contextmanager
def bounded(item: pytest.Item) -> Iterator[None]:
    """Raise in the main thread when the time of the test is up."""
    bound_s = SLOW_TEST_S if item.get_closest_marker("slow") else TEST_S

    def give_up(_number: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        raise TookTooLong(f"{item.nodeid} took more than {bound_s} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, bound_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with bounded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with bounded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with bounded(item):
        return (yield)


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A directory of our own, short enough for an ipc path (107 bytes), unlike ``tmp_path``."""
    path = Path(tempfile.mkdtemp(prefix="zbus-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def endpoint(runtime_dir: Path) -> str:
    """An ipc address that nobody else uses."""
    return f"ipc://{runtime_dir}/frontend"


@pytest.fixture
def cluster(runtime_dir: Path) -> Iterator[Cluster]:
    """Real processes below a short path."""
    with Cluster(runtime_dir) as made:
        yield made
