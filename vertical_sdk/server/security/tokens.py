"""Who may use a server: tokens, of which only digests are stored.

A token is 256 random bits and is shown once. Its SHA-256 is stored in a file that only its owner can read. A random token
cannot be guessed, so a slow hash, as passwords need it, would slow down every request and protect nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal, get_args

from vertical_sdk.errors import RegistryError
from vertical_sdk.json_text import parse_json
from vertical_sdk.paths import report_full_disk, write_whole

__all__ = ["FILE", "PREFIX", "SCOPES", "TOKEN_KEY", "Scope", "Token", "Tokens"]

Scope = Literal["read", "publish", "promote", "infer", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Of a registry: read: look up and download. publish: also publish and sign. promote: also move aliases, tag, revoke and clean up. Of a
server of specialists: infer: ask them. admin: also load, pin and unload them."""
INCLUDED: dict[Scope, tuple[Scope, ...]] = {"read": ("publish", "promote"), "infer": ("admin",)}
"""A scope → those that include it."""
FILE = "tokens.json"
PREFIX = "vertical_"
"""The start of every token, so that people and scanners recognize it."""
TOKEN_KEY = "vertical.token"  # noqa: S105
"""The key of a request's Token in its ASGI scope."""
NAME = re.compile(r"[a-z0-9][a-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """What is stored of a token; the token itself is not.

    name     appears in the registry's log as the author
    sha256   of the token, in hex
    created  ISO 8601, UTC
    expires  ISO 8601, UTC; None means never
    """

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: str
    expires: str | None = None

    @property
    def expired(self) -> bool:
        """Whether it has expired."""
        return self.expires is not None and datetime.fromisoformat(self.expires) <= datetime.now(timezone.utc)

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope, or one that includes it."""
        return not {scope, *INCLUDED.get(scope, ())}.isdisjoint(self.scopes)


class Tokens:
    """The tokens in a file. Many threads and processes may use it; a change is visible to the others at their next read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int, int] | None = None
        self._known: tuple[Token, ...] = ()
        self._seen = False

    def list(self) -> tuple[Token, ...]:
        """All tokens, sorted by name.

        Raises RegistryError if the file is malformed or other users may read it: then no token is accepted.
        """
        with self._lock:
            try:
                status = self.path.stat()
            except FileNotFoundError:
                self._stamp, self._known = None, ()
                return ()
            except OSError as error:
                raise RegistryError(f"cannot be read ({error.strerror}).", where=self.path) from None
            self._seen = True
            if os.name != "nt" and status.st_mode & 0o077:  # at every read: it may be opened to others after the first one
                message = "other users may read or write this file. Run `chmod 600` on it."
                raise RegistryError(message, where=self.path)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if stamp != self._stamp:
                self._known, self._stamp = _read_tokens(self.path), stamp
            return self._known

    def find(self, secret: str) -> Token | None:
        """The token with this secret; None if it is unknown or has expired. All cases take the same time."""
        sha256 = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        match = None
        self.check()
        for token in self.list():
            if hmac.compare_digest(token.sha256, sha256):
                match = token
        return None if match is None or match.expired else match

    def check(self) -> None:
        """Raise RegistryError if the file cannot be read, was there and is gone, or its folder is missing."""
        self.list()
        if not self.path.exists() and (self._seen or not self.path.parent.is_dir()):
            raise RegistryError("cannot be found. Mount or restore its folder, or create new tokens.", where=self.path)

    def add(self, name: str, scopes: Collection[str], *, days: int | None = None) -> str:
        """Create a token and return it; it cannot be shown again.

        days  after which it expires; None means never

        Raises RegistryError for a bad name or scope, or a name that is taken.
        """
        if not NAME.fullmatch(name):
            raise RegistryError(
                f"{name!r} cannot be a token's name: write a-z, 0-9, '_', '.', '@' and '-', at most 64 characters."
            )
        wrong = sorted(set(scopes) - set(SCOPES))
        if wrong or not scopes:
            what = f"{wrong[0]!r} is not a scope" if wrong else "has no scope"
            raise RegistryError(f"token {name}: {what}. Scopes: {', '.join(SCOPES)}.")
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(timezone.utc)
        token = Token(
            name=name,
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            created=now.isoformat(timespec="seconds"),
            expires=None if days is None else (now + timedelta(days=days)).isoformat(timespec="seconds"),
        )
        with report_full_disk(self.path), self._lock_file():
            known = self.list()
            if any(existing.name == name for existing in known):
                raise RegistryError(f"there is a token called {name!r} already. Remove it first, or choose another name.")
            self._write([*known, token])
        return secret

    def remove(self, name: str) -> None:
        """Remove a token; a running server rejects it from then on. Raises RegistryError if there is no token of this name."""
        with report_full_disk(self.path), self._lock_file():
            known = self.list()
            left = [token for token in known if token.name != name]
            if len(left) == len(known):
                raise RegistryError(f"no token is called {name!r}. Tokens: {', '.join(t.name for t in known) or 'none'}.")
            self._write(left)

    def _lock_file(self) -> contextlib.AbstractContextManager[object]:
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self.path}.lock")

    def _write(self, tokens: Iterable[Token]) -> None:
        rows = [asdict(token) for token in sorted(tokens, key=lambda token: token.name)]
        self._seen = True
        write_whole(self.path, json.dumps({"tokens": rows}, indent=1) + "\n", mode=0o600)


def _read_tokens(path: Path) -> tuple[Token, ...]:
    try:
        rows = parse_json(path.read_bytes())["tokens"]
        tokens = tuple(Token(**{**row, "scopes": tuple(row["scopes"])}) for row in rows)
        if all(len(t.sha256) == 64 and set(t.scopes) <= set(SCOPES) and (t.expired or True) for t in tokens):
            return tokens
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise RegistryError("does not contain tokens. Restore a copy, or remove it and create new tokens.", where=path)
