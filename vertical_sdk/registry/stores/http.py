"""The store of a registry server (`vertical registry serve`), at http:// or https://.

The token comes from `$VERTICAL_TOKEN` and goes to that server only: redirects are not followed. No address and no message contains it.
Every download is checked against its digests (`registry.blob_store`), so the server does not have to be trusted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any, get_args
from urllib.parse import quote, urlsplit

import httpx2

from vertical_sdk import __version__, errors
from vertical_sdk.errors import CorruptAdapter, DigestMismatch, OfflineError, RegistryError, SourceError, VerticalError
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry.blob_store import BlobStore, open_downloads, parse_manifest
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference, check_name
from vertical_sdk.registry.store import (
    BY_FORCE,
    OURS,
    PURGED,
    REVOCATION,
    REVOKED,
    SIGNATURE,
    Entry,
    Erased,
    Event,
    Manifest,
    MoveAction,
    Stored,
    canonical_json,
    manifest_digest,
)

__all__ = ["HttpStore", "open_http", "open_https", "trusted_certificates"]

API = "/api/v1"
PAGE = 1000
BLOCK = 1 << 20
LARGEST = 32 << 20
"""Bytes of the largest answer that is not a file."""
MOST_PARTS = 1_000_000
"""Lists, objects and their members in an answer: each takes much more memory than text."""
LOST = re.compile("disconnected|closed connection")
"""In the message of a protocol error that another try may not have."""
LONGEST_MESSAGE = 10_000
"""Characters of the longest message of a server that is shown."""
TRIES = 5
FIRST_WAIT = 0.25
"""Seconds before the second try; each wait is twice the last."""
LONGEST_WAIT = 60.0
RETRIED = {429, 500, 502, 503, 504}
BUSY = 429
"""The server has done nothing, so every request may be repeated."""
TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
ANSWER_TIME = 120.0
"""Seconds for the body of an answer that is not a file, and for a download before it must have SLOWEST."""
SLOWEST = 1000
"""Bytes a second that a download must have on average."""
PATIENCE = httpx2.Timeout(900.0, connect=10.0)
"""For slow requests: publishing, checking and gc."""
DIGEST = re.compile(r"[0-9a-f]{64}")


def open_http(rest: str) -> HttpStore:
    """Open the store at http://REST."""
    return HttpStore(f"http://{rest}")


def open_https(rest: str) -> HttpStore:
    """Open the store at https://REST."""
    return HttpStore(f"https://{rest}")


