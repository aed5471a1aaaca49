"""Writes ``tests/vectors.json`` and the generated parts of ``docs/protocol.md``.

The frames are those of ``golden.py``; the table of codes comes from ``zbus/errors.py``. Run it
after a change to either; ``tests/test_vectors.py`` fails while a file is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from golden import ANSWERED, ASKED, GOLDEN, LONG_FORMS, REFUSED, SIGNATURE, Statement, Value, pack

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "tests" / "vectors.json"
PAGE = ROOT / "docs" / "protocol.md"


def vectors() -> str:
    """The text of ``tests/vectors.json``."""
    document = {
        "protocol": "ZBP/1",
        "notes": "Frames, and the fields proof, body and bodies, are hexadecimal. `golden`: read "
        "and write exactly this. `also_valid`: read like the golden message named, written so by "
        "nobody. `malformed`: refuse. Made by tools/vectors.py.",
        "golden": [
            {
                "name": golden.name,
                "clause": golden.clause,
                "says": golden.says,
                "items": [_said(one) for one in golden.items],
                "frames": [frame.hex() for frame in golden.frames],
            }
            for golden in GOLDEN
        ],
        "also_valid": [{"like": "cancel", "frames": [frame.hex() for frame in LONG_FORMS]}],
        "malformed": [
            {
                "name": refused.name,
                "clause": refused.clause,
                "frames": [frame.hex() for frame in refused.frames],
            }
            for refused in REFUSED
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def _said(one: Statement) -> dict[str, object]:
    fields = {name: _as_json(value) for name, value in one.named.items()}
    return {"kind": one.kind, **fields}


def _as_json(value: Value) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return value


def worked_example() -> str:
    """The bytes of a request and of its reply, one field a line."""
    lines = ["```", *_annotated(ASKED), "", *_annotated(ANSWERED), "```"]
    return "\n".join(lines)


def _annotated(one: Statement) -> Iterator[str]:
    yield _line(SIGNATURE, "signature: ZBP, version 1")
    yield _line(b"\x91", "header: an array of 1 item")
    yield _line(pack(one.array)[:1], f"item: an array of {len(one.array)} fields")
    yield _line(pack(one.tag), f"kind {one.tag}: {one.kind}")
    for name, value in one.named.items():
        yield _line(pack(value), f"{name} = {_shown(value)}")


def _line(raw: bytes, text: str) -> str:
    return f"{raw.hex(' '):<27} {text}"


def _shown(value: Value) -> str:
    if isinstance(value, bytes):
        return f"the {len(value)} bytes {value.decode('ascii')!r}"
    return json.dumps(value)


NEVER_SENT = range(500, 600)
"""Errors that arise on the asker's own side, before anything is sent (clause 4.7)."""


def code_table() -> str:
    """The codes of a Fault, from the registry of errors."""
    from zbus.errors import CallerError, InternalError, ProtocolError, RefusedError, every_error

    sides = {CallerError: "asker", RefusedError: "bus", ProtocolError: "sender"}
    sides[InternalError] = "zbus"
    rows = [
        "| code | name | executed | at fault | says |",
        "|---|---|---|---|---|",
        "| 1 | AGAIN | - | nobody | send the same id again (6.5) |",
        "| 2 | UNKNOWN_ID | - | nobody | I was asked whether I know this id: I do not (6.6) |",
    ]
    for error in every_error():
        if error.number in NEVER_SENT:
            continue
        side = next((side for kind, side in sides.items() if issubclass(error, kind)), "handler")
        row = (error.number, error.__name__, error.default_executed, side, error.summary)
        rows.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(rows)


def page(before: str) -> str:
    """``docs/protocol.md`` with its generated parts made anew."""
    for name, text in (("codes", code_table()), ("example", worked_example())):
        start, end = f"<!-- {name}: made by tools/vectors.py -->\n", f"\n<!-- end of {name} -->"
        head, found, rest = before.partition(start)
        _, closed, tail = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"docs/protocol.md has no place for {name}")
        before = f"{head}{start}\n{text}\n{end}{tail}"
    return before


def main() -> None:
    """Write both files, from the checkout this file is in."""
    sys.path.insert(0, str(ROOT))
    VECTORS.write_text(vectors(), "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
