"""vertical registry keygen, sign and revoke: whom a version is trusted for, and when no longer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show
from vertical_sdk.cli.registry import Reference, verbs

__all__ = ["keygen", "revoke", "sign"]

PASSPHRASE = "VERTICAL_KEY_PASSWORD"  # noqa: S105  (the variable's name)


@verbs.command()
def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; the public one goes to FILE.pub.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help=f"Ask for a passphrase that locks the key; ${PASSPHRASE} where it is set.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a key pair to sign versions with; nothing is overwritten."""
    from vertical_sdk.registry.keys import create_key_pair

    words = os.environ.get(PASSPHRASE, "")
    if passphrase and not words:
        words = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    public, made_by = create_key_pair(file, words)
    if as_json:
        emit({"private_key": file, "public_key": public, "fingerprint": made_by, "locked": bool(words)})
        return
    show(f"{file} and {public} ({made_by[:16]}…)")
    say(f"Keep {file} to yourself. Whoever sets VERTICAL_TRUSTED_KEYS={public} loads only what it has signed.")


@verbs.command()
def sign(
    reference: Reference,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key, such as `vertical registry keygen` makes.")
    ] = None,
    sigstore: Annotated[
        bool, typer.Option("--sigstore", help="As who you are to an identity provider; a public log then names you for ever.")
    ] = False,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Sign all files of a version, with a key or with sigstore; the signature is kept beside it."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.keys import is_encrypted
    from vertical_sdk.registry.signing import sign as sign_version
    from vertical_sdk.registry.signing import sign_with_sigstore

    if sigstore == (key is not None):
        raise typer.BadParameter("give either --key FILE or --sigstore.")
    store = Registry(registry)
    if key is None:
        version = sign_with_sigstore(store, reference)
    else:
        words = os.environ.get(PASSPHRASE, "")
        if not words and is_encrypted(key) and sys.stdin.isatty():
            words = typer.prompt(f"Passphrase of {key}", hide_input=True, err=True)
        version = sign_version(store, reference, key, words)
    if as_json:
        emit(version.to_dict())
    else:
        show(
            f"{version} (sha256:{version.digest[:16]}…) is signed by {', '.join(f'{name[:16]}…' for name in version.signatures)}"
        )


@verbs.command()
def revoke(
    reference: Reference,
    reason: Annotated[str, typer.Option(help="Why; whoever tries to use it reads this.")],
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Refuse to load a version from now on. It is kept, and aliases stay where they are."""
    from vertical_sdk.registry import Registry

    version = Registry(registry).revoke(reference, reason)
    if as_json:
        emit(version.to_dict())
        return
    show(f"{version} is revoked: {version.revoked}")
    if version.aliases:
        say(
            f"These aliases still stand at it and no longer load: {', '.join(version.aliases)}. Move them with `vertical registry alias`."
        )
