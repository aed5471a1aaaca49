"""Every error zbus raises: one tree, one registry.

Rules of this room:

* An error class *is* its registry entry (``zbus.failure``). What it says stands on the class and
  nowhere else; the wire, the command line, ``zbus explain`` and ``docs/errors.md`` read it there.
* The tree splits by who is at fault: ``CallerError`` (you asked for what cannot be),
  ``RefusedError`` (the bus said no, so nothing ran), ``TargetError`` (the other side failed),
  ``ProtocolError`` (somebody sent what the protocol forbids), ``InternalError`` (we did).
* ``executed`` is ``no`` only where that is provable (promise P4).
"""

from __future__ import annotations

from collections.abc import Iterator

from zbus.failure import REGISTRY
from zbus.failure import Executed as Executed
from zbus.failure import ZbusError as ZbusError

__all__ = [
    "AlreadyRunning",
    "AuthFailed",
    "Backpressure",
    "BadReply",
    "BrokerUnreachable",
    "CallerError",
    "Cancelled",
    "ChildFailed",
    "ClosedError",
    "ComponentError",
    "ComponentNotAuthorized",
    "ConfigError",
    "Damaged",
    "Draining",
    "DuplicateTopic",
    "ForkedClientError",
    "HandlerError",
    "InternalError",
    "InvalidName",
    "InvalidTimeout",
    "Malformed",
    "NameTaken",
    "NoHandler",
    "NoTarget",
    "NotAuthorized",
    "Overloaded",
    "Poisoned",
    "ProtocolError",
    "RefusedError",
    "RequestError",
    "RequestTimeout",
    "Superseded",
    "TargetError",
    "TargetLost",
    "TooLarge",
    "UnencodableBody",
    "UnfitLibrary",
    "VersionMismatch",
    "error_for",
    "every_error",
]


class CallerError(ZbusError):
    """You asked for something that this call, state or configuration does not allow."""

    exit_code = 2


class ClosedError(CallerError):
    """You closed this bus. Not raised when the broker goes away: that is a pause."""

    number = 501
    summary = "this bus is closed"
    remedy = "Connect again, or make the call before close()."


class ForkedClientError(CallerError):
    """This process was forked after the bus was connected (promise P21)."""

    number = 502
    summary = "this bus was connected before fork() and cannot be used in the child"
    remedy = "Connect in the child, or start the child with spawn instead of fork."


class InvalidName(CallerError):
    """A topic or a peer name that breaks the grammar of the specification."""

    number = 503
    summary = "that is not a valid topic or name"
    remedy = "Use dotted words of letters, digits, '_' and '-', at most 255 bytes."


class DuplicateTopic(CallerError):
    """A second handler for a topic of the same dispatcher."""

    number = 504
    summary = "that topic already has a handler"
    remedy = "Register each topic once, or make a second Dispatcher."


class UnencodableBody(CallerError):
    """A body holds a value that MessagePack with our extension types cannot say."""

    number = 505
    summary = "the body holds a value that cannot be encoded"
    remedy = "Send None, bool, int, float, str, bytes, list, tuple, dict, set, datetime or arrays."


class InvalidTimeout(CallerError):
    """A timeout that is not a finite number of seconds above zero."""

    number = 508
    summary = "the timeout is not a finite number of seconds above zero"
    remedy = "Give timeout in seconds, such as timeout=2.0."


class ChildFailed(CallerError):
    """An engine that its parent cannot start, keep running or end (promise P20)."""

    number = 520
    default_executed = Executed.MAYBE
    exit_code = 1
    summary = "an engine cannot be started, kept running or ended"
    remedy = "See the message and the log of that engine."


class TooLarge(CallerError):
    """A body above the limit that the broker gave in its Welcome."""

    number = 203
    exit_code = 7
    summary = "the body is larger than the bus allows"
    remedy = "Send less, or raise limits.body_max on the broker."


class ConfigError(CallerError):
    """A configuration that cannot be read, or holds what it may not."""

    number = 506
    exit_code = 78
    summary = "the configuration is not valid"
    remedy = "Run `zbus check` on it."


class ComponentError(ConfigError, ValueError):
    """A component's configuration that cannot be built as it stands."""

    number = 509
    summary = "the component cannot be built from this configuration"
    remedy = "Correct the place that the message names."


class ComponentNotAuthorized(ComponentError):
    """A component of a module that the allow-list does not name; nothing was imported."""

    number = 510
    summary = "the configuration names a component that is not allowed here"
    remedy = "Add its module to the allow-list of the builder, if it is to be trusted."


class UnfitLibrary(CallerError):
    """The libzmq of this machine is too old for the bus, or lacks a feature of it."""

    number = 511
    exit_code = 78
    summary = "the libzmq of this machine cannot carry the bus"
    remedy = "Install pyzmq from its wheel, which brings a fit one: pip install -U pyzmq."


class AlreadyRunning(CallerError):
    """Another broker holds this address or runtime directory (promise P23)."""

    number = 507
    exit_code = 78
    summary = "another broker is already running here"
    remedy = "Stop that broker, or give this one another runtime directory."


class Backpressure(CallerError):
    """The bound on unsettled pushes is reached. Refused, never dropped (promise P7)."""

    number = 202
    exit_code = 7
    summary = "too many pushes wait to be taken"
    remedy = "Push more slowly, or wait with flush()."


class RequestError(ZbusError):
    """A request, or a connect, that ended without what was asked for."""


