"""vertical registry serve and vertical registry token: serve a registry over HTTP, and manage who may use it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, table

if TYPE_CHECKING:
    from vertical_sdk.server.security.tokens import Tokens

__all__ = ["add_token", "list_tokens", "remove_token", "serve"]

TokenFile = Annotated[
    Path | None,
    typer.Option("--tokens", metavar="FILE", help="The token file; default: tokens.json in the registry's folder."),
]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="Who owns it; appears in the registry's log.")]


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 means all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 means any free port.")] = 8080,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A certificate (PEM); the server then uses HTTPS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of the certificate (PEM).")] = None,
    anonymous_read: Annotated[bool, typer.Option("--anonymous-read", help="Allow reading without a token.")] = False,
    token_file: TokenFile = None,
    uploads: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The folder of uploads that are not published yet; default: in the cache folder."),
    ] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="The log of requests; default: stderr.")] = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A reverse proxy whose X-Forwarded-For header is trusted.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.01, help="Requests a second for each token, or for each address without a token.")
    ] = 100.0,
    largest: Annotated[int, typer.Option(min=1, metavar="MB", help="The size of the largest upload.")] = 4000,
    quota: Annotated[int, typer.Option(min=1, metavar="GB", help="What one token may publish in all.")] = 200,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host name that clients use; others are refused. May be repeated."),
    ] = None,
    registry: RegistryAt = None,
) -> None:
    """Serve a registry over HTTP to clients with a token, until Ctrl-C."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.server.serve import find_tokens, serve_registry
    from vertical_sdk.server.settings import Limits, ServerSettings

    served = Registry(registry)

    def ready(address: str) -> None:
        show(address)
        say(f"Serves {served.location}. Ctrl-C stops it.")
        if certificate is None and host not in {"127.0.0.1", "localhost", "::1"}:
            say("Without --certificate, tokens are sent unencrypted. Use a reverse proxy with HTTPS.")

    settings = ServerSettings(
        host=host,
        port=port,
        certificate=certificate,
        key=key,
        anonymous=anonymous_read,
        log=log,
        proxy=proxy,
        limits=Limits(
            rate=rate,
            burst=max(1, round(10 * rate)),
            file=largest * 10**6,
            version=2 * largest * 10**6,
            published=quota * 10**9,
        ),
        allowed_hosts=tuple(allowed_host or ()),
        uploads=uploads,
    )
    serve_registry(served, find_tokens(served, token_file), settings, ready=ready)


def add_token(
    name: TokenName,
    scope: Annotated[
        list[str],
        typer.Option(help="read, publish or promote in a registry; infer or admin of `vertical serve`. May be repeated."),
    ],
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; default: never.")] = None,
    token_file: TokenFile = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Create a token for a served registry or for `vertical serve`. It is shown only once."""
    secret = _open_tokens(registry, token_file).add(name, scope, days=days)
    if as_json:
        emit({"name": name, "token": secret})
        return
    show(secret)
    say(f"The token of {name}. It is not stored anywhere. To use it, set VERTICAL_TOKEN to it.")


def list_tokens(token_file: TokenFile = None, registry: RegistryAt = None, as_json: Json = False) -> None:
    """List the tokens: their owners, scopes and expiry."""
    stored = _open_tokens(registry, token_file).list()
    if as_json:
        emit([{key: value for key, value in asdict(token).items() if key != "sha256"} for token in stored])
        return
    rows = [
        [t.name, ", ".join(t.scopes), t.created[:10], f"{t.expires[:10]}{' (expired)' * t.expired}" if t.expires else None]
        for t in stored
    ]
    show(table(["name", "scopes", "created", "expires"], rows) if rows else "There are no tokens.")


def remove_token(name: TokenName, token_file: TokenFile = None, registry: RegistryAt = None, as_json: Json = False) -> None:
    """Remove a token; a running server rejects it at once."""
    _open_tokens(registry, token_file).remove(name)
    if as_json:
        emit({"name": name, "removed": True})
    else:
        show(f"The token of {name} was removed.")


def _open_tokens(registry: str | None, file: Path | None) -> Tokens:
    from vertical_sdk.registry import Registry
    from vertical_sdk.server.serve import find_tokens

    return find_tokens(Registry(registry), file)
