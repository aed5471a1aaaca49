"""The FLContext: what components of one process say to each other, and to peers where public.

Rules of this room (contract section 9):

* A property is private or public, and sticky or not. Once set, its flags stay: setting it with
  others is refused with ``False``, and the old value stays.
* Public properties travel with every message; private ones never leave the process.
* Sticky properties live in the manager: set in one context, they are at once what every context
  of that manager says. Nothing waits for the end of a ``with`` block (contract 12.29).
* The peer's context is a property of this one context: private, not sticky, never shared.
* Contexts may be used from several threads. Reading takes no lock.
* Each message makes two contexts, so what is on that way makes no call that it can do without.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from zbus.engine.constants import ReservedKey

__all__ = ["FLContext", "FLContextManager"]

_MANAGER = ReservedKey.MANAGER
_PEER_CTX = ReservedKey.PEER_CTX
_log = logging.getLogger("zbus.engine.context")
_writing = threading.Lock()
"""One for all contexts, so that a context can be copied, and stickers have one order."""


class _Prop(NamedTuple):
    value: Any
    private: bool
    sticky: bool

    @property
    def flags(self) -> str:
        visibility = "private" if self.private else "public"
        return f"{visibility}, {'sticky' if self.sticky else 'not sticky'}"


_prop: Callable[[tuple[Any, bool, bool]], _Prop] = functools.partial(tuple.__new__, _Prop)
"""Makes one without a call of Python's."""


