"""What the bus stands on: versions that are not too old, and what is wrong with them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import zmq

import audit
from zbus.transport.library import FLOOR

ASKED = {"pyzmq": "27", "msgpack": "1.2.1", "msgspec": "0.20", "click": "8.1"}
INSTALLED = {"pyzmq": "27.3.0", "msgpack": "1.2.4", "msgspec": "0.22.0", "click": "8.1"}


def test_what_is_installed_here_is_fit() -> None:
    """The gate: every distribution that setup.cfg asks for is here, and none is too old."""
    asked = audit.requirements()
    assert list(audit.unfit(asked, audit.installed_of([*asked]))) == []
    assert set(audit.FLOORS) <= set(asked)


def test_the_floor_of_pyzmq_brings_the_libzmq_that_is_checked_at_start() -> None:
    """Whoever installs by setup.cfg gets one that ``check_library`` takes."""
    assert zmq.zmq_version_info() >= FLOOR


@pytest.mark.parametrize(
    ("name", "asked", "installed", "told"),
    [
        ("msgpack", "1.1", "1.2.4", "setup.cfg asks for msgpack 1.1"),
        ("msgpack", "1.2.1", "1.2.0", "msgpack 1.2.0 is installed"),
        ("msgpack", "1.2.1", "1.2", "msgpack 1.2 is installed"),
        ("pyzmq", "26.4", "27.3.0", "setup.cfg asks for pyzmq 26.4"),
        ("click", "8.1", "8.0.9rc1", "click 8.0.9rc1 is installed"),
        ("click", "8.1", "", "click is not installed"),
        ("pyzmq", "", "27.3.0", "setup.cfg asks for pyzmq not at all"),
    ],
)
def test_what_is_unfit_is_told(name: str, asked: str, installed: str, told: str) -> None:
    """Too low a floor, too old a version, and what is missing; and nothing else."""
    wanted = {key: value for key, value in (ASKED | {name: asked}).items() if value}
    here = {key: value for key, value in (INSTALLED | {name: installed}).items() if value}
    (line,) = audit.unfit(wanted, here)
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("one", "floor"), [("1.2", "1.2.1"), ("1.2.1", "1.10"), ("0.9.9", "1"), ("1.2.0rc1", "1.2.1")]
)
def test_versions_are_compared_as_numbers(one: str, floor: str) -> None:
    """Part by part, with as many zeros behind as it takes."""
    assert audit.below(one, floor)
    assert not audit.below(floor, one)
    assert not audit.below(one, one)
    assert not audit.below(f"{floor}.0", floor)


def report(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


CLEAN = {"name": "click", "version": "8.1", "vulns": []}
UNKNOWN = {"name": "rich", "version": "13.0", "skip_reason": "not found on PyPI"}
HOLED = {
    "name": "msgpack",
    "version": "1.2.0",
    "vulns": [{"id": "CVE-2026-57585", "fix_versions": ["1.2.1"]}],
}


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        (report(CLEAN), 0, "0 advisories for 1 "),
        (report(CLEAN, UNKNOWN), 0, "NOT ASKED: the service does not know 1: rich 13.0"),
        (report(CLEAN, HOLED), 1, "msgpack 1.2.0: CVE-2026-57585, fixed in 1.2.1"),
        ("", 0, "NOT ASKED"),
        ("Traceback: no route to host", 0, "NOT ASKED"),
        (None, 0, "NOT ASKED"),
    ],
)
def test_only_an_advisory_fails(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str | None,
    code: int,
    told: str,
) -> None:
    """A service that cannot be asked is said, in capitals, and does not stop whoever builds."""

    def run(command: list[str], **options: Any) -> Any:
        assert command[1:3] == ["-m", "pip_audit"]
        if output is None:
            raise subprocess.TimeoutExpired(command, 1.0)
        return subprocess.CompletedProcess(command, code, output, "")

    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main([]) == code
    said = capsys.readouterr().out
    assert told in said
    assert "floors hold" in said


def test_floors_alone_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even whether pip-audit is there."""
    monkeypatch.setattr(subprocess, "run", lambda *_arguments, **_options: pytest.fail("it asked"))
    assert audit.main(["--floors"]) == 0