class _Connections:
    """The connections of one thread in one process. They are closed when the thread ends."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.process = os.getpid()
        weakref.finalize(self, _close, client, self.process)


def _close(client: httpx2.Client, process: int) -> None:
    """Close the connections that this process opened: after a fork, they belong to the parent."""
    if process == os.getpid():
        client.close()


class HttpStore:
    """A registry on a server; its methods are described in `Store`. The server takes the user from the token, not from the caller.

    Every method raises OfflineError if the server cannot be reached, and the server's own error if it refuses the request.
    """

    def __init__(self, location: str) -> None:
        try:
            parts = urlsplit(location)
            httpx2.URL(location)
            valid = bool((parts.hostname or "").encode("idna")) and (parts.port or 1) > 0
            valid = valid and not (parts.username is not None or parts.query or parts.fragment)
        except (ValueError, httpx2.InvalidURL):
            valid = False
        if not valid:
            raise RegistryError(
                "wrong address of a registry. Write https://HOST, https://HOST:PORT or https://HOST/PATH, and nothing more. "
                "Set a token as $VERTICAL_TOKEN."
            )
        self.location = location.rstrip("/")
        self._host = parts.hostname or ""
        self._thread_state = threading.local()
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
        """Upload the files that the server does not have, and let it publish. The server makes all checks, the record and the date."""
        digest = manifest_digest(manifest)
        user_tags, registry_tags = _split_tags(tags)
        request = {
            "name": name,
            "files": {path: {"sha256": file.sha256, "size": file.size} for path, file in manifest.items()},
            "tags": user_tags,
            "reason": event.why or str(record.get("reason") or ""),
            "force": bool(record.get("forced")),
        }
        paths = {file.sha256: path for path, file in manifest.items()}
        for _ in range(TRIES):
            response = self._request("POST", "/publish", json=request, timeout=PATIENCE, missing=True)
            if "missing" not in response:
                break
            for sha256 in paths.keys() & set(response["missing"]):
                self._upload(digest, files[paths[sha256]], manifest[paths[sha256]])
        else:
            raise SourceError(
                f"{self.location}: the server requests the same files again and again. Report this to its administrator."
            )
        entry = self._parse_entry(response)
        if (entry.name, entry.digest) != (name, digest):
            raise SourceError(
                f"{self.location}: the server published {entry.name} with {entry.digest[:12]}…, but {name} with {digest[:12]}… was uploaded. "
                "Report this to its administrator."
            )
        missing = {key: value for key, value in registry_tags.items() if entry.tags.get(key) != value}
        if missing:
            self._set_registry_tags(name, entry.number, missing)
            entry = self.find(Reference(name, version=entry.number))[0]
        return entry

    def find(self, reference: Reference) -> list[Entry]:
        """Find the versions that a reference may mean."""
        return [self._parse_entry(row) for row in self._get_rows("/find", reference=str(reference))]

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """List the names with a prefix."""
        names = self._iterate_pages("/names", {"prefix": prefix, "after": after}, limit, lambda name: {"after": name})
        with self._check_format():
            return [check_name(name) for name in names]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """List the newest version of each of these names, with the name's aliases."""
        query = {"prefix": prefix, "after": after}
        rows = self._iterate_pages("/newest", query, limit, lambda row: {"after": row["entry"]["name"]})
        with self._check_format():
            return [(self._parse_entry(row["entry"]), dict(row["aliases"])) for row in rows]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """List the newest versions of a name below a number, oldest first."""
        entries: list[Entry] = []
        while limit is None or len(entries) < limit:
            page = PAGE if limit is None else min(PAGE, limit - len(entries))
            below = {} if before is None else {"before": before}
            if before is not None and before < 2:
                break
            older = [self._parse_entry(row) for row in self._get_rows("/versions", name=name, limit=page, **below)]
            if older and before is not None and older[0].number >= before:
                raise self._unexpected_answer()  # it would never end
            entries = older + entries
            if len(older) < page:
                break
            before = older[0].number
        return entries

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """List the versions that meet all conditions."""
        query: dict[str, Any] = {"condition": [f"{c.key}{c.test}{c.value}" for c in conditions]}
        if after is not None:
            query |= {"after_name": after[0], "after_number": after[1]}
        rows = self._iterate_pages(
            "/search", query, limit, lambda row: {"after_name": row["name"], "after_number": row["number"]}
        )
        return [self._parse_entry(row) for row in rows]

    def manifest(self, digest: str) -> Manifest:
        """Read the manifest with this digest. It cannot change, so it is requested once."""
        if digest not in self._manifests:
            rows = self._request("GET", f"/manifests/{_check_digest(digest)}")
            with self._check_format():
                content = canonical_json({path: Stored(**file) for path, file in rows.items()})
            self._manifests[digest] = parse_manifest(content, digest, f"{self.location}: sha256:{digest[:12]}…")
        return self._manifests[digest]

    def folder(self, digest: str) -> Path:
        """A local folder with the files of a version. Downloads and checks them if they are missing."""
        manifest = self.manifest(digest)
        paths = {file.sha256: path for path, file in manifest.items()}
        return _server_downloads().fetch_tree(
            digest, manifest, lambda file, part: self._download(digest, paths[file.sha256], file, part)
        )

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and swap."""
        move = {"name": name, "alias": alias, "version": number, "expected": expected}
        action = event.action.removesuffix(BY_FORCE)
        if action in get_args(MoveAction):
            move["action"] = action
        if event.action.endswith(BY_FORCE):
            move["force"] = True
        self._request("POST", "/aliases", json={**move, "why": event.why, "evidence": event.evidence}, once=True)

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set a version's tags, or remove those that are None. Signatures and revocations have their own requests."""
        user_tags, registry_tags = _split_tags(tags)
        if user_tags:
            self._request(
                "POST", "/tags", json={"name": name, "version": number, "tags": user_tags, "why": event.why}, once=True
            )
        self._set_registry_tags(name, number, registry_tags)

    def erase(self, name: str, number: int) -> Erased:
        """Refuse: files are removed on the server's machine only."""
        raise self._cannot_purge(name, number)

    def _cannot_purge(self, name: str, number: int) -> RegistryError:
        return RegistryError(
            f"{self.location}: {name}@{number} can only be purged by the operator, on the server's machine: "
            f"`vertical registry purge {name}@{number} --reason TEXT --registry FOLDER`. The server may run meanwhile."
        )

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """Read the log of a name, or a part of it."""
        next_skip = count(skip + PAGE, PAGE)
        query = {"name": name, "skip": skip, "newest_first": newest_first}
        rows = self._iterate_pages("/history", query, limit, lambda _: {"skip": next(next_skip)})
        with self._check_format():
            return [Event(**row) for row in rows]

    def problems(self) -> list[str]:
        """List what is wrong with the server's store. Needs the scope promote."""
        return [str(line) for line in self._request("GET", "/problems", timeout=PATIENCE)]

    def gc(self) -> int:
        """Remove files that no version uses from the server's store. Needs the scope promote."""
        with self._check_format():
            return int(self._request("POST", "/gc", timeout=PATIENCE)["bytes"])

    def close(self) -> None:
        """Close this thread's connections."""
        self._thread_state.connections = None

    def _set_registry_tags(self, name: str, number: int, tags: Mapping[str, str | None]) -> None:
        """Set the registry's own tags: revoke a version, or add its signatures."""
        for key, value in tags.items():
            version = {"name": name, "version": number}
            if key == PURGED:
                raise self._cannot_purge(name, number)
            if value is None or not (key == REVOKED or key.startswith((SIGNATURE, REVOCATION))):
                raise RegistryError(
                    f"{name}@{number}: a server only sets {REVOKED}, {REVOCATION}… and {SIGNATURE}…, and removes none of them. "
                    f"Leave out the tag {key}."
                )
            if key == REVOKED:
                self._request("POST", "/revocations", json={**version, "reason": value}, once=True)
            elif key.startswith(REVOCATION):
                self._request("POST", "/revocations", json={**version, "statement": value}, once=True)
            else:
                signed = {**version, "fingerprint": key.removeprefix(SIGNATURE), "signature": value}
                self._request("POST", "/signatures", json=signed)

    def _upload(self, digest: str, path: Path, file: Stored) -> None:
        changed = CorruptAdapter(
            "the file changed while it was being published. Publish it after its run has ended.", where=path
        )
        if path.stat().st_size != file.size:
            raise changed
        headers = {"Content-Length": str(file.size), "Content-Type": "application/octet-stream"}
        try:
            address = f"/uploads/{digest}/{file.sha256}"
            self._request("PUT", address, body=lambda: _read_blocks(path), headers=headers, timeout=PATIENCE)
        except (DigestMismatch, httpx2.LocalProtocolError):
            raise changed from None

    def _download(self, digest: str, path: str, file: Stored, part: Path) -> None:
        """Download a file, or the rest of it. After a broken connection it continues, as long as each try brings some bytes.

        A download that stays too slow ends, and the blob store reports how much is missing.
        """
        failures, start = 0, monotonic()
        first = part.stat().st_size if part.exists() else 0

        def is_too_slow(size: int) -> bool:
            return monotonic() - start > ANSWER_TIME + max(0, size - first) / SLOWEST

        while True:
            size = part.stat().st_size if part.exists() else 0
            if (part.exists() and size >= file.size) or is_too_slow(size):
                return
            headers = {"Range": f"bytes={size}-", "If-Range": f'"{file.sha256}"'} if size else {}
            response, _ = self._send("GET", f"/files/{_check_digest(digest)}/{quote(path)}", headers=headers, read=False)
            try:
                with contextlib.closing(response):
                    if response.status_code not in {200, 206}:
                        raise self._server_error(response, _read_body(response))
                    with part.open("ab" if response.status_code == 206 else "wb") as target:
                        for (
                            block
                        ) in response.iter_raw():  # in blocks as received: a larger buffer would be lost with the connection
                            target.write(block)
                            if target.tell() > file.size or is_too_slow(target.tell()):
                                break  # the blob store reports it
                    return
            except httpx2.TransportError:
                new_size = part.stat().st_size if part.exists() else 0
                failures = 0 if new_size > size else failures + 1
                if failures >= TRIES:
                    return  # the blob store reports how much is missing
                sleep(FIRST_WAIT * 2**failures)

    def _iterate_pages(
        self, path: str, query: Mapping[str, Any], limit: int | None, next_query: Callable[[Any], Mapping[str, Any]]
    ) -> Iterator[Any]:
        """Yield all rows of a list, page by page. `next_query` returns the query for the page after a row."""
        left = limit
        while left is None or left > 0:
            page = PAGE if left is None else min(PAGE, left)
            rows = self._get_rows(path, **query, limit=page)
            yield from rows
            if len(rows) < page:
                return
            left = None if left is None else left - len(rows)
            with self._check_format():
                following = {**query, **next_query(rows[-1])}
                if following == query:  # it would never end
                    raise ValueError
                query = following

    def _get_rows(self, path: str, **query: Any) -> list[Any]:
        rows = self._request("GET", path, params=query)
        if not isinstance(rows, list) or len(rows) > PAGE:
            raise self._unexpected_answer()
        return rows

    def _request(self, method: str, path: str, *, missing: bool = False, **options: Any) -> Any:
        """Send a request and return the JSON of the answer. `missing`: an answer that lists missing files is not an error."""
        response, content = self._send(method, path, **options)
        document = _parse_json(content)
        if missing and response.status_code == 409 and isinstance(document, dict) and isinstance(document.get("missing"), list):
            return document
        if response.status_code != 200:
            raise self._server_error(response, content)
        if document is None:
            raise self._unexpected_answer()
        return document

    def _send(
        self,
        method: str,
        path: str,
        *,
        once: bool = False,
        read: bool = True,
        body: Callable[[], Iterator[bytes]] | None = None,
        **options: Any,
    ) -> tuple[httpx2.Response, bytes]:
        """Send a request, with retries, and return the answer and its body. Raises OfflineError, SourceError.

        once  the request must not be executed twice: it is repeated only if the server cannot have started it
        read  if False, the caller reads the body and closes the answer
        body  makes the bytes to send, once for each try
        """
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            wait = FIRST_WAIT * 2**attempt
            client = self._client()
            content: dict[str, Any] = {} if body is None else {"content": body()}
            try:
                response = client.send(
                    client.build_request(method, f"{self.location}{API}{path}", **content, **options), stream=True
                )
                status = response.status_code
                if status in RETRIED and not last and (status == BUSY or not once):
                    wait = max(wait, _read_retry_after(response))
                    response.close()
                elif 300 <= status < 400:
                    response.close()
                    raise SourceError(
                        f"{self.location}: the server redirects to {response.headers.get('location', '')[:200]!r}, but a token is not sent to "
                        "another address. Write the address of the registry itself."
                    )
                elif not read:
                    return response, b""
                else:
                    with contextlib.closing(response):
                        return response, _read_body(response)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise SourceError(
                        f"{self.location}: this machine does not trust its certificate ({error}). "
                        "Set SSL_CERT_FILE to the certificate of the authority that signed it."
                    ) from None
                if last:
                    raise OfflineError(
                        f"{self.location}: the server cannot be reached ({error}). Check that it is running and that the address is right."
                    ) from None
            except httpx2.LocalProtocolError:
                raise
            except httpx2.TransportError as error:
                self._refuse_to_repeat(error, once=once)
                if last:
                    raise OfflineError(
                        f"{self.location}: the server does not answer ({type(error).__name__}: {error}). Try again."
                    ) from None
            sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _refuse_to_repeat(self, error: httpx2.TransportError, *, once: bool) -> None:
        """Raise SourceError if a request that failed must not be repeated, or would fail again."""
        if once:
            raise SourceError(
                f"{self.location}: the server did not answer ({type(error).__name__}), and may have executed the request. "
                "Look at the history before you repeat it."
            ) from None
        if isinstance(error, httpx2.RemoteProtocolError) and not LOST.search(str(error)):
            raise SourceError(
                f"{self.location}: the server does not answer as one of HTTP does ({error}). Check the address."
            ) from None

    def _client(self) -> httpx2.Client:
        """The connections of this thread in this process."""
        connections: _Connections | None = getattr(self._thread_state, "connections", None)
        if connections is None or connections.process != os.getpid():
            headers = {"User-Agent": f"vertical_sdk/{__version__}", "Accept-Encoding": "identity"}
            token = os.environ.get("VERTICAL_TOKEN", "").strip()
            if token:
                self._check_token(token)
                headers["Authorization"] = f"Bearer {token}"
            self._thread_state.connections = connections = _Connections(
                httpx2.Client(headers=headers, timeout=TIMEOUT, verify=trusted_certificates())
            )
        return connections.client

    def _check_token(self, token: str) -> None:
        if not re.fullmatch(r"[!-~]+", token):
            raise RegistryError(
                "$VERTICAL_TOKEN is not a token: it contains spaces or characters that are not ASCII. Set it to a token."
            )
        if self.location.startswith("http:") and not _is_this_machine(self._host) and not os.environ.get("VERTICAL_PLAIN_HTTP"):
            raise RegistryError(
                f"{self.location}: a token is not sent over http://, since others on the network could read it. Write https://, "
                "or set VERTICAL_PLAIN_HTTP=1 if the network is private."
            )

    def _server_error(self, response: httpx2.Response, content: bytes) -> VerticalError:
        """Build the error that the server raised."""
        document = _parse_json(content)
        try:
            kind, message = str(document["error"]["type"]), str(document["error"]["message"])[:LONGEST_MESSAGE]
        except (TypeError, KeyError):
            return SourceError(
                f"{self.location}: the server answered {response.status_code}, not as a registry does. Check the address."
            )
        named = getattr(errors, kind, None)
        cls = named if isinstance(named, type) and issubclass(named, VerticalError) else RegistryError
        if response.status_code in {401, 403, 413, 429, 500}:
            message = f"{self.location}: {message}"
        error = cls.__new__(cls)
        VerticalError.__init__(error, message)  # some classes have another __init__; the message is complete already
        return error

    def _parse_entry(self, row: Any) -> Entry:
        with self._check_format():
            entry = Entry(**{**row, "aliases": tuple(row["aliases"])})
            check_name(entry.name)
            _check_digest(entry.digest)
            if entry.number < 1:
                raise ValueError(entry.number)
            return entry

    @contextlib.contextmanager
    def _check_format(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, KeyError, ValueError, AttributeError, IndexError):
            raise self._unexpected_answer() from None

    def _unexpected_answer(self) -> SourceError:
        return SourceError(
            f"{self.location}: the server does not answer as a registry does. Check the address, and that the server is as new as this."
        )


