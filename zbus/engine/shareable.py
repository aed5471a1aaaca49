"""The Shareable: the dict that tasks, results and aux messages are, with headers of its own.

Rules of this room:

* A Shareable is a dict that holds its headers, also a dict, under ``__headers__`` (contract
  section 10). Missing headers are made anew where one is set.
* Nothing here knows the wire; ``engine.wire`` says what values may be in it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from zbus.engine.constants import ReservedHeaderKey, ReturnCode

__all__ = ["Shareable", "make_copy", "make_reply"]

_HEADERS = ReservedHeaderKey.HEADERS


class Shareable(dict[Any, Any]):
    """A dict with headers: topic, return code, cookie jar, peer properties, task name ...

    The optional ``data`` is copied in; headers in it are not, they start empty.
    """

    def __init__(self, data: Mapping[Any, Any] | None = None) -> None:
        super().__init__(data or {})
        self[_HEADERS] = {}

    def set_header(self, key: str, value: Any) -> None:
        """Set one header."""
        headers = self.get(_HEADERS)
        if not headers:
            headers = self[_HEADERS] = {}
        headers[key] = value

    def get_header(self, key: str, default: Any = None) -> Any:
        """One header, ``default`` where it is not set.

        Raises:
            ValueError: something else than a dict stands where the headers should be.
        """
        headers = self.get(_HEADERS)
        if not headers:
            return default
        if not isinstance(headers, dict):
            raise ValueError(f"the headers of a Shareable must be a dict, not {type(headers)}")
        return headers.get(key, default)

    def get_return_code(self, default: str = ReturnCode.OK) -> Any:
        """The return code; OK where none was set."""
        return self.get_header(ReservedHeaderKey.RC, default)

    def set_return_code(self, rc: str) -> None:
        """Say how it went: a ``ReturnCode``."""
        self.set_header(ReservedHeaderKey.RC, rc)

    def add_cookie(self, name: str, data: Any) -> None:
        """Put something into the cookie jar, which comes back with the reply."""
        jar = self.get_cookie_jar()
        if not jar:
            jar = {}
            self.set_cookie_jar(jar)
        jar[name] = data

    def get_cookie(self, name: str, default: Any = None) -> Any:
        """One cookie, ``default`` where it is not in the jar."""
        jar = self.get_cookie_jar()
        return jar.get(name, default) if jar else default

    def get_cookie_jar(self) -> Any:
        """The whole cookie jar, a dict; None where there is none."""
        return self.get_header(ReservedHeaderKey.COOKIE_JAR)

    def set_cookie_jar(self, jar: dict[str, Any] | None) -> None:
        """Set the whole cookie jar."""
        self.set_header(ReservedHeaderKey.COOKIE_JAR, jar)

    def set_peer_props(self, props: dict[str, Any]) -> None:
        """Set the sender's public properties."""
        self.set_header(ReservedHeaderKey.PEER_PROPS, props)

    def get_peer_props(self) -> Any:
        """The sender's public properties, a dict; None where there are none."""
        return self.get_header(ReservedHeaderKey.PEER_PROPS)

    def get_peer_prop(self, key: str, default: Any) -> Any:
        """One of the sender's public properties."""
        props = self.get_peer_props()
        return props.get(key, default) if isinstance(props, dict) else default

    def set_peer_context(self, peer_ctx: Any) -> None:
        """Set the sender's FLContext."""
        self.set_header(ReservedHeaderKey.PEER_CTX, peer_ctx)

    def get_peer_context(self) -> Any:
        """The sender's FLContext; None where there is none."""
        return self.get_header(ReservedHeaderKey.PEER_CTX)


def make_reply(rc: str, headers: Any = None) -> Shareable:
    """An empty Shareable with this return code, and these headers if they are a dict."""
    reply = Shareable()
    reply[_HEADERS][ReservedHeaderKey.RC] = rc
    if isinstance(headers, dict):
        reply[_HEADERS].update(headers)
    return reply


def make_copy(source: Shareable, exclude_headers: list[str] | None = None) -> Shareable:
    """The same content with headers of its own: deep copies, without the excluded ones."""
    excluded = exclude_headers or ()
    headers = source.get(_HEADERS) or {}
    twin = copy.copy(source)
    twin[_HEADERS] = copy.deepcopy({k: v for k, v in headers.items() if k not in excluded})
    return twin
