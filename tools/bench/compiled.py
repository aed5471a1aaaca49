"""The bench measures zbus compiled, as a release is: here is the copy of the checkout where it is.

Rules: the copy is compiled anew where a source has changed; what the bench installs and writes is
the checkout's own; where nothing can be compiled that is told, and no pure figure stands for one
that is compiled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from actor import BenchFailed

__all__ = ["enter"]

_ROOT = Path(__file__).resolve().parents[2]
_TREE = _ROOT / "build" / "bench"
_FILES = ("setup.py", "setup.cfg", "pyproject.toml")


def enter(words: list[str]) -> NoReturn:
    """Become the bench of the compiled copy.

    Raises:
        BenchFailed: the rooms could not be compiled.
    """
    stamp = _stamp()
    if not _is_made(stamp):
        print("bench: compiling zbus into build/bench (once; a minute)", file=sys.stderr)
        _make()
        (_TREE / "stamp").write_text(stamp, "utf-8")
    shutil.copytree(_ROOT / "tools", _TREE / "tools", dirs_exist_ok=True)
    bench = str(_TREE / "tools" / "bench")
    os.execv(sys.executable, [sys.executable, bench, "--as-it-is", *words])


def _stamp() -> str:
    sources = [_ROOT / name for name in _FILES] + sorted((_ROOT / "zbus").rglob("*.py"))
    found = hashlib.sha256(sys.version.encode())
    for source in sources:
        found.update(source.read_bytes())
    return found.hexdigest()


def _is_made(stamp: str) -> bool:
    path = _TREE / "stamp"
    return path.exists() and path.read_text("utf-8") == stamp


def _make() -> None:
    command = ["bash", str(_ROOT / "tools" / "compile"), str(_TREE)]
    environ = os.environ | {"PYTHON": sys.executable}
    made = subprocess.run(command, env=environ, capture_output=True, text=True)
    if made.returncode:
        why = (made.stderr or made.stdout).strip().splitlines()[-1:]
        raise BenchFailed(f"the rooms could not be compiled: {why}; --as-it-is measures the source")
    (_ROOT / ".venv-bench").mkdir(exist_ok=True)
    for name in ("docs", ".venv-bench"):
        (_TREE / name).symlink_to(_ROOT / name)
