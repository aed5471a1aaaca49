"""Bodies in words, both ways: what was typed as a body, and a reply as JSON or as text.

Rules of this room:

* Everything that ``zbus.peer.body`` decodes has a form here, and none of them raises. What JSON
  has no word for becomes the nearest that it has: a tuple or set is a list, a date its ISO text,
  NaN the text ``"nan"``.
* For programs nothing is lost: bytes are ``{"base64": ...}``, an array is ``{"dtype", "shape",
  "base64"}``. For people both are summed up: ``<12 bytes>``, ``<float32 array 3x4>``.
* NumPy is not imported: an array is known by what it can do.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

__all__ = ["parsed_json", "plain", "shown", "typed_body"]


def typed_body(text: str | None, *, is_json: bool) -> Any:
    """The body that was typed: text, or what its JSON says; ``-`` is all of standard input.

    Standard input that is no UTF-8 is bytes.
    """
    if text is None:
        if is_json:
            raise click.UsageError("--json-body needs a BODY.")
        return None
    body: str | bytes = _standard_input() if text == "-" else text
    return parsed_json(body) if is_json else body


def parsed_json(text: str | bytes, what: str = "BODY") -> Any:
    """What the JSON says; a usage error where it is none, which names it as ``what``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{what} is no JSON: {error}.") from None


def _standard_input() -> str | bytes:
    read = sys.stdin.buffer.read()
    try:
        return read.decode()
    except UnicodeDecodeError:
        return read


def plain(value: object) -> Any:
    """The value as JSON has it, whole."""
    return _plain(value, _encoded)


def shown(value: object) -> str:
    """The value in one line for people: JSON, with buffers summed up."""
    return json.dumps(_plain(value, _summed_up), ensure_ascii=False)


def _plain(value: object, buffer: Callable[[Any], object]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return _mapping(value, buffer)
    if isinstance(value, list | tuple):
        return [_plain(item, buffer) for item in value]
    if isinstance(value, set | frozenset):
        return _sorted(_plain(item, buffer) for item in value)
    if isinstance(value, bytes | bytearray | memoryview):
        return buffer(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return buffer(value) if getattr(value, "ndim", 0) else _scalar(value, buffer)
    return repr(value)


def _mapping(mapping: Mapping[Any, object], buffer: Callable[[Any], object]) -> Any:
    keys = [_key(key, buffer) for key in mapping]
    values = [_plain(item, buffer) for item in mapping.values()]
    if len(set(keys)) == len(keys):
        return dict(zip(keys, values, strict=True))
    # Two keys that JSON cannot tell apart, such as 1 and "1": pairs lose neither.
    return [[_plain(key, buffer), item] for key, item in zip(mapping, values, strict=True)]


def _key(key: object, buffer: Callable[[Any], object]) -> str:
    return key if isinstance(key, str) else _text(_plain(key, buffer))


def _sorted(items: Iterable[object]) -> list[object]:
    return sorted(items, key=_text)


def _text(item: object) -> str:
    return json.dumps(item, ensure_ascii=False)


def _scalar(scalar: Any, buffer: Callable[[Any], object]) -> Any:
    """A NumPy scalar, or an array without dimensions, as the Python value that it is nearest."""
    item = scalar.item()
    if type(item) is type(scalar) or isinstance(item, complex | datetime.timedelta):
        return str(scalar)
    return _plain(item, buffer)


def _encoded(buffer: Any) -> object:
    import base64

    if isinstance(buffer, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(buffer).decode("ascii")}
    return {
        "dtype": buffer.dtype.str,
        "shape": list(buffer.shape),
        "base64": base64.b64encode(buffer.tobytes()).decode("ascii"),
    }


def _summed_up(buffer: Any) -> object:
    if isinstance(buffer, bytes | bytearray | memoryview):
        return f"<{memoryview(buffer).nbytes} bytes>"
    return f"<{buffer.dtype} array {'x'.join(map(str, buffer.shape))}>"
