"""Plants each fault of ``tests/planted`` in a copy of the package, and says which survive.

    python tools/mutants.py                     each against the test files that it names
    python tools/mutants.py --only broker       those whose name or file holds this
    python tools/mutants.py tests/test_x.py     each against this selection instead
    python tools/mutants.py --list              the names, and what each would break

Rules of this room:

* Nothing here changes the checkout: a mutant lives in a temporary copy.
* The tests must pass on an unchanged copy first, else a kill would mean nothing.
* A run that hangs is a kill, for a test that hangs fails. A run that cannot even begin is none.

Exits with 1 if a mutant survives, is out of date, or breaks the import of what it changes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from planted import MUTANTS, Mutant  # noqa: E402

_COPIED = ("zbus", "tests", "tools", "pyproject.toml")
_BOUND_S = 60.0
_LEFT_OUT = shutil.ignore_patterns(".hypothesis", ".pytest_cache", "vectors.json")
_FAILED = 1
"""What pytest exits with when tests failed."""


def out_of_date(mutant: Mutant, root: Path = ROOT) -> str:
    """Why it cannot be planted, or nothing."""
    path = root / "zbus" / mutant.file
    if not path.is_file():
        return f"there is no zbus/{mutant.file}"
    found = path.read_text("utf-8").count(mutant.old)
    if found != 1:
        return f"its text stands {found} times in zbus/{mutant.file}"
    missing = [killer for killer in mutant.killers if not (root / "tests" / killer).is_file()]
    return f"there is no tests/{missing[0]}" if missing else ""


def plant(mutant: Mutant, root: Path) -> None:
    """Put it into the package below ``root``."""
    path = root / "zbus" / mutant.file
    path.write_text(path.read_text("utf-8").replace(mutant.old, mutant.new), "utf-8")


def verdict(mutant: Mutant | None, selection: Sequence[str]) -> tuple[str, str]:
    """``killed``, ``survived`` or ``broken``, and the end of what was printed."""
    with tempfile.TemporaryDirectory(prefix="zbus-mutant-") as folder:
        root = Path(folder)
        _copy(root)
        if mutant is not None:
            plant(mutant, root)
        return _judge(root, selection)


def _copy(root: Path) -> None:
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=_LEFT_OUT)
        else:
            shutil.copy2(source, root / name)


def _judge(root: Path, selection: Sequence[str]) -> tuple[str, str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *selection]
    settings = {"HYPOTHESIS_PROFILE": "ci", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BOUND_S,
        )
    except subprocess.TimeoutExpired:
        return "killed", "it hangs"
    lines = run.stdout.strip().splitlines()
    if run.returncode == _FAILED:
        failed = [line for line in lines if line.startswith("FAILED")]
        return "killed", failed[0].removeprefix("FAILED ") if failed else lines[-1]
    return ("broken" if run.returncode else "survived"), "\n".join(lines[-15:])


def chosen(words: Iterable[str]) -> list[Mutant]:
    """The mutants whose name or file holds one of the words; all of them for none."""
    words = list(words)
    return [
        mutant
        for mutant in MUTANTS
        if not words or any(word in f"{mutant.name} {mutant.file}" for word in words)
    ]


def hunt(mutants: Sequence[Mutant], selection: Sequence[str]) -> int:
    """Plant them all, two at a time; how many were not killed."""
    stale = {mutant.name: why for mutant in mutants if (why := out_of_date(mutant))}
    for name, why in stale.items():
        print(f"out of date  {name}: {why}")
    living = [mutant for mutant in mutants if mutant.name not in stale]
    killers = sorted({killer for mutant in living for killer in _tests(mutant, selection)})
    fate, why = verdict(None, killers)
    if fate != "survived":
        print(f"The tests fail without any fault planted:\n{why}")
        return len(mutants)
    missed = len(stale)
    with ThreadPoolExecutor(max_workers=2) as pool:
        fates = pool.map(lambda mutant: verdict(mutant, _tests(mutant, selection)), living)
        for mutant, (fate, why) in zip(living, fates, strict=True):
            missed += fate != "killed"
            print(f"{fate:<12} {mutant.name} [{mutant.file}]: {why}", flush=True)
            if fate != "killed":
                print(f"             would break {mutant.why}", flush=True)
    return missed


def _tests(mutant: Mutant, selection: Sequence[str]) -> list[str]:
    return list(selection) or [f"tests/{killer}" for killer in mutant.killers]


def main(arguments: list[str]) -> int:
    """See above."""
    parser = argparse.ArgumentParser(description="Plants faults; every one must be noticed.")
    parser.add_argument("selection", nargs="*", help="test files to run instead of its own")
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    options = parser.parse_args(arguments)
    mutants = chosen(options.only)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name} [{mutant.file}]: {mutant.why}")
        return 0
    began = time.monotonic()
    missed = hunt(mutants, options.selection)
    seconds = time.monotonic() - began
    print(f"{len(mutants) - missed} of {len(mutants)} planted faults were noticed, {seconds:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
