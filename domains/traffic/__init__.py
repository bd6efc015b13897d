"""The road traffic vertical."""

from vertical_sdk.domain import Domain

DOMAIN = Domain(
    name="traffic", summary="Speeds and volumes on roads, incidents and their severity, routes.", languages=("en", "zh")
)
