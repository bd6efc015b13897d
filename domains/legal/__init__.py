"""The legal vertical."""

from vertical_sdk.domain import Domain

DOMAIN = Domain(name="legal", summary="Contract clauses, terms of service and software licences.", languages=("en", "zh"))
