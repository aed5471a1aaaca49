"""The plugin costs pytest nothing, and its fixtures are a bus and a broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import zbus

dispatcher = zbus.Dispatcher()
dispatcher.add("echo", lambda body: body)


def test_simulated(zbus_bus):
    zbus_bus.server(dispatcher)
    assert zbus_bus.engine("e1").request("echo", 1, timeout=2.0) == 1
    print("seed", zbus_bus.seed)


def test_broken(zbus_bus):
    zbus_bus.server(dispatcher)
    zbus_bus.engine("e1").request("echo", 1, timeout=2.0)
    for asked in zbus_bus.history.requests.values():
        asked.ends = 2


def test_real(zbus_broker):
    server = zbus.connect(zbus_broker.backend, dispatcher=dispatcher, role="server")
    with server, zbus.connect(zbus_broker.frontend) as bus:
        assert bus.request("echo", 1, timeout=10.0) == 1
"""


def run_pytest(directory: Path, *arguments: str) -> str:
    """The output of pytest on those tests, with the plugin and nothing of this project's."""
    (directory / "test_example.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "zbus.testing.plugin", "-rA", "--no-header"]
    ended = subprocess.run(
        [*command, "-p", "no:cacheprovider", "test_example.py", *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout + ended.stderr


@pytest.mark.real
def test_the_fixtures_give_a_simulated_bus_and_a_real_broker(tmp_path: Path) -> None:
    """What is broken on the simulated bus fails its test, with the command that repeats it."""
    output = run_pytest(tmp_path)
    assert "PASSED test_example.py::test_simulated" in output
    assert "PASSED test_example.py::test_real" in output
    assert "P1: [e1.1 #1" in output
    assert "replay: pytest test_example.py::test_broken --zbus-seed " in output


@pytest.mark.real
def test_the_seed_follows_from_the_name_or_is_given(tmp_path: Path) -> None:
    """So that a run repeats, and a failure can be shown again."""

    def seed(*arguments: str) -> str:
        lines = run_pytest(tmp_path, "-k", "simulated", *arguments).splitlines()
        return next(line for line in lines if line.startswith("seed "))

    assert seed() == seed() != "seed 7"
    assert seed("--zbus-seed", "7") == "seed 7"


def test_importing_it_imports_nothing_heavy() -> None:
    """pytest loads it in every project that has zbus installed."""
    script = "import sys, zbus.testing.plugin; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(ended.stdout.split())
    assert "zbus.testing.plugin" in loaded
    assert not loaded & {"zmq", "msgspec", "msgpack", "hypothesis", "numpy", "asyncio", "click"}
    ours = {name for name in loaded if name.startswith("zbus")}
    assert ours <= {"zbus", "zbus.testing", "zbus.testing.plugin"}
