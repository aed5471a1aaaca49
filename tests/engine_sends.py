"""Registration, dispatch and sending: the same cases for zbus.engine and for nvflare."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from engine_registry import CASES, RECORDS, Record, case, record

BULK = "__runner.bulk__"


def says(value: Any) -> Callable[..., Any]:
    """A handler that returns this, whatever it is asked."""
    return lambda topic, request, fl_ctx: value


def fails(error: BaseException) -> Callable[..., Any]:
    """A handler that raises this."""

    def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
        raise error

    return handle


def code(reply: Any) -> Any:
    return reply.get_return_code()


# -- registration --------------------------------------------------------------------------

REGISTRATIONS: dict[str, tuple[Any, Any, str]] = {
    "topic_no_text": (7, None, "raises TypeError"),
    "topic_reserved": (BULK, None, "raises ValueError"),
    "topic_empty": ("", 7, "raises ValueError"),
    "no_handler": ("t", None, "raises ValueError"),
    "handler_not_callable": ("t", 7, "raises TypeError"),
    "topic_taken": ("taken", print, "raises ValueError"),
    "topic_blank": ("  ", print, "None"),
    "reserved_with_a_handler": (BULK, print, "raises ValueError"),
}
"""Topic, handler, and what the seed era says; what is wrong with both is found in this order."""


def registered(topic: Any, handler: Any, api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("taken")
        return sites.server.register_aux_message_handler(topic=topic, message_handle_func=handler)


for _name, (_topic, _handler, _said) in REGISTRATIONS.items():
    CASES[f"register.{_name}"] = partial(registered, _topic, _handler)
    RECORDS[f"register.{_name}"] = Record(_said, "2.1")


@case
@record("False", "2.4")
def register__a_handler_has_the_documented_form(api: Any) -> Any:
    """Whether the form that the documentation names exists; the seed names one that does not."""
    text = api.Spec.register_aux_message_handler.__doc__ + (api.Runner.__doc__ or "")
    text += api.Runner.register_aux_message_handler.__doc__
    return all(hasattr(api.aux_spec, name) for name in re.findall(r"\w+_signature", text))


# -- dispatch ------------------------------------------------------------------------------

WRONG = {"a": 1}


@case
@record("'TOPIC_UNKNOWN'", "4, step 1")
def dispatch__unknown_topic(api: Any) -> Any:
    with api.sites() as sites:
        return code(sites.dispatched("nothing", sites.letter()))


@case
@record("'TOPIC_UNKNOWN'", "4, step 1")
def dispatch__unknown_topic_before_the_type(api: Any) -> Any:
    with api.sites() as sites:
        return code(sites.dispatched("nothing", WRONG))


@case
@record("'BAD_REQUEST_DATA'", "4, step 2")
def dispatch__no_shareable(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        return code(sites.dispatched("t", WRONG))


@case
@record("['MISSING_PEER_CONTEXT', 'MISSING_PEER_CONTEXT']", "4, step 3")
def dispatch__peer_props_missing(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        empty = sites.request()
        empty.set_peer_props({})
        return [code(sites.dispatched("t", each)) for each in (sites.request(), empty)]


@case
@record("'BAD_PEER_CONTEXT'", "4, step 4")
def dispatch__peer_props_a_list(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        letter = sites.request()
        letter.set_peer_props([1])
        return code(sites.dispatched("t", letter))


@case
@record("'RUN_MISMATCH'", "4, step 5")
def dispatch__another_job(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        return code(sites.dispatched("t", sites.letter(__run_num__="another")))


@case
@record("'HANDLER_EXCEPTION'", "4, step 6")
def dispatch__handler_raises(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t", fails(LookupError("no luck")))
        return code(sites.dispatched("t", sites.letter()))


@case
@record("'HANDLER_EXCEPTION'", "4, step 6")
def dispatch__handler_exits(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t", fails(SystemExit(3)))
        return code(sites.dispatched("t", sites.letter()))


@case
@record("'HANDLER_EXCEPTION'", "2.4")
def dispatch__handler_with_other_parameter_names(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t", lambda a, b, c: api.make_reply("OK"))
        return code(sites.dispatched("t", sites.letter()))


@case
@record("raises AttributeError", "4, step 7")
def dispatch__reply_none(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t", says(None))
        return code(sites.dispatched("t", sites.letter()))


@case
@record("raises AttributeError", "4, step 7")
def dispatch__reply_a_dict(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t", says({}))
        letter = sites.letter()
        letter.set_cookie_jar({"c": 1})
        return code(sites.dispatched("t", letter))


@case
@record("[{'c': 1}, {'c': 1}]", "4")
def dispatch__cookies_come_back(api: Any) -> Any:
    """Over those of the reply, and on errors too."""
    with api.sites() as sites:
        reply = api.make_reply("OK")
        reply.set_cookie_jar({"own": 1})
        sites.serve("t", says(reply))
        letter = sites.letter()
        letter.set_cookie_jar({"c": 1})
        return [sites.dispatched(topic, letter).get_cookie_jar() for topic in ("t", "nothing")]


@case
@record("['server', 'server']", "4")
def dispatch__peer_props_of_the_reply(api: Any) -> Any:
    """On errors too."""
    with api.sites() as sites:
        sites.serve("t")
        replies = [sites.dispatched(topic, sites.letter()) for topic in ("t", "nothing")]
        return [reply.get_peer_prop("__identity_name__", None) for reply in replies]


@case
def dispatch__the_handler_knows_its_peer(api: Any) -> Any:
    with api.sites() as sites:
        peers: list[Any] = []

        def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
            peers.append(fl_ctx.get_peer_context().get_identity_name())
            return api.make_reply("OK")

        sites.serve("t", handle)
        return code(sites.dispatched("t", sites.letter())), peers


@case
@record("('OK', [('t', 1), ('t', 1)])", "4, bulk")
def dispatch__bulk(api: Any) -> Any:
    """Good and bad items; the good ones are handled."""
    with api.sites() as sites:
        sites.serve("t")
        sites.serve("fails", fails(LookupError("no luck")))
        topics = ("t", "nothing", "fails", "t")
        items: list[Any] = [sites.letter() for _ in topics]
        for item, topic in zip(items, topics, strict=True):
            item.set_header("__topic__", topic)
        bulk = sites.letter()
        bulk["bulk_data"] = [WRONG, *items]
        return code(sites.dispatched(BULK, bulk)), sites.heard


@case
@record("'BAD_REQUEST_DATA'", "4, bulk")
def dispatch__bulk_that_is_no_list(api: Any) -> Any:
    with api.sites() as sites:
        bulk = sites.letter()
        bulk["bulk_data"] = {}
        return code(sites.dispatched(BULK, bulk))


# -- arguments -----------------------------------------------------------------------------

ARGUMENTS: dict[str, dict[str, Any]] = {
    "timeout_none": {"timeout": None},
    "timeout_bool": {"timeout": True},
    "timeout_int": {"timeout": 10},
    "timeout_negative": {"timeout": -1.0},
    "timeout_nan": {"timeout": math.nan},
    "topic_empty": {"topic": ""},
    "topic_none": {"topic": None},
    "request_a_dict": {"request": WRONG},
    "targets_a_number": {"targets": [7]},
    "targets_of_another_type": {"targets": ("server",)},
    "target_server_in_capitals": {"targets": "SERVER"},
    "target_unknown": {"targets": "nobody"},
    "target_unknown_among_others": {"targets": ["server", "nobody"]},
    "target_twice": {"targets": ["server", "server"]},
    "target_everybody": {"targets": "@ALL"},
    "targets_none": {"targets": []},
}
"""What a client sends with, besides what is good."""
OF_THE_SERVER: dict[str, dict[str, Any]] = {
    "everybody": {},
    "a_text": {"targets": "site-1"},
    "unknown": {"targets": ["site-1", "nobody"]},
    "no_shareable": {"request": WRONG},
    "timeout_none": {"timeout": None},
}


def sent(changed: dict[str, Any], api: Any, *, by_server: bool = False) -> Any:
    with api.sites() as sites:
        for each in (sites.server, *sites.clients.values()):
            sites.serve("t", says(api.make_reply("OK")), at=each)
        who = {"sender": sites.server} if by_server else {}
        return sites.ask(**who, **changed)


for _name, _changed in ARGUMENTS.items():
    CASES[f"send.{_name}"] = partial(sent, _changed)
for _name, _changed in OF_THE_SERVER.items():
    CASES[f"server.{_name}"] = partial(sent, _changed, by_server=True)


@case
def send__context_none(api: Any) -> Any:
    return sent({"fl_ctx": None}, api)


# -- what is sent --------------------------------------------------------------------------


@case
def send__the_callers_shareable(api: Any) -> Any:
    """What is in its headers afterwards."""
    with api.sites() as sites:
        sites.serve("t")
        request = sites.request()
        sites.ask(request=request)
        return sorted(request["__headers__"])


@case
def send__the_callers_context(api: Any) -> Any:
    """Whom it says that it is about, and whom the reply does."""
    with api.sites() as sites:
        sites.serve("t")
        fl_ctx = sites.client.new_context()
        reply = sites.replies(fl_ctx=fl_ctx)["server"]
        return fl_ctx.get_peer_context(), reply.get_peer_context().get_identity_name()


@case
def send__props_that_are_a_list(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        fl_ctx = sites.client.new_context()
        fl_ctx.get_all_public_props = lambda: [1]
        return sites.ask(fl_ctx=fl_ctx)


@case
def send__to_the_servers_parent(api: Any) -> Any:
    with api.sites() as sites:
        return sites.ask(targets="server_parent")


@case
def send__secure_and_optional(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        return [sites.ask(**{word: True}) for word in ("optional", "secure")]


@case
def send__in_anothers_name(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        fl_ctx = sites.client.new_context()
        fl_ctx.put("__identity_name__", "site-2", private=False, sticky=False)
        return sites.ask(fl_ctx=fl_ctx)


def echoed(value: Callable[[], Any], api: Any, timeout: float = 10.0) -> Any:
    """What arrives, or what becomes of the call."""
    with api.sites() as sites:
        arrived: list[Any] = []

        def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
            arrived.append(request["n"])
            return api.make_reply("OK")

        sites.serve("t", handle)
        sites.serve("next")
        said = sites.ask(request=sites.request(value()), timeout=timeout)
        sites.ask(topic="next")
        return arrived or said


class Plain:
    """A class of the user's."""

    def __repr__(self) -> str:
        return "Plain()"


