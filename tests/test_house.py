"""The house rules hold here, and each of them bites where it is broken."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import floors
import tidy
import zbus
from house import House, Rule
from zbus import errors

pytestmark = pytest.mark.pure

ROOT = Path(__file__).resolve().parent.parent

CLEAN = {
    "README.md": "Run tools/check. It runs tools/tidy.py.\n",
    "setup.cfg": "[options.entry_points]\nconsole_scripts =\n    zbus = zbus.cli.main:main\n",
    "tools/check": "#!/usr/bin/env bash\n",
    "tools/tidy.py": '"""Rules."""\n',
    "zbus/__init__.py": "",
    "zbus/errors.py": '"""Errors."""\n\n__all__ = ["Lost"]\n\n\nclass Lost(Exception): ...\n',
    "zbus/protocol/limits.py": '"""Limits."""\n\n__all__ = ["TEXT_MAX"]\n\nTEXT_MAX = 9\n',
    "zbus/protocol/codec.py": (
        '"""Frames."""\n\nfrom zbus.errors import Lost\nfrom zbus.protocol import limits\n\n'
        '__all__ = ["decode"]\n\n\ndef decode(): ...\n'
    ),
    "zbus/cli/main.py": (
        '"""The door."""\n\nfrom zbus.protocol.codec import decode\n\n'
        '__all__ = ["main"]\n\n\ndef main(): ...\n'
    ),
    "tests/test_errors.py": '"""Tests."""\n',
    "tests/test_protocol_limits.py": '"""Tests."""\n',
    "tests/test_protocol_codec.py": '"""Tests."""\n',
    "tests/test_cli_main.py": '"""Tests."""\n',
}
"""A small house that keeps every rule."""

ERRORS, LIMITS, CODEC, MAIN = (
    "zbus/errors.py",
    "zbus/protocol/limits.py",
    "zbus/protocol/codec.py",
    "zbus/cli/main.py",
)
EMPTY_ROOM = '"""A room."""\n\n__all__ = []\n'
# In halves, so that this file keeps the rules it tests.
OPEN_END = "# FIX" + "ME later\n"


@dataclass(frozen=True)
class Plant:
    """Files to put over the clean house; text that starts with ``+`` is added to what is there."""

    shows: str
    files: dict[str, str]
    rules: frozenset[Rule] = field(default=frozenset())


def broken(rule: Rule, shows: str, files: dict[str, str], *others: Rule) -> Plant:
    return Plant(shows, files, frozenset({rule, *others}))


def function(lines: int, docstring: str = "") -> str:
    body = "".join("    ...\n" for _ in range(lines - 1))
    return f"+\n\ndef _long():\n{docstring}{body}"


PLANTS = [
    broken(
        floors.imports_run_down,
        "an import that runs up",
        {LIMITS: "+from zbus.transport import port\n", "zbus/transport/port.py": EMPTY_ROOM},
    ),
    broken(
        floors.imports_run_down,
        "a room without a floor",
        {
            MAIN: "+from zbus.protocol import novel\n",
            "zbus/protocol/novel.py": EMPTY_ROOM,
            "tests/test_protocol_novel.py": '"""Tests."""\n',
        },
    ),
    broken(
        floors.imports_run_down,
        "an import that runs up inside a function, for types only",
        {LIMITS: "+\n\ndef _late():\n    from zbus.cli.main import main\n"},
        floors.no_circles,
    ),
    broken(
        floors.no_circles,
        "two rooms of one floor that import each other",
        {
            CODEC: "+import zbus.protocol.memory\n",
            "zbus/protocol/memory.py": EMPTY_ROOM + "import zbus.protocol.codec\n",
            "tests/test_protocol_memory.py": '"""Tests."""\n',
        },
    ),
    *(
        broken(floors.libraries_keep_to_their_rooms, f"{line} in {path}", {path: f"+{line}\n"})
        for path, line in [
            (LIMITS, "import time"),
            (LIMITS, "from time import monotonic"),
            (LIMITS, "import os.path"),
            (ERRORS, "import asyncio.queues as queues"),
            (CODEC, "from threading import Lock"),
            (CODEC, "import zmq"),
            (CODEC, "from rich.console import Console"),
            (MAIN, "import zmq"),
            (MAIN, "import msgspec"),
            (MAIN, "from random import choice"),
            (MAIN, "from hypothesis import given"),
            (MAIN, "import pickle"),
            ("zbus/testing/__init__.py", EMPTY_ROOM + "import zmq.asyncio"),
        ]
    ),
    broken(tidy.files_are_short, "a file of 401 lines", {MAIN: "+" + "#\n" * 393}),
    broken(
        tidy.files_are_short,
        "a test file of 601 lines",
        {"tests/test_errors.py": "+" + "#\n" * 600},
    ),
    broken(tidy.lines_are_short, "a line of 101 columns", {MAIN: "+#" + "x" * 100 + "\n"}),
    broken(tidy.lines_are_short, "a script's long line", {"tools/check": "+#" + "x" * 100}),
    broken(tidy.functions_are_short, "a function of 41 lines", {MAIN: function(41)}),
    broken(
        tidy.parameters_are_few,
        "seven parameters",
        {MAIN: "+\n\ndef _many(a, b, /, c, *d, e, f, **g): ...\n"},
    ),
    broken(tidy.files_open_with_a_sentence, "no docstring", {"tests/test_errors.py": "A = 1\n"}),
    broken(
        tidy.files_open_with_a_sentence,
        "a docstring whose first line is no sentence",
        {"tests/test_errors.py": '"""tests of the errors"""\n'},
    ),
    broken(
        tidy.tests_open_with_a_sentence,
        "a test that does not say what it shows",
        {"tests/test_errors.py": "+\n\ndef test_it(): ...\n"},
    ),
    *(
        broken(tidy.names_say_something, f"the name in {text!r}", {MAIN: f"+\n\n{text}\n"})
        for text in [
            "class _SessionManager: ...",
            "class _Base: ...",
            "class _HTTPService: ...",
            "def _send(msg): ...",
            "def _send(*, data=None): ...",
            "class _Peer:\n    def send(self, ctx): ...",
        ]
    ),
    broken(
        tidy.names_say_something,
        "a function called run",
        {MAIN: CLEAN[MAIN].replace("main", "run").replace("cli.run", "cli.main")},
    ),
    broken(
        tidy.names_say_something,
        "a file called utils",
        {
            MAIN: "+import zbus.cli.string_utils\n",
            "zbus/cli/string_utils.py": EMPTY_ROOM,
            "tests/test_cli_string_utils.py": "",
        },
    ),
    broken(tidy.nothing_is_left_over, "an open end in code", {MAIN: f"+{OPEN_END}"}),
    broken(tidy.nothing_is_left_over, "an open end in prose", {"README.md": f"+{OPEN_END}"}),
    broken(tidy.nothing_is_left_over, "a home", {"README.md": "+See /ho" + "me/ann/zbus.\n"}),
    broken(tidy.nothing_is_left_over, "scratch", {MAIN: '+_LOG = "/t' + 'mp/log"\n'}),
    broken(tidy.rooms_have_tests, "a room without a test file", {"tests/test_errors.py": "-"}),
    broken(
        tidy.exports_are_exact,
        "no __all__",
        {LIMITS: '"""Limits."""\n\nTEXT_MAX = 9\n'},
    ),
    broken(tidy.exports_are_exact, "a public name that is not listed", {LIMITS: "+MORE = 1\n"}),
    broken(
        tidy.exports_are_exact,
        "a listed name that is not there",
        {LIMITS: '"""Limits."""\n\n__all__ = ["TEXT_MAX"]\n'},
    ),
    broken(
        tidy.exports_are_exact,
        "names out of order",
        {LIMITS: '"""Limits."""\n\n__all__ = ["B", "A"]\n\nA: int = 1\nB = 2\n'},
    ),
    broken(
        tidy.nothing_is_dead,
        "a room that nobody but itself imports",
        {
            "zbus/protocol/memory.py": EMPTY_ROOM + "import zbus.protocol.memory\n",
            "tests/test_protocol_memory.py": "",
        },
    ),
    broken(
        tidy.nothing_is_dead, "a tool that only itself names", {"tools/old.py": '"""Run old."""\n'}
    ),
]

ALLOWED = [
    Plant("a test file of 600 lines", {"tests/test_errors.py": "+" + "#\n" * 599}),
    Plant(
        "a function of 40 lines and a docstring", {MAIN: function(40, '    """It\n\n    is."""\n')}
    ),
    Plant(
        "six parameters and self",
        {MAIN: "+\n\nclass _A:\n    def f(self, a, b, c, *, d, e, f): ..."},
    ),
    Plant("a prescribed name", {MAIN: "+\n\ndef _serve(fl_ctx, database, message): ...\n"}),
    Plant("a library with a longer name", {MAIN: "+import zmqueue, pickles, randomly\n"}),
    Plant("a long line of prose", {"README.md": "+" + "word " * 40 + "\n"}),
    Plant("the default runtime directory", {MAIN: '+_AT = "/tmp/zbus-1"\n'}),
    Plant("scratch in a test", {"tests/test_errors.py": '+AT = "/t' + 'mp/a"\n'}),
    Plant("a file that is being made", {"build/lib/zbus/old.py": OPEN_END, ".venv/x.py": "("}),
    Plant(
        "a room that is imported late, by its name",
        {
            MAIN: '+_LATE = {"ls": "zbus.cli.ls"}\n',
            "zbus/cli/ls.py": EMPTY_ROOM,
            "tests/test_cli_ls.py": "",
        },
    ),
    Plant(
        "a type variable, which is not an export",
        {LIMITS: '+from typing import TypeVar\n\nT = TypeVar("T")\n'},
    ),
]


def build(root: Path, plant: Plant) -> House:
    for path, text in {**CLEAN, **plant.files}.items():
        if text == "-":
            continue
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(CLEAN.get(path, "") + text[1:] if text.startswith("+") else text)
    return House(root)


def shown(plant: Plant) -> str:
    return plant.shows


def test_this_house_keeps_its_rules() -> None:
    """Nothing in this checkout breaks a rule."""
    assert [str(finding) for finding in tidy.findings(House(ROOT))] == []


@pytest.mark.parametrize("plant", PLANTS, ids=shown)
def test_each_violation_is_found_by_its_rule_alone(tmp_path: Path, plant: Plant) -> None:
    """A planted violation is found by the rule it breaks, and no other rule minds."""
    house = build(tmp_path, plant)
    assert {rule for rule in tidy.RULES if list(rule(house))} == plant.rules


@pytest.mark.parametrize("plant", [Plant("nothing", {}), *ALLOWED], ids=shown)
def test_what_is_allowed_is_not_found(tmp_path: Path, plant: Plant) -> None:
    """The neighbours of each violation pass."""
    assert tidy.findings(build(tmp_path, plant)) == []


def test_every_rule_has_a_plant() -> None:
    """No rule stands untested."""
    assert set(tidy.RULES) == {rule for plant in PLANTS for rule in plant.rules}


def test_the_program_prints_places_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finding is a line that an editor can follow, and the exit code is 1; else it is 0."""
    build(tmp_path, Plant("", {MAIN: f"+{OPEN_END}"}))
    assert tidy.main([str(tmp_path)]) == 1
    assert "zbus/cli/main.py:9: leftover: FIX" in capsys.readouterr().out
    build(tmp_path, Plant("", {}))
    assert tidy.main([str(tmp_path)]) == 0
    assert "0 findings; 4 rooms, 2 functions of 1 lines" in capsys.readouterr().out