class FLContext:
    """Properties by key. A fresh one has none; an engine's ``new_context()`` fills in its own."""

    def __init__(self) -> None:
        self.model: Any = None
        self.props: dict[str, _Prop] = {}

    # -- setting and getting ---------------------------------------------------------------

    def set_prop(self, key: str, value: Any, private: bool = True, sticky: bool = True) -> bool:
        """Set a property; False, and nothing is changed, if it has other flags already.

        Raises:
            ValueError: the key is not a str.
        """
        if not isinstance(key, str):
            raise ValueError(f"the key of a property must be a str, not {type(key)}")
        prop = _prop((value, private, sticky))
        with _writing:
            manager = self._manager() if sticky else None
            known = self.props.get(key) or (manager and manager.stickers.get(key))
            if known and (known.private, known.sticky) != (private, sticky):
                _log.warning("property %r stays %s, not %s", key, known.flags, prop.flags)
                return False
            if manager:
                manager.stickers[key] = prop
            self.props[key] = prop
        return True

    def get_prop(self, key: str, default: Any = None) -> Any:
        """The value, ``default`` where there is no such property. A stored None is returned."""
        prop = self.props.get(key)
        if prop is None or prop.sticky:
            prop = self._find(key)
        return prop.value if prop is not None else default

    def get_prop_detail(self, key: str) -> dict[str, Any] | None:
        """``value``, ``private`` and ``sticky`` of a property; None where there is none."""
        prop = self._find(key)
        return prop._asdict() if prop else None

    def get_prop_keys(self) -> list[str]:
        """The keys of this context's properties."""
        return list(self.props)

    def remove_prop(self, key: str, force_removal: bool = False) -> None:
        """Take a property out of this context; one with a key in ``__`` only when forced."""
        if isinstance(key, str) and (force_removal or not key.startswith("__")):
            self.props.pop(key, None)

    def put(self, key: str, value: Any, private: bool, sticky: bool) -> None:
        """Set a property of this context alone, whatever flags it had, and no sticker."""
        self.props[key] = _prop((value, private, sticky))

    def _find(self, key: str) -> _Prop | None:
        prop = self.props.get(key)
        if prop is not None and not prop.sticky:
            return prop
        manager = self.props.get(_MANAGER)
        sticker = manager.value.stickers.get(key) if manager else None
        return sticker or prop

    def _manager(self) -> FLContextManager | None:
        prop = self.props.get(_MANAGER)
        return prop.value if prop else None

    # -- public properties -----------------------------------------------------------------

    def public_key_exists(self, key: str) -> bool:
        """Whether this context has a public property with this key."""
        prop = self.props.get(key)
        return prop is not None and not prop.private

    def get_all_public_props(self) -> dict[str, Any]:
        """Keys and values of all that is not private: what peers see."""
        manager = self.props.get(_MANAGER)
        stickers = manager.value.stickers if manager else {}
        public: dict[str, Any] = {}
        for key, prop in list(self.props.items()):
            if not prop.private:
                public[key] = ((prop.sticky and stickers.get(key)) or prop).value
        return public

    def set_public_props(self, metadata: Mapping[str, Any]) -> None:
        """Drop all public properties, and set these instead, not sticky.

        Raises:
            ValueError: a key is not a str.
        """
        if self.props:
            with _writing:
                self.props = {key: prop for key, prop in self.props.items() if prop.private}
            for key, value in metadata.items():
                self.set_prop(key, value, private=False, sticky=False)
            return
        props: dict[str, _Prop] = {}
        for key, value in metadata.items():
            if not isinstance(key, str):
                raise ValueError(f"the key of a property must be a str, not {type(key)}")
            props[key] = _prop((value, False, False))
        self.props = props

    # -- properties that have names --------------------------------------------------------

    def get_engine(self, default: Any = None) -> Any:
        """The engine that made this context."""
        return self.get_prop(ReservedKey.ENGINE, default)

    def get_workspace(self) -> Any:
        """The engine's workspace.

        Raises:
            RuntimeError: there is no engine in this context.
        """
        engine = self.get_engine()
        if engine is None:
            raise RuntimeError("there is no engine in this context")
        return engine.get_workspace()

    def get_process_type(self, default: Any = None) -> Any:
        """The ``ProcessType`` of this process."""
        return self.get_prop(ReservedKey.PROCESS_TYPE, default)

    def get_job_id(self, default: Any = None) -> Any:
        """The job that this process runs."""
        return self.get_prop(ReservedKey.RUN_NUM, default)

    def get_identity_name(self, default: Any = "") -> Any:
        """The name of this site."""
        return self.get_prop(ReservedKey.IDENTITY_NAME, default)

    def get_run_abort_signal(self) -> Any:
        """The signal that says that the run is to end."""
        return self.get_prop(ReservedKey.RUN_ABORT_SIGNAL)

    def set_peer_context(self, ctx: FLContext | None) -> None:
        """Say who the peer is that this context is about."""
        self.props[_PEER_CTX] = _prop((ctx, True, False))

    def get_peer_context(self) -> Any:
        """The peer's context, with its public properties."""
        return self.get_prop(ReservedKey.PEER_CTX)

    def set_job_is_unsafe(self, value: bool = True) -> None:
        """Mark the job as unsafe, for every context."""
        self.set_prop(ReservedKey.JOB_IS_UNSAFE, value)

    def is_job_unsafe(self) -> Any:
        """Whether the job was marked as unsafe."""
        return self.get_prop(ReservedKey.JOB_IS_UNSAFE, default=False)

    def set_custom_prop(self, key: str, value: Any) -> None:
        """Set a property of this context in a room of the user's own."""
        props = self.get_prop(ReservedKey.CUSTOM_PROPS)
        if not props:
            props = {}
            self.set_prop(ReservedKey.CUSTOM_PROPS, props, sticky=False)
        props[key] = value

    def get_custom_prop(self, key: str, default: Any = None) -> Any:
        """A property that was set with ``set_custom_prop``."""
        return (self.get_prop(ReservedKey.CUSTOM_PROPS) or {}).get(key, default)

    # -- the context as a whole ------------------------------------------------------------

    def sync_sticky(self) -> None:
        """Nothing is left to do here: stickers are live. Kept for components that call it."""

    def clone(self) -> FLContext:
        """A context with the same properties; the values are shared."""
        twin = FLContext()
        twin.model = self.model
        twin.props = dict(self.props)
        return twin

    def __str__(self) -> str:
        return " ".join(f"{key}: {type(prop.value)}" for key, prop in self.props.items())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is left to do here."""


class FLContextManager:
    """Makes the contexts of one run, and keeps the stickers they share. Whose it is stays."""

    def __init__(
        self,
        engine: Any = None,
        identity_name: str = "",
        job_id: str | None = "",
        public_stickers: Mapping[str, Any] | None = None,
        private_stickers: Mapping[str, Any] | None = None,
    ) -> None:
        self.engine = engine
        self.identity_name = identity_name
        self.job_id = job_id
        self.stickers: dict[str, _Prop] = {}
        for private, stickers in ((False, public_stickers), (True, private_stickers)):
            for key, value in (stickers or {}).items():
                self.stickers[key] = _prop((value, private, True))
        self._own = {
            _MANAGER: _prop((self, True, False)),
            ReservedKey.ENGINE: _prop((engine, True, False)),
            ReservedKey.RUN_NUM: _prop((job_id, False, True)),
        }
        if identity_name:
            self._own[ReservedKey.IDENTITY_NAME] = _prop((identity_name, False, False))

    def new_context(self) -> FLContext:
        """A context that knows this manager, the engine, the job, the site and all stickers."""
        context = FLContext()
        with _writing:
            context.props = {**self._own, **self.stickers}
        return context
