"""The house rules as a program: what CONTRIBUTING.md asks of the code, checked.

Rules of this room:

* What cannot be checked here is no house rule. Every limit stands below, with no second copy
  anywhere; ``tests/test_house.py`` plants a violation of each rule.
* A rule is a function that takes the ``House`` and yields ``Finding``s.
* ``python tools/tidy.py [ROOT]`` prints ``file:line: rule: text`` lines and exits with 1 if it
  found anything.
"""

from __future__ import annotations

import ast
import configparser
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from floors import imports_run_down, libraries_keep_to_their_rooms, no_circles
from house import Finding, Function, House, Rule, Source

FILE_LINES_MAX = 400
TEST_LINES_MAX = 600
FUNCTION_LINES_MAX = 40
PARAMETERS_MAX = 6
COLUMNS_MAX = 100

EMPTY_WORDS = frozenset(
    "util utils helper helpers common base core manager service data info payload msg ctx"
    " obj".split()
)
"""No part of a file's or a class's name, and not the name of a parameter or a function."""
EMPTY_ALONE = frozenset({"handle", "process", "do", "run"})
"""These say nothing when they are the whole name."""
IMPOSED = frozenset({"send_aux_request"})
"""Functions whose parameters another project's interface says, by keyword (contract 2.4)."""
NAMED_ANYWAY = frozenset(
    {
        "zbus/engine/component.py:data",
        "zbus/engine/component.py:msg",
        "zbus/engine/context.py:FLContextManager",
        "zbus/engine/context.py:ctx",
        "zbus/engine/events.py:ctx",
        "zbus/engine/shareable.py:data",
        "zbus/engine/task.py:data",
        "zbus/testing/__init__.py:run",
        "zbus/testing/bus.py:run",
    }
)
"""Among them what another project's interface calls so (contract 2.4)."""

# Written so that they do not find themselves.
LEFTOVER = re.compile(r"\b(?:FIX[M]E|TO[D]O|X[X]X|HA[C]K)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:(?:work|root|home)/\w|(?P<scratch>tmp/)(?!zbus))")

UNTESTED = {
    "zbus.__main__": "it only calls the command line, whose tests run it",
    "zbus.demo.events": "values without behaviour, which the story's tests compare",
    "zbus.protocol.effect": "values without behaviour, which the machines' tests compare",
    "zbus.transport.port": "an interface; test_ports.py holds both implementations to it",
}
"""Rooms without a test file of their own, each with the reason. The ``__init__`` of a package
only names what stands elsewhere; ``test_house.py`` covers the names."""


# -- sizes ---------------------------------------------------------------------------------


def files_are_short(house: House) -> Iterator[Finding]:
    """A file that grows past the limit holds two rooms; a room's tests may be longer than it."""
    for source in house.sources:
        lines = len(source.text.splitlines())
        if lines > (TEST_LINES_MAX if source.is_test else FILE_LINES_MAX):
            yield Finding(source.path, 1, "file-size", f"{lines} lines")


def lines_are_short(house: House) -> Iterator[Finding]:
    """Prose and golden files may run on; whatever is executed may not."""
    for path, text in house.texts.items():
        if path.endswith((".md", ".json")):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > COLUMNS_MAX:
                yield Finding(path, number, "line-length", f"{len(line)} columns")


def functions_are_short(house: House) -> Iterator[Finding]:
    """The docstring does not count."""
    for source in house.sources:
        for function in source.functions:
            lines = function_lines(function)
            if lines > FUNCTION_LINES_MAX:
                text = f"{function.name} has {lines} lines"
                yield Finding(source.path, function.lineno, "function-size", text)


def parameters_are_few(house: House) -> Iterator[Finding]:
    """``self`` and ``cls`` do not count; more options go into a frozen dataclass."""
    for source in house.sources:
        for function in source.functions:
            count = len(_parameters(function))
            if count > PARAMETERS_MAX and function.name not in IMPOSED:
                text = f"{function.name} takes {count} parameters"
                yield Finding(source.path, function.lineno, "parameters", text)


def function_lines(function: Function) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def _parameters(function: Function) -> list[str]:
    args = function.args
    every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [arg.arg for arg in every if arg and arg.arg not in {"self", "cls"}]


# -- words ---------------------------------------------------------------------------------


def files_open_with_a_sentence(house: House) -> Iterator[Finding]:
    """The first line of a file's docstring says what the file is."""
    for source in house.sources:
        first = (ast.get_docstring(source.tree) or "").partition("\n")[0]
        if not source.is_empty and not re.fullmatch(r"[^a-z\W].*[.?:]|`.*[.?:]", first):
            yield Finding(source.path, 1, "docstring", "the file does not open with a sentence")


def tests_open_with_a_sentence(house: House) -> Iterator[Finding]:
    """The docstring of a test is the property that it shows."""
    for source in house.sources:
        for function in source.functions if source.is_test else ():
            if function.name.startswith("test_") and not ast.get_docstring(function):
                text = f"{function.name} does not say what it shows"
                yield Finding(source.path, function.lineno, "docstring", text)


def names_say_something(house: House) -> Iterator[Finding]:
    """Tests may name parameters and inner functions as their libraries do."""
    for source in house.sources:
        for line, kind, name in _names(source):
            words = _words(name) if kind in {"file", "class"} else {name}
            empty = words & EMPTY_WORDS | {name.lower()} & EMPTY_ALONE
            if empty and f"{source.path}:{name}" not in NAMED_ANYWAY:
                text = f"{kind} {name!r} says nothing: {', '.join(sorted(empty))}"
                yield Finding(source.path, line, "name", text)


