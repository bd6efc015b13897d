"""The store that is behind a server (`vertical registry serve`), at http:// or https://.

The token comes from `$VERTICAL_TOKEN` and goes to that server only: redirects are not followed. It stands in no address and no
message. What is downloaded is checked against its digests (`registry.blob_store`), so that the server need not be believed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from vertical_sdk import __version__, errors
from vertical_sdk.errors import CorruptAdapter, DigestMismatch, OfflineError, RegistryError, SourceError, VerticalError
from vertical_sdk.registry.blob_store import BlobStore, open_downloads, parse_manifest
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference, check_name
from vertical_sdk.registry.store import Entry, Event, Manifest, Stored, canonical_json, manifest_digest

__all__ = ["HttpStore", "http", "https"]

API = "/api/v1"
PAGE = 1000
BLOCK = 1 << 20
LARGEST = 64 << 20
"""Bytes of an answer that is no file."""
TRIES = 5
FIRST_WAIT = 0.25
"""Seconds before the second try; each wait is twice the last."""
LONGEST_WAIT = 60.0
AGAIN = {429, 502, 503, 504}
BUSY = 429
"""The server has done nothing yet, so that everything may be asked again."""
TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
PATIENCE = httpx2.Timeout(900.0, connect=10.0)
"""For what takes a server long: to publish, to check, to clean up."""
DIGEST = re.compile(r"[0-9a-f]{64}")
OURS = "vertical."
REVOKED = f"{OURS}revoked"
SIGNATURE = f"{OURS}signature."


def http(rest: str) -> HttpStore:
    """The store at http://…"""
    return HttpStore(f"http://{rest}")


def https(rest: str) -> HttpStore:
    """The store at https://…"""
    return HttpStore(f"https://{rest}")