def test_the_machines_load_nothing_from_outside() -> None:
    """Importing both machines loads no socket, thread, task, log, randomness or extra."""
    program = (
        "import sys, types\n"
        "sys.modules['zbus'] = face = types.ModuleType('zbus')\n"
        "face.__path__ = [sys.argv[1]]\n"
        "before = set(sys.modules)\n"
        "import zbus.protocol.broker, zbus.protocol.session\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})\n"
    )
    printed = subprocess.run(
        [sys.executable, "-I", "-c", program, ROOT / "zbus"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(printed.stdout.split())
    assert "msgspec" in loaded, "the machines were imported"
    outside = {"asyncio", "logging", "random", "selectors", "socket", "subprocess", "threading"}
    extras = {"click", "hypothesis", "msgpack", "numpy", "rich", "sklearn", "zmq"}
    assert loaded & (outside | extras) == set()


def test_the_face_names_each_public_thing_once() -> None:
    """``zbus.__all__`` is sorted, and each of its names is there."""
    assert zbus.__all__ == sorted(set(zbus.__all__), key=tidy.export_order)
    for name in zbus.__all__:
        assert getattr(zbus, name) is not None


def test_every_error_is_public() -> None:
    """What a caller of the blocking face may have to catch can be caught as ``zbus.Name``; what
    only an operator's command or a broken peer meets stays in ``zbus.errors``."""
    tree = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    rare = {
        "AlreadyRunning",
        "ChildFailed",
        "ComponentError",
        "ComponentNotAuthorized",
        "ConfigError",
        "DuplicateTopic",
        "InternalError",
        "InvalidName",
        "InvalidTimeout",
        "Malformed",
        "ProtocolError",
        "RefusedError",
        "TargetError",
        "UnfitLibrary",
        "VersionMismatch",
    }
    assert rare <= tree
    assert tree - rare <= set(zbus.__all__)


def test_setup_cfg_and_pyproject_share_no_fact() -> None:
    """One says what the package is, the other how it is built and checked."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert all(re.match(r"metadata$|options\b", name) for name in setup.sections())
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(pyproject) == {"build-system", "tool"}
    assert "setuptools" not in pyproject["tool"]


@pytest.mark.parametrize("script", [".ci/run", "tools/check", "tools/demo", "tools/venv.sh"])
def test_scripts_are_valid(script: str) -> None:
    """Each script parses, and those that a person starts can be started."""
    subprocess.run(["bash", "-n", ROOT / script], check=True, timeout=60)
    assert script.endswith(".sh") or os.access(ROOT / script, os.X_OK)


def test_check_says_how_it_is_used() -> None:
    """A word that ``tools/check`` does not know prints its usage, and nothing is run."""
    asked = subprocess.run(
        [ROOT / "tools" / "check", "--help"], capture_output=True, text=True, timeout=60
    )
    assert asked.returncode == 2
    assert "tools/check fast " in asked.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    """The wheel has every file of the package and no other, and works without the checkout."""
    site = tmp_path / "site"
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
        wheel.extractall(site)
    assert packed == package_files()
    asked = subprocess.run(
        [sys.executable, "-c", "import zbus.errors; print(zbus.errors.__file__)"],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert Path(asked.stdout.strip()).is_relative_to(site)


def build_wheel(folder: Path) -> Path:
    """Built from a copy, because a build leaves files beside its sources."""
    built_by = "setup.cfg setup.py pyproject.toml MANIFEST.in README.md LICENSE tools/backend.py"
    for path in [*built_by.split(), *package_files()]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes((ROOT / path).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder / "made", folder], check=True, timeout=240)
    (wheel,) = (folder / "made").iterdir()
    return wheel


def package_files() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "zbus").rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".pyo"}
    }
