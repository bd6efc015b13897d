"""vertical registry keygen, sign, check, revoke and purge: establish trust in versions, withdraw it, and remove their files."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, showing, size
from vertical_sdk.cli.registry.arguments import Reference

__all__ = ["check", "keygen", "purge", "revoke", "sign"]

PASSPHRASE = "VERTICAL_KEY_PASSWORD"  # noqa: S105  (the name of the variable)


def keygen(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file of the private key; the public key is written to FILE.pub.")
    ],
    passphrase: Annotated[
        bool,
        typer.Option("--passphrase", help=f"Encrypt the key with a passphrase: ${PASSPHRASE}, or a prompt if it is not set."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a key pair for signing versions. An existing file is never overwritten."""
    from vertical_sdk.registry.keys import create_key_pair

    secret = os.environ.get(PASSPHRASE, "")
    if passphrase and not secret:
        secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    public, fingerprint = create_key_pair(file, secret)
    if as_json:
        emit({"private_key": file, "public_key": public, "fingerprint": fingerprint, "locked": bool(secret)})
        return
    show(f"{file} and {public} ({fingerprint[:16]}…)")
    say(f"Keep {file} secret. With VERTICAL_TRUSTED_KEYS={public}, only versions that this key signed are loaded.")


def sign(
    reference: Reference,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key, for example from `vertical registry keygen`.")
    ] = None,
    sigstore: Annotated[
        bool,
        typer.Option(
            "--sigstore", help="Sign with your identity at an identity provider; a public log then shows it permanently."
        ),
    ] = False,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Sign all files of a version with a key or with sigstore; the registry stores the signature."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.signing import sign as sign_version
    from vertical_sdk.registry.signing import sign_with_sigstore

    if sigstore == (key is not None):
        raise typer.BadParameter("give either --key FILE or --sigstore.")
    store = Registry(registry)
    version = sign_with_sigstore(store, reference) if key is None else sign_version(store, reference, key, _passphrase(key))
    if as_json:
        emit(version.to_dict())
    else:
        show(
            f"{version} (sha256:{version.digest[:16]}…) is signed by {', '.join(f'{name[:16]}…' for name in version.signatures)}"
        )


def check(
    reference: Reference,
    base: Annotated[str | None, typer.Option(help="Another place of the same base model.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Load a version with its base, replay its self-tests and record that: lists and pages then say who did it and when."""
    with showing() as progress:
        from vertical_sdk.inference import VerticalModel
        from vertical_sdk.registry import Registry

        store = Registry(registry)
        version = store.resolve(reference)
        VerticalModel.from_pretrained(version.path, name=str(version), base=base, progress=progress)
        version = store.record_replay(version)
    if as_json:
        emit(version.to_dict())
    else:
        show(f"{version}: self-tests replayed by {version.replayed}")


def revoke(
    reference: Reference,
    reason: Annotated[str, typer.Option(help="Why; shown to anyone who tries to use the version.")],
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign the revocation with this private key, for all who trust the key.")
    ] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Refuse to load a version from now on. The version and its aliases stay."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.signing import sign_revocation

    store = Registry(registry)
    version = (
        store.revoke(reference, reason) if key is None else sign_revocation(store, reference, reason, key, _passphrase(key))
    )
    if as_json:
        emit(version.to_dict())
        return
    show(f"{version} is revoked: {version.revoked}")
    if version.aliases:
        aliases = ", ".join(version.aliases)
        say(f"These aliases still point at it and no longer load: {aliases}. Move them with `vertical registry alias`.")


def purge(
    reference: Reference,
    reason: Annotated[str, typer.Option(help="Why; recorded permanently.")],
    force: Annotated[bool, typer.Option("--force", help="Also if aliases point at it; they no longer load.")] = False,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Remove the files of a version for ever. Its number, digest and log stay; files that other versions have stay too."""
    from vertical_sdk.registry import Registry

    store = Registry(registry)
    erased = store.purge(reference, reason, force=force)
    version = store.resolve(reference, check=False)
    if as_json:
        emit({**version.to_dict(), **asdict(erased)})
        return
    show(f"{version} is purged: {version.purged} ({size(erased.freed)} removed)")
    for path, other in erased.shared.items():
        say(f"{path} remains, because {other} has it too.")
    say(erased.remains)


def _passphrase(key: Path) -> str:
    """The passphrase of a private key: from the environment, or asked for on a terminal."""
    from vertical_sdk.registry.keys import is_encrypted

    secret = os.environ.get(PASSPHRASE, "")
    if not secret and is_encrypted(key) and sys.stdin.isatty():
        secret = typer.prompt(f"Passphrase of {key}", hide_input=True, err=True)
    return secret
