"""Signed revocations: a key that vouches for versions also vouches that one must not be loaded any more.

A statement names the digest of the version, not its name or number, so it holds in every registry that it is copied to. The registry
stores it beside the version under the fingerprint of its key. A user who trusts the key (`registry.policy`) does not load the version,
even if the registry's own mark of the revocation was removed.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from pathlib import Path

from vertical_sdk.errors import RegistryError
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry.keys import (
    compute_fingerprint,
    read_fingerprint,
    read_private_key,
    recover_public_key,
    sign_message,
)
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.store import REVOCATION, Entry

__all__ = ["LONGEST", "build_revocation", "find_trusted_reason", "read_revocation"]

LONGEST = 4000
"""Characters of a statement with its signature."""


def build_revocation(digest: str, reason: str, key: Path, password: str = "") -> str:
    """Build a signed revocation of the version with a digest. Raises RegistryError if the key cannot be used; MissingExtra."""
    private = read_private_key(key, password)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    statement = json.dumps({"revoked": digest, "reason": reason, "at": at, "key": compute_fingerprint(private.public_key())})
    signature = base64.b64encode(sign_message(private, statement.encode())).decode()
    return json.dumps({"statement": statement, "signature": signature})


def read_revocation(text: str, digest: str) -> tuple[str, str]:
    """Verify a signed revocation of the version with a digest; return the fingerprint of its key, and the reason.

    Raises RegistryError if it is malformed, of another version, or not made by the key that it names; MissingExtra.
    """
    try:
        document = parse_json(text, largest=LONGEST)
        message, signature = document["statement"].encode(), base64.b64decode(document["signature"], validate=True)
        statement = parse_json(message)
        made_by, reason = str(statement["key"]), str(statement["reason"])
        revoked = statement["revoked"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RegistryError("this is not a signed revocation. Write one with `vertical registry revoke --key FILE`.") from None
    if revoked != digest:
        raise RegistryError(f"this signed revocation is of sha256:{str(revoked)[:16]}…, not of sha256:{digest[:16]}….")
    if not reason.strip() or recover_public_key(signature, message, made_by) is None:
        raise RegistryError("this signed revocation has no reason, was changed, or was made by another key than it names.")
    return made_by, reason


def find_trusted_reason(entry: Entry, policy: Policy) -> str | None:
    """Return the reason of a revocation that a trusted key signed; None if there is none."""
    texts = {key.removeprefix(REVOCATION): value for key, value in entry.tags.items() if key.startswith(REVOCATION)}
    for made_by in sorted(texts.keys() & {read_fingerprint(file) for file in policy.trusted_keys} if texts else ()):
        try:
            signer, reason = read_revocation(texts[made_by], entry.digest)
        except RegistryError:
            continue  # `Registry.verify` lists it
        if signer == made_by:
            return reason
    return None
