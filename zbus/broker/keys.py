"""CURVE keys as files, and the directory of those that are trusted.

    site-1.key   name, public, secret   mode 0600: whoever reads it is site-1
    site-1.pub   name, public           may be shown to anybody

Rules of this room:

* A file is a little TOML, and read strictly: whatever else stands in it refuses it. A secret is
  never quoted, in no error and in no repr.
* Files are made new (``O_EXCL``) and never written over. A secret that others can read, or that
  is another user's, is refused; so is a trusted key that others can write (promise P16).
* A directory of trust holds ``*.pub`` and, of keys that were taken back, ``*.revoked``; the one
  bad file of them refuses all. Other files mean nothing.
* A name may have two trusted keys, so that it can change its key without a pause.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from zbus.errors import ConfigError, InvalidName
from zbus.protocol.topics import check_name

__all__ = [
    "PublicKey",
    "SecretKey",
    "Trust",
    "add_trust",
    "new_key",
    "read_public",
    "read_secret",
    "read_trust",
    "revoke",
    "write_pair",
]

_PUBLIC, _SECRET, _REVOKED = ".pub", ".key", ".revoked"
_BYTES_MAX = 4_096
_DIGEST_BYTES = 8
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who a key is, and the key as 40 characters of Z85."""

    name: str
    public: str

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the key, for people and logs."""
        return _digest(self.public)


@dataclass(frozen=True, slots=True)
class SecretKey(PublicKey):
    """Both sides of a key."""

    secret: str = field(repr=False)

    @property
    def shown(self) -> PublicKey:
        """The side that may be shown."""
        return PublicKey(self.name, self.public)


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is let in: names by fingerprint, and those whose key was taken back.

    Found by a digest of what is asked, so that how long it takes tells nothing of what is here.
    """

    trusted: Mapping[str, str] = field(default_factory=dict)
    revoked: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, public: str) -> str | None:
        """The name of a trusted key; None for any other."""
        return self.trusted.get(_digest(public))

    def is_revoked(self, public: str) -> bool:
        """Whether it was trusted, and is no longer."""
        digest = _digest(public)
        return digest in self.revoked and digest not in self.trusted


def new_key(name: str) -> SecretKey:
    """A new key pair.

    Raises:
        InvalidName: that is no name of a peer.
    """
    check_name(name)
    public, secret = zmq.curve_keypair()
    return SecretKey(name, public.decode(), secret.decode())


def write_pair(directory: Path, key: SecretKey) -> tuple[Path, Path]:
    """Write both files into ``directory``: the paths of the secret and of the public one.

    Raises:
        ConfigError: one of them is there already, or cannot be written.
    """
    secret, public = directory / f"{key.name}{_SECRET}", directory / f"{key.name}{_PUBLIC}"
    if os.path.lexists(public):
        raise ConfigError(f"{public} is there already, and no key is written over")
    head = f'# Secret key of "{key.name}". Whoever reads this is {key.name}: show it to nobody.\n'
    _write(secret, f'{head}{_text(key)}secret = "{key.secret}"\n', 0o600)
    _write(public, f'# Public key of "{key.name}".\n{_text(key)}', 0o644)
    return secret, public


def read_secret(path: Path) -> SecretKey:
    """The key of a secret file.

    Raises:
        ConfigError: it cannot be read, others can read it, or it is no key.
    """
    found = _read(path, stat.S_IRWXG | stat.S_IRWXO, "read or write")
    fields = _fields(path, found, ("name", "public", "secret"))
    key = SecretKey(fields["name"], fields["public"], fields["secret"])
    if zmq.curve_public(key.secret.encode()).decode() != key.public:
        raise ConfigError(f"{path}: its two sides are not of one key")
    return key


def read_public(path: Path) -> PublicKey:
    """The key of a public file; errors as for ``read_secret``, but others may read it."""
    found = _read(path, stat.S_IWGRP | stat.S_IWOTH, "write")
    fields = _fields(path, found, ("name", "public"))
    return PublicKey(fields["name"], fields["public"])


def read_trust(directory: Path) -> Trust:
    """Everybody whom a directory trusts. An empty one trusts nobody.

    Raises:
        ConfigError: the directory or one of its keys cannot be read, or others can write it.
    """
    _check_directory(directory)
    trusted = {key.fingerprint: key.name for _, key in _keys(directory, _PUBLIC)}
    revoked = {key.fingerprint: key.name for _, key in _keys(directory, _REVOKED)}
    return Trust(trusted, {each: revoked[each] for each in revoked if each not in trusted})