class _Connections:
    """Those of one thread in one process, closed when the thread is gone."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.process = os.getpid()

    def __del__(self) -> None:
        if self.process == os.getpid():  # after a fork, they are the parent's
            self.client.close()


class HttpStore:
    """A registry behind a server; its methods are described in `Store`. Who did what is told by the token, not by the caller.

    Every method raises OfflineError where the server cannot be reached, and what the server raised where it refused.
    """

    def __init__(self, location: str) -> None:
        parts = urlsplit(location)
        try:
            fine = bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            fine = False
        if not fine or parts.username is not None or parts.query or parts.fragment:
            raise RegistryError(
                "the address of a registry is https://HOST, https://HOST:PORT or https://HOST/PATH, and nothing more. "
                "A token is set as $VERTICAL_TOKEN."
            )
        self.location = location.rstrip("/")
        self._host = parts.hostname or ""
        self._held = threading.local()
        self._manifests: dict[str, Manifest] = {}

    def put(
        self,
        name: str,
        files: Mapping[str, Path],
        manifest: Manifest,
        *,
        record: Mapping[str, Any],
        tags: Mapping[str, str],
        event: Event,
    ) -> Entry:
        """Upload what the server has not, and let it publish: it makes every check and the record itself, and its clock counts."""
        digest = manifest_digest(manifest)
        plain, ours = _apart(tags)
        wanted = {
            "name": name,
            "files": {path: {"sha256": file.sha256, "size": file.size} for path, file in manifest.items()},
            "tags": plain,
            "reason": event.why or str(record.get("reason") or ""),
            "force": bool(record.get("forced")),
        }
        paths = {file.sha256: path for path, file in manifest.items()}
        for _ in range(TRIES):
            answer = self._ask("POST", "/publish", json=wanted, timeout=PATIENCE, missing=True)
            if "missing" not in answer:
                break
            for sha256 in paths.keys() & set(answer["missing"]):
                self._upload(digest, files[paths[sha256]], manifest[paths[sha256]])
        else:
            raise SourceError(f"{self.location} asks for the same files again and again. Tell whoever runs it.")
        entry = self._entry(answer)
        if entry.digest != digest:
            raise SourceError(f"{self.location} published {entry.digest[:12]}… where {digest[:12]}… was uploaded.")
        marks = {key: value for key, value in ours.items() if entry.tags.get(key) != value}
        if marks:
            self._mark(name, entry.number, marks)
            entry = self.find(Reference(name, version=entry.number))[0]
        return entry

    def find(self, reference: Reference) -> list[Entry]:
        """The versions that a reference may mean."""
        return [self._entry(row) for row in self._get("/find", reference=str(reference))]

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """The names that begin so."""
        found = self._pages("/names", {"prefix": prefix, "after": after}, limit, lambda name: {"after": name})
        with self._understood():
            return [check_name(name) for name in found]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """The newest version of each of these names, with the name's aliases."""
        asked = {"prefix": prefix, "after": after}
        found = self._pages("/newest", asked, limit, lambda row: {"after": row["entry"]["name"]})
        with self._understood():
            return [(self._entry(row["entry"]), dict(row["aliases"])) for row in found]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """The newest versions of a name below a number, oldest first."""
        found: list[Entry] = []
        while limit is None or len(found) < limit:
            page = PAGE if limit is None else min(PAGE, limit - len(found))
            below = {} if before is None else {"before": before}
            if before is not None and before < 2:
                break
            rows = [self._entry(row) for row in self._get("/versions", name=name, limit=page, **below)]
            found = rows + found
            if len(rows) < page:
                break
            before = rows[0].number
        return found

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """The versions that meet all conditions."""
        asked: dict[str, Any] = {"condition": [f"{c.key}{c.test}{c.value}" for c in conditions]}
        if after is not None:
            asked |= {"after_name": after[0], "after_number": after[1]}
        found = self._pages("/search", asked, limit, lambda row: {"after_name": row["name"], "after_number": row["number"]})
        return [self._entry(row) for row in found]

    def manifest(self, digest: str) -> Manifest:
        """The manifest with this digest; it cannot change, so that it is asked for once."""
        if digest not in self._manifests:
            rows = self._ask("GET", f"/manifests/{_hex(digest)}")
            with self._understood():
                content = canonical_json({path: Stored(**file) for path, file in rows.items()})
            self._manifests[digest] = parse_manifest(content, digest, f"{self.location}: sha256:{digest[:12]}…")
        return self._manifests[digest]

    def folder(self, digest: str) -> Path:
        """The folder of a version, downloaded and checked where it is not here yet."""
        manifest = self.manifest(digest)
        paths = {file.sha256: path for path, file in manifest.items()}
        return _served().fetch_tree(digest, manifest, lambda file, part: self._download(digest, paths[file.sha256], file, part))

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and swap."""
        move = {"name": name, "alias": alias, "version": number, "expected": expected}
        self._ask("POST", "/aliases", json={**move, "why": event.why, "evidence": event.evidence}, once=True)

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set tags, or take those away that are None; signatures and revocations have their own ways."""
        plain, ours = _apart(tags)
        if plain:
            self._ask("POST", "/tags", json={"name": name, "version": number, "tags": plain, "why": event.why}, once=True)
        self._mark(name, number, ours)

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """The log of a name, or a part of it."""
        later = count(skip + PAGE, PAGE)
        asked = {"name": name, "skip": skip, "newest_first": newest_first}
        found = self._pages("/history", asked, limit, lambda _: {"skip": next(later)})
        with self._understood():
            return [Event(**row) for row in found]

    def problems(self) -> list[str]:
        """What is wrong with the store behind the server; needs the scope promote."""
        return [str(line) for line in self._ask("GET", "/problems", timeout=PATIENCE)]

    def gc(self) -> int:
        """Remove what no version uses from the store behind the server; needs the scope promote."""
        with self._understood():
            return int(self._ask("POST", "/gc", timeout=PATIENCE)["bytes"])

    def close(self) -> None:
        """Close this thread's connections."""
        self._held.mine = None

    def _mark(self, name: str, number: int, tags: Mapping[str, str | None]) -> None:
        """Set tags of the registry's own: revoke a version, or keep its signatures."""
        for key, value in tags.items():
            version = {"name": name, "version": number}
            if value is None or not (key == REVOKED or key.startswith(SIGNATURE)):
                raise RegistryError(f"{name}@{number}: a server does not take {key} away, nor knows another tag of this kind.")
            if key == REVOKED:
                self._ask("POST", "/revocations", json={**version, "reason": value}, once=True)
            else:
                signed = {**version, "fingerprint": key.removeprefix(SIGNATURE), "signature": value}
                self._ask("POST", "/signatures", json=signed)

    def _upload(self, digest: str, path: Path, file: Stored) -> None:
        changed = CorruptAdapter(f"{path} changed while it was being published. Publish it when its run is over.")
        if path.stat().st_size != file.size:
            raise changed
        headers = {"Content-Length": str(file.size), "Content-Type": "application/octet-stream"}
        try:
            address = f"/uploads/{digest}/{file.sha256}"
            self._ask("PUT", address, body=lambda: _blocks(path), headers=headers, timeout=PATIENCE)
        except (DigestMismatch, httpx2.LocalProtocolError):
            raise changed from None

    def _download(self, digest: str, path: str, file: Stored, part: Path) -> None:
        """Bring a file, or the rest of it; goes on where it was cut as long as something comes."""
        failures = 0
        while True:
            have = part.stat().st_size if part.exists() else 0
            if part.exists() and have >= file.size:
                return
            headers = {"Range": f"bytes={have}-", "If-Range": f'"{file.sha256}"'} if have else {}
            answer, _ = self._send("GET", f"/files/{_hex(digest)}/{quote(path)}", headers=headers, read=False)
            try:
                with contextlib.closing(answer):
                    if answer.status_code not in {200, 206}:
                        raise self._refused(answer, _read(answer))
                    with part.open("ab" if answer.status_code == 206 else "wb") as target:
                        for block in answer.iter_raw():  # as they come: what is collected first is lost in a cut
                            target.write(block)
                            if target.tell() > file.size:
                                break  # the depot says what is wrong with it
                    return
            except httpx2.TransportError:
                now = part.stat().st_size if part.exists() else 0
                failures = 0 if now > have else failures + 1
                if failures >= TRIES:
                    return  # the depot says how much is missing
                sleep(FIRST_WAIT * 2**failures)

    def _pages(
        self, path: str, asked: Mapping[str, Any], limit: int | None, behind: Callable[[Any], Mapping[str, Any]]
    ) -> Iterator[Any]:
        """All rows of a list, page by page; `behind` says after which row the next page begins."""
        left = limit
        while left is None or left > 0:
            page = PAGE if left is None else min(PAGE, left)
            rows = self._get(path, **asked, limit=page)
            yield from rows
            if len(rows) < page:
                return
            left = None if left is None else left - len(rows)
            with self._understood():
                asked = {**asked, **behind(rows[-1])}

    def _get(self, path: str, **asked: Any) -> list[Any]:
        rows = self._ask("GET", path, params=asked)
        if not isinstance(rows, list):
            raise self._strange()
        return rows

    def _ask(self, method: str, path: str, *, missing: bool = False, **what: Any) -> Any:
        """The JSON that the server answers with. `missing`: an answer that says which files are missing is no error."""
        answer, content = self._send(method, path, **what)
        told = _json(content)
        if missing and answer.status_code == 409 and isinstance(told, dict) and isinstance(told.get("missing"), list):
            return told
        if answer.status_code != 200:
            raise self._refused(answer, content)
        if told is None:
            raise self._strange()
        return told

    def _send(
        self,
        method: str,
        path: str,
        *,
        once: bool = False,
        read: bool = True,
        body: Callable[[], Iterator[bytes]] | None = None,
        **what: Any,
    ) -> tuple[httpx2.Response, bytes]:
        """An answer and its body, after as many tries as it takes. Raises OfflineError, SourceError.

        once  what is asked must not be done twice: it is asked again only where the server cannot have begun
        read  without it, the body is left for the caller to read, and the answer to close
        body  makes the bytes that are sent, anew for every try
        """
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            wait = FIRST_WAIT * 2**attempt
            client = self._client()
            sent: dict[str, Any] = {} if body is None else {"content": body()}
            try:
                answer = client.send(client.build_request(method, f"{self.location}{API}{path}", **sent, **what), stream=True)
                status = answer.status_code
                if status in AGAIN and not last and (status == BUSY or not once):
                    wait = max(wait, _retry_after(answer))
                    answer.close()
                elif 300 <= status < 400:
                    answer.close()
                    raise SourceError(
                        f"{self.location} sends us on to {answer.headers.get('location')!r}, and a token goes nowhere but where it "
                        "was sent. Write the address where the registry itself is."
                    )
                elif not read:
                    return answer, b""
                else:
                    with contextlib.closing(answer):
                        return answer, _read(answer)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise SourceError(
                        f"{self.location}: its certificate is not trusted here ({error}). "
                        "Set SSL_CERT_FILE to the certificate of who signed it."
                    ) from None
                if last:
                    raise OfflineError(f"{self.location} cannot be reached ({error}). Is the server running?") from None
            except httpx2.LocalProtocolError:
                raise
            except httpx2.TransportError as error:
                if once:
                    raise SourceError(
                        f"{self.location} did not answer ({type(error).__name__}), and may have done what it was asked. "
                        "Look at the history before you ask again."
                    ) from None
                if last:
                    raise OfflineError(f"{self.location} does not answer ({type(error).__name__}: {error}).") from None
            sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _client(self) -> httpx2.Client:
        """This thread's connections, in this process."""
        mine: _Connections | None = getattr(self._held, "mine", None)
        if mine is None or mine.process != os.getpid():
            headers = {"User-Agent": f"vertical_sdk/{__version__}", "Accept-Encoding": "identity"}
            token = os.environ.get("VERTICAL_TOKEN", "").strip()
            if token:
                self._check_token(token)
                headers["Authorization"] = f"Bearer {token}"
            self._held.mine = mine = _Connections(httpx2.Client(headers=headers, timeout=TIMEOUT, verify=trusted()))
        return mine.client

    def _check_token(self, token: str) -> None:
        if not re.fullmatch(r"[!-~]+", token):
            raise RegistryError("$VERTICAL_TOKEN is no token: it has spaces, or signs that are not ASCII.")
        if self.location.startswith("http:") and not _here(self._host) and not os.environ.get("VERTICAL_PLAIN_HTTP"):
            raise RegistryError(
                f"{self.location}: a token is not sent over http://, where everybody on the way can read it. Write https://, "
                "or set VERTICAL_PLAIN_HTTP=1 where the network is yours alone."
            )

    def _refused(self, answer: httpx2.Response, content: bytes) -> VerticalError:
        """The error that the server had, as if it had happened here."""
        told = _json(content)
        try:
            kind, message = str(told["error"]["type"]), str(told["error"]["message"])
        except (TypeError, KeyError):
            return SourceError(
                f"{self.location} answered {answer.status_code}, and not as a registry does. Is the address right?"
            )
        found = getattr(errors, kind, None)
        known = found if isinstance(found, type) and issubclass(found, VerticalError) else RegistryError
        if answer.status_code in {401, 403, 413, 429, 500}:
            message = f"{self.location}: {message}"
        return known.__new__(known, message)  # some have another __init__; the message is whole already

    def _entry(self, row: Any) -> Entry:
        with self._understood():
            entry = Entry(**{**row, "aliases": tuple(row["aliases"])})
            check_name(entry.name)
            _hex(entry.digest)
            if entry.number < 1:
                raise ValueError(entry.number)
            return entry

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, KeyError, ValueError, AttributeError, IndexError):
            raise self._strange() from None

    def _strange(self) -> SourceError:
        return SourceError(
            f"{self.location} does not answer as a registry does. Is the address right, and the server as new as this?"
        )


