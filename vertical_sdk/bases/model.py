"""The weights of a base as a model of transformers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from vertical_sdk.bases.base import Base, load_config
from vertical_sdk.errors import BaseModelError

__all__ = ["load_model"]

UNREAD = re.compile(r"(^|\.)pooler\.")
"""Weights that may be missing, as nothing reads what they compute."""


def load_model(base: Base, auto_class: str, **options: Any) -> Any:
    """Load the weights of a base from its folder, without dropout.

    auto_class  of transformers, such as AutoModel
    options     of its `from_pretrained`, such as dtype

    Raises BaseModelError for weights that cannot be loaded or are not all there.
    """
    import transformers

    loader: Any = getattr(transformers, auto_class)
    try:
        config = load_config(base)
        for key, value in config.to_dict().items():
            if isinstance(value, float) and ("dropout" in key or key.endswith("pdrop")):
                setattr(config, key, 0.0)
        with _quiet():
            model, found = loader.from_pretrained(
                base.path,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(f"{base.name}: its weights in {base.path} cannot be loaded: {error}") from None
    if missing := sorted(name for name in found["missing_keys"] if not UNREAD.search(name)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BaseModelError(
            f"{base.name}: {base.path} does not have all weights of the model: {missing[0]}{more} would be random numbers. Download it "
            "again, or choose another."
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' progress bar, which would overwrite the user's, and its table of missing weights."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
