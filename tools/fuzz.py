"""Feeds the targets of ``fuzz_targets.py`` with broken bytes, from a seed or guided by coverage.

    python tools/fuzz.py                               every target, 10 s each
    python tools/fuzz.py body --seconds 3600           one, for an hour; prints its seed
    python tools/fuzz.py message --inputs 10000000     so many inputs instead
    python tools/fuzz.py body --guided --seconds 3600  by coverage (needs ``pip install atheris``)

Rules of this room:

* A seed makes the same inputs on every machine, so that a finding has a number.
* A finding is printed with its bytes and ends the run with exit code 1. Put the bytes into the
  corpus: every file there is tried by ``tests/test_fuzz.py`` for ever.
* What is guided finds inputs of its own. Those that reach new code go below ``build/fuzz``; what
  of them is worth keeping is moved into the corpus by hand.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
FOUND = ROOT / "build" / "fuzz"
VECTORS = ROOT / "tests" / "vectors.json"
_LENGTH_MAX = 4_096
_LOOK_EVERY = 256
_WORDS = (bytes(range(32)), b"0123456789", b"abcdefghijklmnopqrstuvwxyz-._*>")
_ODD = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xc0", b"\xc1", b"\xff\xff", b"\x7f\xff\xff\xff")


class Mutator:
    """Breaks the inputs of a corpus, one by one and joined to each other."""

    def __init__(self, corpus: Sequence[bytes], seed: int) -> None:
        self._corpus = [*corpus, b""]
        self._random = random.Random(seed)

    def inputs(self) -> Iterator[bytes]:
        """For ever."""
        chance = self._random
        while True:
            raw = chance.choice(self._corpus)
            for _ in range(chance.choice((1, 1, 2, 3, 8))):
                raw = chance.choice(_BREAKS)(self, raw)
            yield raw[:_LENGTH_MAX]

    def _flip(self, raw: bytes) -> bytes:
        if not raw:
            return raw
        at = self._random.randrange(len(raw))
        return raw[:at] + bytes((raw[at] ^ 1 << self._random.randrange(8),)) + raw[at + 1 :]

    def _nudge(self, raw: bytes) -> bytes:
        """Another small number, letter or digit where there is one: mostly it is still valid."""
        if not raw:
            return raw
        at = self._random.randrange(len(raw))
        alike = [word for word in _WORDS if raw[at] in word]
        new = self._random.choice(alike[0]) if alike else raw[at]
        return raw[:at] + bytes((new,)) + raw[at + 1 :]

    def _put(self, raw: bytes) -> bytes:
        """Another byte: of the first bytes of MessagePack's long forms, or any."""
        byte = self._random.randrange(0xC0, 0xE0) if self._random.random() < 0.5 else None
        new = self._random.randbytes(1) if byte is None else bytes((byte,))
        at = self._random.randrange(len(raw) + 1)
        return raw[:at] + new + raw[at + self._random.randrange(2) :]

    def _insert(self, raw: bytes) -> bytes:
        at = self._random.randrange(len(raw) + 1)
        return raw[:at] + self._random.choice(_ODD) + raw[at:]

    def _cut(self, raw: bytes) -> bytes:
        return raw[: self._random.randrange(len(raw) + 1)]

    def _remove(self, raw: bytes) -> bytes:
        low, high = self._span(raw)
        return raw[:low] + raw[high:]

    def _double(self, raw: bytes) -> bytes:
        low, high = self._span(raw)
        return raw[:high] + raw[low:high] * self._random.choice((1, 1, 30)) + raw[high:]

    def _join(self, raw: bytes) -> bytes:
        other = self._random.choice(self._corpus)
        at, since = self._random.randrange(len(raw) + 1), self._random.randrange(len(other) + 1)
        return raw[:at] + other[since:]

    def _span(self, raw: bytes) -> tuple[int, int]:
        ends = sorted(self._random.randrange(len(raw) + 1) for _ in range(2))
        return ends[0], ends[1]


_BREAKS = (
    *[Mutator._nudge] * 5,
    Mutator._flip,
    Mutator._put,
    Mutator._insert,
    Mutator._cut,
    Mutator._remove,
    Mutator._double,
    Mutator._join,
)


class Finding(Exception):
    """A target did not stand these bytes."""

    def __init__(self, target: str, raw: bytes, error: BaseException) -> None:
        super().__init__(f"{target}: {type(error).__name__}: {error}\n  bytes {raw.hex()}")
        self.raw = raw