VALUES: dict[str, tuple[Callable[[], Any], str | None, str]] = {
    "small": (lambda: [1, "a", b"b", None, 1.5, True], None, "10"),
    "tuple_and_set": (lambda: [(1, 2), {3}], None, "10"),
    "int_keys": (lambda: {1: "a"}, "raises ValueError", "10"),
    "int_of_70_bits": (lambda: 2**70, "raises OverflowError", "10"),
    "class_of_the_user": (Plain, "raises TypeError", "10"),
    "cannot_be_encoded": (lambda: iter(()), "raises TypeError", "5.3"),
}
for _name, (_value, _seed, _section) in VALUES.items():
    CASES[f"wire.{_name}"] = partial(echoed, _value)
    if _seed:
        RECORDS[f"wire.{_name}"] = Record(_seed, _section)


@case
def wire__cannot_be_encoded_and_nobody_waits(api: Any) -> Any:
    return echoed(lambda: iter(()), api, 0.0)


@case
def wire__arrays_can_be_written_to(api: Any) -> Any:
    """Also in the least: whether they arrive at all."""
    import numpy

    with api.sites() as sites:
        flags: list[bool] = []

        def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
            flags.append(bool(request["n"].flags.writeable))
            return api.make_reply("OK")

        sites.serve("t", handle)
        return sites.ask(request=sites.request(numpy.arange(3))), flags


@case
def wire__public_prop_that_cannot_be_encoded(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        fl_ctx = sites.client.new_context()
        fl_ctx.put("prop", iter(()), private=False, sticky=False)
        return sites.ask(fl_ctx=fl_ctx)