def _names(source: Source) -> Iterator[tuple[int, str, str]]:
    yield 1, "file", Path(source.path).stem
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, "class", node.name
    if source.is_test:
        return
    for function in source.functions:
        yield from ((function.lineno, "parameter", name) for name in _parameters(function))
    for statement in source.tree.body:
        if isinstance(statement, Function):
            yield statement.lineno, "function", statement.name


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def nothing_is_left_over(house: House) -> Iterator[Finding]:
    """What is not done stands in an issue, and no path of one machine stands anywhere."""
    for path, text in house.texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if match := LEFTOVER.search(line):
                yield Finding(path, number, "leftover", match[0])
            match = MACHINE_PATH.search(line)
            if match and not (path.startswith("tests/") and match["scratch"]):
                yield Finding(path, number, "machine-path", line.strip())


# -- what belongs together -----------------------------------------------------------------


def rooms_have_tests(house: House) -> Iterator[Finding]:
    """``zbus/peer/pool.py`` has ``tests/test_peer_pool.py``."""
    for module, source in house.rooms.items():
        if source.is_package or module in UNTESTED:
            continue
        test = f"tests/test_{module.removeprefix('zbus.').replace('.', '_')}.py"
        if test not in house.texts:
            yield Finding(source.path, 1, "test-file", f"{test} is missing")


def exports_are_exact(house: House) -> Iterator[Finding]:
    """``__all__`` is there, sorted, and names what is public: no more and no less."""
    for module, source in house.rooms.items():
        if module == "zbus.__main__":
            continue
        line, exported = _exported(source.tree)
        if exported is None:
            yield Finding(source.path, 1, "exports", "__all__ is missing")
            continue
        if exported != sorted(set(exported), key=export_order):
            yield Finding(source.path, line, "exports", "__all__ is not sorted")
        defined = exported if source.is_package else list(_defined(source.tree.body))
        for name in sorted(set(defined) - set(exported)):
            yield Finding(source.path, line, "exports", f"{name} is public but not in __all__")
        for name in sorted(set(exported) - set(defined)):
            yield Finding(source.path, line, "exports", f"{name} is in __all__ but not defined")


def _exported(tree: ast.Module) -> tuple[int, list[str] | None]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return node.lineno, list(ast.literal_eval(node.value))
    return 1, None


def export_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that ruff's RUF022 keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef | Function):
            names = [node.name]
        elif isinstance(node, ast.Assign) and not _is_type_variable(node.value):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        elif isinstance(node, ast.If | ast.Try):
            yield from _defined(node.body)
        yield from (name for name in names if not name.startswith("_"))


def _is_type_variable(value: ast.expr) -> bool:
    makers = {"TypeVar", "ParamSpec"}
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and (value.func.id in makers)
    )


def nothing_is_dead(house: House) -> Iterator[Finding]:
    """Every room is imported or named by another, or is a door; every tool is named somewhere."""
    used = _doors(house.root)
    for source in house.rooms.values():
        used.update(name for _, name in house.imports(source) if name != source.module)
        used.update(_strings(source.tree))
    for module, source in house.rooms.items():
        if not source.is_package and module not in used:
            yield Finding(source.path, 1, "dead", "no room imports it and it is no door")
    for path in house.texts:
        if path.startswith("tools/") and not _is_named(house, path):
            yield Finding(path, 1, "dead", "nothing names this tool")


def _doors(root: Path) -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg", "utf-8")
    points = setup["options.entry_points"].values()
    return {"zbus.__main__", *re.findall(r"= *([\w.]+)", "\n".join(points))}


def _strings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _is_named(house: House, path: str) -> bool:
    word = re.compile(rf"\b{re.escape(Path(path).stem)}\b")
    return any(word.search(text) for other, text in house.texts.items() if other != path)


RULES: tuple[Rule, ...] = (
    imports_run_down,
    no_circles,
    libraries_keep_to_their_rooms,
    files_are_short,
    lines_are_short,
    functions_are_short,
    parameters_are_few,
    files_open_with_a_sentence,
    tests_open_with_a_sentence,
    names_say_something,
    nothing_is_left_over,
    rooms_have_tests,
    exports_are_exact,
    nothing_is_dead,
)


def findings(house: House) -> list[Finding]:
    """Everything that breaks a rule, in the order of files and lines."""
    return sorted(finding for rule in RULES for finding in rule(house))


def summary(house: House) -> str:
    """How many rooms there are, and how long their functions are."""
    rooms = house.rooms.values()
    lengths = sorted(function_lines(node) for source in rooms for node in source.functions)
    if not lengths:
        return "no functions"
    return (
        f"{len(rooms)} rooms, {len(lengths)} functions of {statistics.median(lengths):g} lines at"
        f" the median, {lengths[len(lengths) * 9 // 10]} at p90, {lengths[-1]} at most"
    )


def main(arguments: list[str]) -> int:
    """Judge a checkout, this one where none is named; 1 if anything was found."""
    house = House(Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve())
    found = findings(house)
    for finding in found:
        print(finding)
    print(f"tidy: {len(found)} findings; {summary(house)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
