"""Champion and challenger: move an alias to a version that is better on the same rows."""

from vertical_sdk.promotion.promote import Promotion, promote

__all__ = ["Promotion", "promote"]
