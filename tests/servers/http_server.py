"""Our own server in this process, on a free port of 127.0.0.1, for real clients."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.registry import Registry
from vertical_sdk.registry.store import Entry
from vertical_sdk.registry.tree import read_tree
from vertical_sdk.server.registry_app import create_registry_app
from vertical_sdk.server.security.tokens import SCOPES, Tokens
from vertical_sdk.server.serve import make_server
from vertical_sdk.server.settings import Limits, ServerSettings


@contextlib.contextmanager
def serving(app: Any, limits: Limits | None = None, *, certificate: Path | None = None, **settings: Any) -> Iterator[str]:
    """Serve an application until the block ends, and yield its address."""
    server = make_server(app, ServerSettings(limits=limits or Limits(), certificate=certificate, **settings))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


RECORD: dict[str, Any] = {
    "task": "classification", "base": "tiny", "metric": None, "value": None, "gate": "passed", "forced": False, "reason": "",
    "facts": {}, "metrics": {},
}  # fmt: skip
"""The metadata of a version that was published without checks."""


class UncheckedRegistry(Registry):
    """A registry that publishes any files, so the contract of all stores can be tested with files of a few bytes.

    It has no gate: such files have no card, so there is nothing that a gate could ask before an alias moves.
    Everything between the client's store and the server's store is real. The server's checks of adapters are tested in tests/server.
    """

    def publish(  # type: ignore[override]
        self,
        adapter: str | Path,
        name: str | None = None,
        *,
        force: bool = False,
        reason: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Entry:
        folder, name = Path(adapter), name or ""
        manifest = read_tree(folder)
        files = {path: folder / path for path in manifest}
        event = self.new_event(name, "publish", why=reason)
        return self.store.put(name, files, manifest, record={**RECORD, "forced": force}, tags=tags or {}, event=event)

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        expected: int | None = None,
        force: bool = False,
        why: str = "",
        evidence: str = "",
        action: str = "alias",
    ) -> None:
        self.store.move_alias(name, alias, version, expected, self.new_event(name, action, alias, why, evidence))


@contextlib.contextmanager
def serve_unchecked(folder: Path, *, certificate: Path | None = None, key: Path | None = None) -> Iterator[tuple[str, str]]:
    """Serve an empty registry without checks. Yield its address and the token of "ada", who has all rights there."""
    tokens = Tokens(folder / "tokens.json")
    secret = tokens.add("ada", SCOPES)
    app = create_registry_app(
        UncheckedRegistry(folder / "served"), tokens, ServerSettings(uploads=folder / "uploads"), log=lambda _: None
    )
    with serving(app, certificate=certificate, key=key) as address:
        yield address, secret


def create_certificate(folder: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1 and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "server.pem", folder / "server.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
