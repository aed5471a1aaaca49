"""The checkout as the house rules see it: its texts, its syntax trees, who imports whom.

Rules of this room:

* It reads; it judges nothing. The rules stand in ``floors.py`` and ``tidy.py``.
* Sources are parsed and never imported, so that a broken room can still be judged.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

ENDINGS = frozenset(
    ".py .pyi .md .toml .cfg .json .sh .service .socket .in .conf .yml .yaml .txt".split()
)
"""A file with one of these, or one that opens with ``#!``, is text that the rules read."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One violation."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file: its path below the root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name, as an import would say it."""
        return self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("/__init__.py")

    @property
    def is_empty(self) -> bool:
        return not self.text.strip()

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    @cached_property
    def functions(self) -> list[Function]:
        """Every function, methods and inner ones too."""
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]


class House:
    """The checkout. A *room* is a file of the package that is not empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.texts = {path: (root / path).read_text("utf-8") for path in _text_files(root)}
        self.sources = [
            Source(path, text, ast.parse(text, path))
            for path, text in self.texts.items()
            if path.endswith(".py")
        ]
        self.rooms = {
            source.module: source
            for source in self.sources
            if source.path.startswith("zbus/") and not source.is_empty
        }

    def imports(self, source: Source) -> Iterator[tuple[int, str]]:
        """Each import with its line, wherever it stands; the room's name if it names a room."""
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield node.lineno, inner if inner in self.rooms else node.module

    @cached_property
    def arrows(self) -> dict[str, dict[str, int]]:
        """Which room imports which other, and on what line."""
        return {
            module: {
                name: line
                for line, name in self.imports(source)
                if name in self.rooms and name != module
            }
            for module, source in self.rooms.items()
        }


Rule: TypeAlias = Callable[[House], Iterator[Finding]]


def _text_files(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if _is_ours(name))
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix in ENDINGS or (not path.suffix and _is_script(path)):
                yield path.relative_to(root).as_posix()


def _is_ours(folder: str) -> bool:
    made = {"build", "dist", "htmlcov", "__pycache__"}
    return folder == ".ci" or not (
        folder.startswith(".") or folder in made or folder.endswith(".egg-info")
    )


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"
