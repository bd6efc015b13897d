"""Read the config.json of a model: its family, and how long an input may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.bases.weights import read_json
from vertical_sdk.errors import BaseModelError
from vertical_sdk.types import Family

__all__ = ["family_of", "is_timm", "longest_input"]

CAUSAL = ("ForCausalLM", "LMHeadModel")
ENCODER = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForPreTraining")
# fmt: off
ENCODER_TYPES = frozenset({
    "albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "funnel", "ibert", "longformer", "luke",
    "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra", "nomic_bert", "nystromformer", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "splinter", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl",
    "xmod", "yoso",
})
VISION_TYPES = frozenset({
    "beit", "bit", "clip_vision_model", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinov2",
    "dinov2_with_registers", "dinov3_convnext", "dinov3_vit", "efficientnet", "focalnet", "hgnet_v2", "hiera", "ijepa", "levit",
    "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "pvt", "pvt_v2", "regnet", "resnet",
    "siglip_vision_model", "swiftformer", "swin", "swinv2", "textnet", "timm_wrapper", "vit", "vit_mae", "vit_msn",
})
# fmt: on
VISION = ("ForImageClassification", "ForMaskedImageModeling")
COUNTS_FROM_PADDING = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "data2vec-text", "mpnet"}
)
"""Model types whose positions start after the padding token's id, so that many of them are never used."""


def family_of(config: Mapping[str, Any], folder: Path) -> Family:
    """Find the family of a model by the class that its config.json names.

    Raises BaseModelError for an unknown class, and for a model that needs code of its own.
    """
    names = [str(name) for name in config.get("architectures") or []]
    kind = str(config.get("model_type", ""))
    if config.get("auto_map") and not _is_built_in(kind):
        raise BaseModelError(
            "the model needs code of its own (auto_map), which is never run. Choose a model that transformers has built in.",
            where=folder / "config.json",
        )
    if any(name.endswith(VISION) for name in names) or kind in VISION_TYPES or is_timm(config):
        return "vision"
    if not config.get("is_encoder_decoder"):
        if any(name.endswith(CAUSAL) for name in names):
            return "causal"
        if any(name.endswith(ENCODER) for name in names) or kind in ENCODER_TYPES:
            return "encoder"
    raise BaseModelError(
        f"architectures = {names}, model_type = {kind!r} is neither an encoder nor a causal nor a vision model. "
        f"Known are classes that end in {', '.join((*CAUSAL, *ENCODER, *VISION))}, "
        f"and the model types {', '.join(sorted(ENCODER_TYPES | VISION_TYPES))}.",
        where=folder / "config.json",
    )


def longest_input(config: Mapping[str, Any], folder: Path) -> int | None:
    """Return the most tokens of an input, the smaller limit of position table and tokenizer; None means no limit."""
    bounds = []
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    if isinstance(positions, int) and positions > 0:
        unused = (config.get("pad_token_id") or 0) + 1 if config.get("model_type") in COUNTS_FROM_PADDING else 0
        bounds.append(positions - unused)
    settings = folder / "tokenizer_config.json"
    stated = read_json(settings).get("model_max_length") if settings.is_file() else None
    if isinstance(stated, int | float) and 0 < stated < 1e9:
        bounds.append(int(stated))
    return min(bounds, default=None)


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether timm wrote the config.json: it names an architecture, and how pictures are prepared."""
    return isinstance(config.get("architecture"), str) and isinstance(config.get("pretrained_cfg"), Mapping)


def _is_built_in(kind: str) -> bool:
    from transformers import CONFIG_MAPPING

    return kind in CONFIG_MAPPING
