"""The finance vertical."""

from vertical_sdk.domain import Domain

DOMAIN = Domain(
    name="finance",
    summary="News about markets, applications for credit, balance sheets and share prices.",
    languages=("en", "zh"),
)