def add_trust(directory: Path, key: PublicKey) -> Path:
    """Trust this key from now on; the file that says so.

    Raises:
        ConfigError: it is trusted already, was revoked, or the directory cannot be used.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    trust = read_trust(directory)
    if key.fingerprint in trust.trusted:
        raise ConfigError(f"the key {key.fingerprint} is trusted already, as {key.name}")
    if key.fingerprint in trust.revoked:
        raise ConfigError(f"the key {key.fingerprint} was revoked; make a new one for {key.name}")
    path = directory / f"{key.name}.{key.fingerprint}{_PUBLIC}"
    _write(path, f'# Trusted as "{key.name}".\n{_text(key)}', 0o644)
    return path


def revoke(directory: Path, which: str) -> list[PublicKey]:
    """Trust the key of this fingerprint, or every key of this name, no longer.

    Raises:
        ConfigError: none is trusted under that, or the directory cannot be used.
    """
    read_trust(directory)
    found = [
        (path, key)
        for path, key in _keys(directory, _PUBLIC)
        if which in (key.name, key.fingerprint)
    ]
    if not found:
        raise ConfigError(f"{directory} trusts no key called {which!r:.80}")
    for path, key in found:
        os.replace(path, path.with_name(f"{key.name}.{key.fingerprint}{_REVOKED}"))
    return [key for _, key in found]


def _keys(directory: Path, suffix: str) -> Iterator[tuple[Path, PublicKey]]:
    for path in sorted(directory.iterdir()):
        if path.name.endswith(suffix) and not path.name.startswith("."):
            yield path, read_public(path)


def _check_directory(directory: Path) -> None:
    try:
        found = os.stat(directory)
        os.listdir(directory)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be read: {error.strerror}") from None
    _check_owner(directory, found, stat.S_IWGRP | stat.S_IWOTH, "write")


def _check_owner(path: Path, found: os.stat_result, banned: int, what: str) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path} belongs to user {found.st_uid}, who is neither us nor root")
    if found.st_mode & banned:
        loose = stat.S_IMODE(found.st_mode)
        raise ConfigError(f"others can {what} {path} (mode {loose:04o}); chmod go= {path}")


def _read(path: Path, banned: int, what: str) -> bytes:
    try:
        descriptor = os.open(path, _OPEN)
        with open(descriptor, "rb") as file:
            _check_owner(path, os.fstat(descriptor), banned, what)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(f"{path} is no file")
            return file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _fields(path: Path, content: bytes, wanted: tuple[str, ...]) -> dict[str, str]:
    """The fields of a key file. What is wrong is never quoted: it could be a secret."""
    try:
        fields = tomllib.loads(content.decode()) if len(content) <= _BYTES_MAX else {}
    except (ValueError, RecursionError):
        fields = {}
    if tuple(sorted(fields)) != wanted or not all(type(each) is str for each in fields.values()):
        raise ConfigError(f"{path} is no key: it must hold {', '.join(wanted)} and nothing else")
    try:
        check_name(fields["name"])
    except InvalidName:
        raise ConfigError(f"{path}: its name is no name of a peer") from None
    for side in wanted[1:]:
        _check_z85(path, side, fields[side])
    return fields


def _check_z85(path: Path, side: str, text: str) -> None:
    try:
        good = len(z85.decode(text)) == 32 and z85.encode(z85.decode(text)).decode() == text
    except (ValueError, LookupError, ArithmeticError, struct.error):
        good = False
    if not good:
        raise ConfigError(f"{path}: {side} is not 40 characters of Z85")


def _write(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, _CREATE, mode)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                os.fchmod(descriptor, mode)  # whatever the umask is
                file.write(text)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            path.unlink()  # half a key among the trusted would keep the broker from starting
            raise
    except FileExistsError:
        raise ConfigError(f"{path} is there already, and no key is written over") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _text(key: PublicKey) -> str:
    return f'name = "{key.name}"\npublic = "{key.public}"\n'


def _digest(public: str) -> str:
    return hashlib.blake2b(public.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).hexdigest()
