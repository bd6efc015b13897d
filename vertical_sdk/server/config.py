"""The file of `vertical serve --config`: what is served, where, and for how many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vertical_sdk.errors import RecipeError
from vertical_sdk.schema_errors import describe_schema_errors
from vertical_sdk.serving import ServingSettings
from vertical_sdk.yaml_file import read_yaml

__all__ = ["ServeConfig", "read_config"]


class ServeConfig(BaseModel):
    """Settings of a server of specialists.

    adapters       the references that clients may name
    registry       the place of their registry; None: the user's default registry
    bases          places of bases, such as folders; a base that is not among them is found by the name on an adapter's card
    tokens         the token file; None: tokens.json in the registry's folder
    anonymous      allow asking without a token
    rate           requests a second of each token, or of each address without one
    largest        bytes of a request
    limits         queue, memory, times (`ServingSettings`)

    The others are those of `ServerSettings`.
    """

    model_config = ConfigDict(extra="forbid")

    adapters: list[str] = []
    registry: str | None = None
    bases: list[str] = []
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    tokens: Path | None = None
    anonymous: bool = False
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    allowed_hosts: list[str] = []
    log: Path | None = None
    rate: Annotated[float, Field(gt=0)] = 1000.0
    largest: Annotated[int, Field(gt=0)] = 16 << 20
    limits: ServingSettings = ServingSettings()


def read_config(path: Path) -> ServeConfig:
    """Read the settings of a server from a YAML file. Raises RecipeError that names the key and the value."""
    plain = read_yaml(path)
    try:
        return ServeConfig.model_validate(plain)
    except ValidationError as error:
        lines = describe_schema_errors(ServeConfig, plain, error)
        raise RecipeError("\n".join(f"{path}: {line}" for line in lines)) from None