def _served() -> BlobStore:
    """Where files are kept that come from servers.

    Apart from what other stores download: a server on this machine may have to download a file that we wait for, and would wait for us.
    """
    return BlobStore(open_downloads().root / "served")


@lru_cache(maxsize=1)
def trusted() -> ssl.SSLContext:
    """The certificates that this machine trusts, or those in `$SSL_CERT_FILE`."""
    return httpx2.create_ssl_context()


def _apart(tags: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user's tags, and the registry's own."""
    ours = {key: value for key, value in tags.items() if key.startswith(OURS)}
    return {key: value for key, value in tags.items() if key not in ours}, ours


def _hex(digest: str) -> str:
    """The digest itself, which becomes part of a path. Raises ValueError where it is none."""
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError(digest)
    return digest


def _here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _read(answer: httpx2.Response) -> bytes:
    """The body of an answer that is no file. Raises SourceError where it has no end."""
    body = bytearray()
    for block in answer.iter_raw(BLOCK):
        body += block
        if len(body) > LARGEST:
            raise SourceError(f"{answer.url.host} answers with more than {LARGEST} bytes.")
    return bytes(body)


def _json(content: bytes) -> Any:
    """What a body says; None where it is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _retry_after(answer: httpx2.Response) -> float:
    stated = answer.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(stated)) if stated.isdigit() else 0.0
