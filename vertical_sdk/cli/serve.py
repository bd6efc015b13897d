"""vertical serve: let many clients ask specialists over HTTP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.options import ReadIn, RegistryAt
from vertical_sdk.cli.output import say, show

__all__ = ["serve"]


def serve(
    references: Annotated[
        list[str] | None, typer.Argument(metavar="[REF]...", help="What clients may name: NAME, NAME@3, NAME@ALIAS.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A YAML file with settings; options of the command line win.")
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE", help="The place of a base, such as a folder, if its name does not say it. May be repeated."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on; 0.0.0.0 means all interfaces.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port to listen on; 0 means any free port; default: 8000.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--tokens", metavar="FILE", help="The token file; default: tokens.json in the registry's folder."),
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Allow asking without a token.")] = False,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A certificate (PEM); the server then uses HTTPS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of the certificate (PEM).")] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="The log of requests; default: stderr.")] = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A reverse proxy whose X-Forwarded-For header is trusted.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host name that clients use; others are refused. May be repeated."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Requests a second for each token, or for each address without a token.")
    ] = None,
    dtype: ReadIn = None,
    registry: RegistryAt = None,
) -> None:
    """Serve specialists over HTTP, in the shapes of OpenAI and vLLM, to clients with a token, until Ctrl-C."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.server.config import ServeConfig, read_config
    from vertical_sdk.server.serve import find_tokens, serve_models
    from vertical_sdk.server.settings import Limits, ServerSettings

    given = {
        "adapters": references,
        "registry": registry,
        "bases": base,
        "host": host,
        "port": port,
        "tokens": token_file,
        "anonymous": anonymous or None,
        "certificate": certificate,
        "key": key,
        "log": log,
        "proxy": proxy,
        "allowed_hosts": allowed_host,
        "rate": rate,
    }
    chosen = ServeConfig() if config is None else read_config(config)
    chosen = chosen.model_copy(update={name: value for name, value in given.items() if value is not None})
    limits = chosen.limits if dtype is None else replace(chosen.limits, dtype=dtype.value)
    served = Registry(chosen.registry)

    def ready(address: str) -> None:
        show(address)
        say(f"Serves {', '.join(chosen.adapters)} of {served.location}. Ctrl-C stops it.")
        if chosen.certificate is None and chosen.host not in {"127.0.0.1", "localhost", "::1"}:
            say("Without --certificate, tokens and texts are sent unencrypted. Use a reverse proxy with HTTPS.")

    settings = ServerSettings(
        host=chosen.host,
        port=chosen.port,
        certificate=chosen.certificate,
        key=chosen.key,
        proxy=chosen.proxy,
        allowed_hosts=tuple(chosen.allowed_hosts),
        anonymous=chosen.anonymous,
        log=chosen.log,
        limits=Limits(
            body=chosen.largest,
            rate=chosen.rate,
            burst=max(1, round(10 * chosen.rate)),
            together=2 * (chosen.limits.waiting + chosen.limits.writers),  # so that one client alone can fill the queue
        ),
    )

    def progress(what: str, share: float | None = None) -> None:
        if share is None:
            say(what)

    tokens = find_tokens(served, chosen.tokens)
    serve_models(chosen.adapters, served, tokens, settings, limits, bases=chosen.bases, ready=ready, progress=progress)