class RefusedError(RequestError):
    """The bus said no; nothing ran."""


class BrokerUnreachable(RefusedError, ConnectionError):
    """No broker answered in time, and the request never left this process.

    Not raised for a request that was sent: that one ends as ``RequestTimeout``.
    """

    number = 101
    exit_code = 5
    summary = "no broker answers"
    remedy = "Start one with `zbus broker`, or check the endpoint."


class NoTarget(RefusedError, LookupError):
    """No peer of that name is attached."""

    number = 102
    exit_code = 4
    summary = "no peer has that name"
    remedy = "See `zbus ls` for who is there."


class NoHandler(RefusedError, LookupError):
    """No peer serves that topic. ``wait_served`` and ``unserved="wait"`` wait for one."""

    number = 104
    exit_code = 4
    summary = "no peer serves that topic"
    remedy = "See `zbus ls` for what is served, or ask with unserved='wait'."


class NotAuthorized(RefusedError, PermissionError):
    """The broker's policy forbids it. Does not say whether the target exists."""

    number = 105
    exit_code = 6
    summary = "the broker's policy does not allow that"
    remedy = "Ask the operator to allow it in the broker's [policy]."


class AuthFailed(RefusedError, PermissionError):
    """The broker and this peer do not trust each other's keys; the text says which it is."""

    number = 106
    exit_code = 6
    summary = "the broker and this peer do not trust each other's keys"
    remedy = "Check the key and the server key of this peer, and the broker's list of trust."


class NameTaken(RefusedError, PermissionError):
    """Another peer holds this name, and you could not prove that you are it."""

    number = 107
    exit_code = 6
    summary = "another peer has that name"
    remedy = "Choose another name, or stop the other peer."


class Superseded(RefusedError):
    """A newer start of the same identity took over this session."""

    number = 108
    exit_code = 6
    summary = "a newer start of the same peer took over"
    remedy = "Stop one of the two."


class VersionMismatch(RefusedError):
    """The broker speaks no protocol version that this peer speaks."""

    number = 109
    exit_code = 7
    summary = "the broker and this peer share no protocol version"
    remedy = "Install the same major version of zbus on both sides."


class Overloaded(RefusedError):
    """A bound is reached at the broker or the target; ``retry_after_s`` says when to ask again."""

    number = 201
    exit_code = 7
    summary = "the target has no room for another request"
    remedy = "Ask again after retry_after_s, or raise the window."


class Draining(RefusedError):
    """The broker or the target is going down and takes no new work."""

    number = 205
    exit_code = 7
    summary = "the broker is draining and takes no new work"
    remedy = "Ask again when it is back."


class TargetError(RequestError):
    """The other side failed, or did not answer in time."""

    default_executed = Executed.MAYBE


class RequestTimeout(TargetError, TimeoutError):
    """No reply came before the deadline."""

    number = 301
    exit_code = 3
    summary = "no reply came in time"
    remedy = "Ask with a longer timeout, or look at what the handler does."


class Cancelled(TargetError):
    """You gave the request up, or closed the bus while it was open."""

    number = 302
    exit_code = 9
    summary = "the request was given up"
    remedy = "Nothing to do if you meant it."


class TargetLost(TargetError):
    """The peer that had the request died, or was cut off (promise P10)."""

    number = 403
    exit_code = 8
    summary = "the peer that had the request is lost"
    remedy = "Ask again if running it twice is harmless."


class HandlerError(TargetError):
    """The handler raised. The text names the exception; a traceback is not sent by default."""

    number = 401
    default_executed = Executed.YES
    summary = "the handler raised"
    remedy = "See the log of the peer that ran it."


class BadReply(TargetError):
    """The handler returned what cannot be encoded or is too large."""

    number = 402
    default_executed = Executed.YES
    summary = "the handler returned what cannot be sent"
    remedy = "Mend the handler: return plain values within the size limit."


class Poisoned(TargetError):
    """Processes died while they had a request with this topic and body, so that it is given to
    no further one (promise P12). It may have run in those, and has not since."""

    number = 404
    exit_code = 8
    summary = "processes died while they had this request, and it is given to no further one"
    remedy = "Mend the handler, then let the request in again; `zbus poison ls` shows it."


class ProtocolError(ZbusError):
    """Somebody sent what the protocol forbids."""

    exit_code = 7


class Malformed(ProtocolError, ValueError):
    """Bytes that are no message of ZBP/1. The only error that decoding raises (spec 3.1)."""

    number = 204
    summary = "those bytes are no message of the zbus protocol"
    remedy = "Check that both ends speak zbus and the same version."


class Damaged(ProtocolError):
    """A large body that arrived other than it was sent; all of it was thrown away (P22)."""

    number = 206
    summary = "a large body did not arrive as it was sent"
    remedy = "Do not change what is sent before the request has ended; else look at the network."


class InternalError(ZbusError):
    """A rule of zbus itself was broken. Please report it."""

    number = 901
    default_executed = Executed.MAYBE
    exit_code = 70
    summary = "zbus broke one of its own rules"
    remedy = "Please report it with the text above."


def every_error() -> Iterator[type[ZbusError]]:
    """Every error that has a code, in the order of the codes."""
    for number in sorted(REGISTRY):
        yield REGISTRY[number]


def error_for(number: int) -> type[ZbusError]:
    """The class of a wire code; ``InternalError`` for one this version does not know."""
    return REGISTRY.get(number, InternalError)
