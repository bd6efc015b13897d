"""vertical registry serve, vertical registry token: a registry behind HTTP, and who may use it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vertical_sdk.cli.options import Json, RegistryAt, group
from vertical_sdk.cli.output import emit, say, show, table
from vertical_sdk.cli.registry import verbs

if TYPE_CHECKING:
    from vertical_sdk.server.security.tokens import Tokens

__all__ = ["tokens"]

tokens = group("Make, list and remove the tokens of a served registry.")
verbs.add_typer(tokens, name="token")
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--tokens", metavar="FILE", help="The file of tokens; tokens.json in the registry's folder where there is none."
    ),
]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; stands in the registry's log.")]


@verbs.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A certificate (PEM): the server speaks HTTPS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key (PEM).")] = None,
    anonymous_read: Annotated[bool, typer.Option("--anonymous-read", help="Who has no token may read.")] = False,
    token_file: TokenFile = None,
    uploads: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where files wait to be published; in the cache folder where there is none."),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where requests are logged; stderr where there is none.")
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A reverse proxy whose X-Forwarded-For is believed.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests a second for each token, or address without one.")] = 100.0,
    largest: Annotated[int, typer.Option(min=1, metavar="MB", help="The largest file that may be uploaded.")] = 4000,
    registry: RegistryAt = None,
) -> None:
    """Serve a registry over HTTP, to those who have tokens, until Ctrl-C."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.server.serve import find_tokens, serve_registry
    from vertical_sdk.server.settings import Limits, ServerSettings

    served = Registry(registry)

    def ready(address: str) -> None:
        show(address)
        say(f"Serves {served.location}. Ctrl-C stops it.")
        if certificate is None and host not in {"127.0.0.1", "localhost", "::1"}:
            say("Without --certificate, tokens cross the network in the clear: put a proxy that speaks HTTPS in front.")

    settings = ServerSettings(
        host=host,
        port=port,
        certificate=certificate,
        key=key,
        anonymous_read=anonymous_read,
        log=log,
        proxy=proxy,
        limits=Limits(rate=rate, burst=max(1, round(10 * rate)), file=largest * 10**6, version=2 * largest * 10**6),
        uploads=uploads,
    )
    serve_registry(served, find_tokens(served, token_file), settings, ready=ready)


@tokens.command()
def add(
    name: TokenName,
    scope: Annotated[list[str], typer.Option(help="read, publish or promote. May be repeated; the last two include read.")],
    days: Annotated[int | None, typer.Option(min=1, help="After how many days it ends; never where there is none.")] = None,
    token_file: TokenFile = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Make a token. It is shown this once."""
    secret = _tokens(registry, token_file).add(name, scope, days=days)
    if as_json:
        emit({"name": name, "token": secret})
        return
    show(secret)
    say(f"The token of {name}. It is kept nowhere: whoever uses it sets VERTICAL_TOKEN to it.")


@tokens.command("list")
def list_(token_file: TokenFile = None, registry: RegistryAt = None, as_json: Json = False) -> None:
    """Whose tokens there are, and what they may do."""
    found = _tokens(registry, token_file).list()
    if as_json:
        emit([{key: value for key, value in asdict(token).items() if key != "sha256"} for token in found])
        return
    rows = [
        [t.name, ", ".join(t.scopes), t.created[:10], f"{t.expires[:10]}{' (over)' * t.expired}" if t.expires else None]
        for t in found
    ]
    show(table(["name", "scopes", "made", "ends"], rows) if rows else "There are no tokens.")


@tokens.command()
def remove(name: TokenName, token_file: TokenFile = None, registry: RegistryAt = None, as_json: Json = False) -> None:
    """Take a token away; a running server refuses it at once."""
    _tokens(registry, token_file).remove(name)
    if as_json:
        emit({"name": name, "removed": True})
    else:
        show(f"The token of {name} is gone.")


def _tokens(registry: str | None, file: Path | None) -> Tokens:
    from vertical_sdk.registry import Registry
    from vertical_sdk.server.serve import find_tokens

    return find_tokens(Registry(registry), file)