def kept_of(target: str) -> dict[str, bytes]:
    """What was found and is worth keeping, by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).glob("*.bin"))}


def corpus_of(target: str) -> list[bytes]:
    """The golden messages, as inputs of this target, and what is kept."""
    return [*sorted(seeds()[target]), *kept_of(target).values()]


def attempt(target: str, raw: bytes) -> None:
    """One input; ``Finding`` if the target does not stand it."""
    from fuzz_targets import TARGETS

    try:
        TARGETS[target](raw)
    except Exception as error:
        raise Finding(target, raw, error) from error


def fuzz(target: str, seed: int, inputs: int | None = None, seconds: float = 0.0) -> int:
    """So many inputs, or for so long; how many there were. Raises ``Finding``."""
    until = time.monotonic() + seconds
    count = 0
    for raw in Mutator(corpus_of(target), seed).inputs():
        looks = inputs is None and count and count % _LOOK_EVERY == 0
        if count == inputs or (looks and time.monotonic() >= until):
            break
        attempt(target, raw)
        count += 1
    return count


# -- the golden messages -------------------------------------------------------------------------


def seeds() -> dict[str, set[bytes]]:
    """For each target the golden messages, as its bytes."""
    from fuzz_targets import bytes_of

    document = json.loads(VECTORS.read_text("utf-8"))
    every = [entry for part in ("golden", "also_valid", "malformed") for entry in document[part]]
    messages = [[bytes.fromhex(frame) for frame in entry["frames"]] for entry in every]
    whole = {bytes_of(frames) for frames in messages}
    heads = {frames[0][4:] for frames in messages if frames and frames[0][:3] == b"ZBP"}
    hellos = {head[1:] for head in heads if head[1:3] == b"\x97\x01"}
    bodies = {bytes_of(_body_in(item)) for entry in every for item in entry.get("items", [])}
    return {
        "message": whole,
        "header": heads,
        "hello": hellos,
        "body": bodies | {bytes_of(frames) for frames in _odd_bodies()},
        "broker": whole,
        "session": whole,
    }


def _body_in(item: dict[str, Any]) -> list[bytes]:
    said = item.get("body") or item.get("bodies") or ""
    return [bytes.fromhex(text) for text in ([said] if isinstance(said, str) else said)]


def _odd_bodies() -> Iterator[Sequence[bytes | memoryview]]:
    """One of each extension type, and buffers in frames: from 8 bytes on, to keep them short."""
    from zbus.peer.packing import Packing

    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    values: list[object] = [(1, "a"), {1, 2}, frozenset({b"x"}), {(1,): 2}, 2**80, moment]
    values += [moment.date(), [bytes(range(40))], {"text": "t" * 50, "same": [b"b" * 9] * 3}]
    values += [[[None, True, 1.5], {"a": b"b"}], [1, (2, {3: {4, 5}})], [b"c" * 20] * 300]
    for value in values:
        packed, frames = Packing(8).whole(value)
        yield packed, *frames


# -- the program -------------------------------------------------------------------------------


def guided(target: str, seconds: float) -> None:
    """Until a finding or the time is up, by coverage of the Python code. Does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["zbus"]):
        from fuzz_targets import TARGETS
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    for raw in corpus_of(target):
        (found / hashlib.sha256(raw).hexdigest()[:12]).write_bytes(raw)
    options = [f"-max_total_time={seconds:.0f}", f"-max_len={_LENGTH_MAX}"]
    options += [f"-artifact_prefix={FOUND}/", str(found)]
    atheris.Setup([sys.argv[0], *options], TARGETS[target])
    atheris.Fuzz()


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 for a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", nargs="?", help="one of the targets; without it, all")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--inputs", type=int, help="for each target, instead of --seconds")
    parser.add_argument("--seed", type=int, help="of a run that is to be repeated")
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris")
    given = parser.parse_args(arguments)
    if given.guided:
        guided(given.target, given.seconds)
    seed = random.randrange(2**32) if given.seed is None else given.seed
    from fuzz_targets import TARGETS

    for target in [given.target] if given.target else TARGETS:
        try:
            count = fuzz(target, seed, given.inputs, given.seconds)
        except Finding as finding:
            print(f"seed {seed}: {finding}", file=sys.stderr)
            return 1
        print(f"{target}: {count} inputs from seed {seed}, none of which it did not stand")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
