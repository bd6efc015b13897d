"""Who may use a server: tokens, of which only digests are kept.

A token is 256 random bits and is shown once. Its SHA-256 is kept, in a file that nobody else can read: there are no words to guess
behind a random token, so a slow hash, as passwords need it, would cost every request something and protect nothing.
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
from vertical_sdk.paths import report_full_disk, write_whole

__all__ = ["FILE", "PREFIX", "SCOPES", "Scope", "Token", "Tokens"]

Scope = Literal["read", "publish", "promote"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""read: look up and download. publish: also publish and sign. promote: also move aliases, tag, revoke and clean up. The last two
include the first, and not each other."""
FILE = "tokens.json"
PREFIX = "vertical_"
"""Before a token, so that people and scanners know what it is."""
NAME = re.compile(r"[a-z0-9][a-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; the token itself is not.

    name     stands in the registry's log as the one who published, promoted or revoked
    sha256   of the token, in hex
    created  ISO 8601, UTC
    expires  likewise; None where it never does
    """

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: str
    expires: str | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and datetime.fromisoformat(self.expires) <= datetime.now(timezone.utc)

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope; everyone who may do more may read."""
        return scope in self.scopes or scope == "read"


class Tokens:
    """The tokens in a file. Many threads and processes may use it; what one changes, the others see with their next look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._known: tuple[Token, ...] = ()

    def list(self) -> tuple[Token, ...]:
        """All of them, by name.

        Raises RegistryError where the file is not what it should be, or others may read it: then nobody is let in.
        """
        with self._lock:
            try:
                found = self.path.stat()
            except FileNotFoundError:
                self._stamp, self._known = None, ()
                return ()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            if stamp != self._stamp:
                if os.name != "nt" and found.st_mode & 0o077:
                    raise RegistryError(f"{self.path}: others than its owner may use it. Run: chmod 600 {self.path}")
                self._known, self._stamp = _read(self.path), stamp
            return self._known

    def find(self, secret: str) -> Token | None:
        """The token that somebody shows; None where it is none, or its time is over. Takes as long whichever it is."""
        shown = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for token in self.list():
            if hmac.compare_digest(token.sha256, shown):
                found = token
        return None if found is None or found.expired else found

    def add(self, name: str, scopes: Collection[str], *, days: int | None = None) -> str:
        """Make a token and return it; it can never be seen again.

        days  after which it ends; never, where it is None

        Raises RegistryError for a bad name or scope, or a name that is taken.
        """
        if not NAME.fullmatch(name):
            raise RegistryError(
                f"{name!r} cannot be a token's name: write a-z, 0-9, '_', '.', '@' and '-', at most 64 characters."
            )
        wrong = sorted(set(scopes) - set(SCOPES))
        if wrong or not scopes:
            what = f"{wrong[0]!r} is no scope" if wrong else "has no scope"
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
        with report_full_disk(self.path), self._changing():
            known = self.list()
            if any(name == other.name for other in known):
                raise RegistryError(f"there is a token called {name!r} already. Remove it first, or choose another name.")
            self._write([*known, token])
        return secret

    def remove(self, name: str) -> None:
        """Take a token away; a running server refuses it from then on. Raises RegistryError where there is none of this name."""
        with report_full_disk(self.path), self._changing():
            known = self.list()
            left = [token for token in known if token.name != name]
            if len(left) == len(known):
                raise RegistryError(f"no token is called {name!r}. Tokens: {', '.join(t.name for t in known) or 'none'}.")
            self._write(left)

    def _changing(self) -> contextlib.AbstractContextManager[object]:
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self.path}.lock")

    def _write(self, tokens: Iterable[Token]) -> None:
        kept = [asdict(token) for token in sorted(tokens, key=lambda token: token.name)]
        write_whole(self.path, json.dumps({"tokens": kept}, indent=1) + "\n", mode=0o600)


def _read(path: Path) -> tuple[Token, ...]:
    try:
        rows = json.loads(path.read_bytes())["tokens"]
        tokens = tuple(Token(**{**row, "scopes": tuple(row["scopes"])}) for row in rows)
        if all(len(t.sha256) == 64 and set(t.scopes) <= set(SCOPES) and (t.expired or True) for t in tokens):
            return tokens
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise RegistryError(f"{path}: is not a file of tokens. Put back a copy, or remove it and make new tokens.")
