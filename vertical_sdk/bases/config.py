"""Read the config.json of a model: its family, and how long an input may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.bases.weights import read_json
from vertical_sdk.errors import BaseModelError
from vertical_sdk.tables import FAMILIES
from vertical_sdk.types import Family

__all__ = ["architectures", "family_of", "is_causal", "is_encoder", "is_timm", "is_vision", "longest_input", "model_type"]

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
    """Find the family of a model: the last line of FAMILIES that recognizes its config.json.

    Raises BaseModelError if none does, or if the model needs code of its own.
    """
    where = folder / "config.json"
    if config.get("auto_map") and not _is_built_in(model_type(config)):
        raise BaseModelError(
            "the model brings code of its own (auto_map), and such code is never run. Choose a model that is built into transformers.",
            where=where,
        )
    for name in reversed(list(FAMILIES)):  # a family that a package adds comes before ours
        recognizes = FAMILIES.load_recognizer(name)
        if recognizes is not None and recognizes(config):
            return name
    raise BaseModelError(
        f"architectures = {architectures(config)}, model_type = {model_type(config)!r}: neither an encoder nor a causal nor a vision "
        f"model. Supported are classes that end in {', '.join((*CAUSAL, *ENCODER, *VISION))}, and the model types "
        f"{', '.join(sorted(ENCODER_TYPES | VISION_TYPES))}.",
        where=where,
    )


def architectures(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that config.json names."""
    return tuple(str(name) for name in config.get("architectures") or [])


def model_type(config: Mapping[str, Any]) -> str:
    """The model type that config.json names; "" if it names none."""
    return str(config.get("model_type", ""))


def is_vision(config: Mapping[str, Any]) -> bool:
    """Whether config.json describes a model of images."""
    return any(name.endswith(VISION) for name in architectures(config)) or model_type(config) in VISION_TYPES or is_timm(config)


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether config.json describes a decoder that writes text."""
    if is_vision(config) or config.get("is_encoder_decoder"):
        return False
    return any(name.endswith(CAUSAL) for name in architectures(config))


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether config.json describes an encoder of text."""
    if is_vision(config) or is_causal(config) or config.get("is_encoder_decoder"):
        return False
    return any(name.endswith(ENCODER) for name in architectures(config)) or model_type(config) in ENCODER_TYPES


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
