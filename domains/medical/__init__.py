"""The medical vertical."""

from vertical_sdk.domain import Domain

DOMAIN = Domain(name="medical", summary="Diagnoses, clinical notes and the literature about them.", languages=("en", "zh"))