def _server_downloads() -> BlobStore:
    """The blob store for downloads from servers.

    It is separate from the downloads of other stores: a server on this machine may have to download the same file, and would wait for
    the lock that this process holds.
    """
    return BlobStore(open_downloads().root / "served")


@lru_cache(maxsize=1)
def trusted_certificates() -> ssl.SSLContext:
    """The certificates that this machine trusts, or those in `$SSL_CERT_FILE`."""
    return httpx2.create_ssl_context()


def _split_tags(tags: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split tags into the user's and the registry's own."""
    registry_tags = {key: value for key, value in tags.items() if key.startswith(OURS)}
    return {key: value for key, value in tags.items() if key not in registry_tags}, registry_tags


def _check_digest(digest: str) -> str:
    """Return the digest, which becomes part of a path. Raises ValueError if it is not a digest."""
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError(digest)
    return digest


def _is_this_machine(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _read_body(response: httpx2.Response) -> bytes:
    """Read the body of an answer that is not a file. Raises SourceError if it is too long, or does not end."""
    body, start = bytearray(), monotonic()
    for block in response.iter_raw():
        body += block
        if monotonic() - start > ANSWER_TIME:
            raise SourceError(
                f"{response.url.host}: the answer did not end within {ANSWER_TIME:.0f} s. Check the address, or try again."
            )
        if len(body) > LARGEST:
            raise SourceError(f"{response.url.host}: the server answers with more than {LARGEST} bytes. Check the address.")
    return bytes(body)


def _parse_json(content: bytes) -> Any:
    """Parse a body. None means that it is not JSON."""
    if sum(map(content.count, (b"{", b"[", b","))) > MOST_PARTS:
        return None
    try:
        return parse_json(content, largest=LARGEST)
    except ValueError:
        return None


def _read_retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(value)) if re.fullmatch("[0-9]+", value) else 0.0
