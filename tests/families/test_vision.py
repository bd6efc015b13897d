from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import torch.nn.functional as F
from conftest import up_weights
from torch import nn

from vertical_sdk.adapters.self_test import record_self_tests, replay_self_tests
from vertical_sdk.bases.base import Base, pull_base
from vertical_sdk.bases.config import family_of
from vertical_sdk.bases.images import read_picture_settings
from vertical_sdk.errors import BaseModelError, DataError, IdleAdapter, MissingExtra, RecipeError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.lora import attach
from vertical_sdk.families.specialist import create_specialist, load_backbone, run_rows
from vertical_sdk.families.vision import VisionSpecialist, activation_map, lora_targets
from vertical_sdk.kernels.fused_lora import fused_lora
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import Example, LabelSpace

LABELS = LabelSpace(("normal", "ill"))
PICTURE = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)


def save_resnet(folder: Path) -> Path:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    ResNetModel(ResNetConfig(**sizes, architectures=["ResNetModel"])).save_pretrained(folder)
    stated = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"shortest_edge": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    return folder


def save_vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(folder)
    return folder


def save_lite(folder: Path) -> Path:
    from safetensors.torch import save_file

    from vertical_sdk.bases.efficientnet import CONFIG, _Network

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in _Network().state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


SAVED: dict[str, Callable[[Path], Path]] = {"resnet": save_resnet, "vit": save_vit, "lite": save_lite}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(tmp_path_factory.mktemp(name)) for name, save in SAVED.items()}


@pytest.fixture(params=list(SAVED))
def base(request: pytest.FixtureRequest, bases: dict[str, Path]) -> Base:
    return pull_base(str(bases[request.param]))


def recipe(**more: Any) -> Recipe:
    settings: dict[str, Any] = {
        "name": "films",
        "task": "classification",
        "data": {"source": "x.npz", "modality": "image"},
        "image": {"size": 32},
        "adapter": {"r": 2, "lora_alpha": 4},
    }
    return Recipe.model_validate({**settings, **more})


def build_vision(base: Base, **more: Any) -> VisionSpecialist:
    torch.manual_seed(0)
    specialist = create_specialist(base, recipe(**more), LABELS)
    assert isinstance(specialist, VisionSpecialist)
    return specialist.eval()


def changed(specialist: VisionSpecialist) -> VisionSpecialist:
    """The adapter as if it had been trained."""
    torch.manual_seed(1)
    for name, weight in specialist.backbone.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    return specialist


def answers(specialist: VisionSpecialist, pictures: list[np.ndarray]) -> torch.Tensor:
    rows = [specialist.encode(Example(str(n), values=picture), learn=False) for n, picture in enumerate(pictures)]
    return run_rows(specialist, rows, lambda batch: specialist(batch)[0])


def test_a_vision_base_has_a_fingerprint_without_a_tokenizer(base: Base) -> None:
    assert (base.family, base.max_length, base.fingerprint.vocab_size, base.fingerprint.chat_template) == (
        "vision",
        None,
        0,
        None,
    )
    assert base.parameters > 0


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"architectures": ["ViTMAEForPreTraining"], "model_type": "vit_mae"}, "vision"),
        ({"architectures": ["Dinov2ForImageClassification"], "model_type": "dinov2"}, "vision"),
        ({"architectures": ["SwinForMaskedImageModeling"]}, "vision"),
        ({"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {"mean": [0.5, 0.5, 0.5]}}, "vision"),
        ({"architectures": ["BertForPreTraining"], "model_type": "bert"}, "encoder"),
    ],
)
def test_a_vision_base_is_known_by_its_class_its_type_or_by_timms_config(
    config: dict[str, Any], family: str, tmp_path: Path
) -> None:
    assert family_of(config, tmp_path) == family


def test_another_way_to_prepare_pictures_is_another_base(bases: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bases["resnet"], tmp_path / "copy"))
    before, same = pull_base(str(bases["resnet"])).fingerprint, pull_base(str(copy)).fingerprint
    stated = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps({**stated, "image_mean": [0.4] * 3}))
    after = pull_base(str(copy)).fingerprint

    assert (same.tokenizer, same.weights) == (before.tokenizer, before.weights)
    assert after.weights == before.weights
    assert after.tokenizer != before.tokenizer


@pytest.mark.parametrize(
    ("config", "processor", "expected"),
    [
        ({}, {"size": 96}, (96, 0.485)),
        (
            {},
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True},
            (224, 0.485),
        ),
        (
            {"image_size": 384},
            {"image_processor": {"image_mean": [0.1, 0.2, 0.3], "size": {"height": 1, "width": 1}}},
            (384, 0.1),
        ),
        ({}, {"do_normalize": False}, (224, 0.0)),
        ({"pretrained_cfg": {"input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [0.5] * 3}}, None, (160, 0.5)),
    ],
)
def test_settings_of_the_image_processor_are_read(
    config: dict[str, Any], processor: dict[str, Any] | None, expected: tuple[int, float], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))

    settings = read_picture_settings(tmp_path)

    assert (settings.size, settings.mean[0]) == expected


def test_settings_that_are_nonsense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": ["grey"]}))

    with pytest.raises(BaseModelError, match=r"preprocessor_config\.json: its settings for pictures cannot be read"):
        read_picture_settings(tmp_path)


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_does(base: Base) -> None:
    specialist = build_vision(base)
    fresh = answers(specialist, [PICTURE])
    with specialist.backbone.disable_adapter():
        assert answers(specialist, [PICTURE]) == pytest.approx(fresh)

    assert not torch.allclose(answers(changed(specialist), [PICTURE]), fresh, atol=1e-4)


def test_lora_goes_on_what_joins_channels_and_on_nothing_else(bases: dict[str, Path]) -> None:
    lite, vit, resnet = (load_backbone(pull_base(str(bases[name]))) for name in ("lite", "vit", "resnet"))

    kinds = {name.rpartition(".")[2] for name in lora_targets(lite)}
    assert kinds == {
        "conv_pw",
        "conv_pwl",
        "conv_head",
    }  # not conv_dw, which is depthwise, nor conv_stem, which reads the picture
    assert len(lora_targets(vit)) == 2 * 6
    assert not [name for name in lora_targets(vit) if "embedding" in name or "pooler" in name]
    assert not [name for name in lora_targets(resnet) if name.startswith("embedder")]


def test_a_recipe_may_name_the_layers_itself(bases: dict[str, Path]) -> None:
    specialist = build_vision(pull_base(str(bases["lite"])), adapter={"r": 2, "target_modules": ["conv_head"]})

    assert {n.split(".lora_")[0].rpartition(".")[2] for n, _ in specialist.backbone.named_parameters() if "lora_" in n} == {
        "conv_head"
    }


def test_batch_statistics_stay_as_they_were_in_training(bases: dict[str, Path]) -> None:
    specialist = build_vision(pull_base(str(bases["resnet"])), adapter={"r": 2, "lora_dropout": 0.5})
    before = {name: value.clone() for name, value in specialist.backbone.named_buffers()}

    specialist.train()
    batch = specialist.collate([specialist.encode(Example("a", values=PICTURE, target="ill"), learn=True)] * 4)
    outputs, targets = specialist(batch)
    F.cross_entropy(outputs, targets).backward()

    assert any("running_mean" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in specialist.backbone.named_buffers())
    assert [m.training for n, m in specialist.backbone.named_modules() if isinstance(m, nn.Dropout) and "lora_dropout" in n]
    assert specialist.dropout.training
    trained = {name for name, weight in specialist.named_parameters() if weight.grad is not None}
    assert trained
    assert all("lora_" in name or name.startswith("head.") for name in trained)


def test_a_grey_picture_is_one_of_three_equal_channels(base: Base) -> None:
    specialist = build_vision(base)

    grey, colour = answers(specialist, [PICTURE, np.repeat(PICTURE[..., None], 3, axis=2)])

    torch.testing.assert_close(grey, colour)


def test_pictures_are_resized_and_normalised_as_the_base_wants_them(bases: dict[str, Path]) -> None:
    specialist = build_vision(pull_base(str(bases["resnet"])))
    flat = np.full((100, 50), 191, dtype=np.uint8)

    batch = specialist.collate([specialist.encode(Example("a", values=flat), learn=False)])

    assert batch["pixel_values"].shape == (1, 3, 32, 32)
    torch.testing.assert_close(batch["pixel_values"], torch.full((1, 3, 32, 32), (191 / 255 - 0.5) / 0.25))


@pytest.mark.parametrize("size", [32, 48, 64])
def test_a_recipe_chooses_how_large_pictures_are_seen(size: int, base: Base) -> None:
    specialist = build_vision(base, image={"size": size})

    row = specialist.encode(Example("a", values=PICTURE), learn=False)

    assert specialist.collate([row])["pixel_values"].shape == (1, 3, size, size)
    assert answers(specialist, [PICTURE]).shape == (1, 2)
    assert row.length == (size // 8) ** 2


def test_a_large_picture_is_kept_no_larger_than_the_backbone_sees_it(base: Base) -> None:
    specialist = build_vision(base)

    row = specialist.encode(Example("a", values=np.zeros((300, 20, 3), dtype=np.uint8)), learn=False)

    assert row.values is not None
    assert (row.values.shape, row.values.dtype) == ((32, 20, 3), np.uint8)
    assert row.length == 16  # 32 × 32 pixels are 4 × 4 squares, or patches, of 8


def test_pictures_of_several_sizes_go_in_one_batch(base: Base) -> None:
    specialist = build_vision(base)
    small, wide = PICTURE, np.tile(PICTURE, (1, 2))

    together = answers(specialist, [small, wide])

    torch.testing.assert_close(
        together, torch.cat([answers(specialist, [small]), answers(specialist, [wide])]), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    "values", [None, PICTURE.astype(np.float32), PICTURE[0], PICTURE[None, None], np.zeros((0, 4), np.uint8)]
)
def test_a_row_without_an_image_is_refused(values: np.ndarray | None, bases: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="row a: a picture must be bytes"):
        build_vision(pull_base(str(bases["resnet"]))).encode(Example("a", values=values), learn=False)


def test_a_vision_base_writes_no_texts_and_reads_none(bases: dict[str, Path]) -> None:
    base = pull_base(str(bases["resnet"]))

    with pytest.raises(RecipeError, match="not generation"):
        build_vision(base, task="generation")
    with pytest.raises(RecipeError, match=r"data\.modality is text"):
        build_vision(base, data={"source": "x.csv"})


def test_an_adapter_comes_back_with_its_probes(base: Base, tmp_path: Path) -> None:
    specialist = changed(build_vision(base))
    self_tests = record_self_tests(specialist)
    specialist.backbone.save_pretrained(tmp_path)
    specialist.save(tmp_path)

    class Kept:
        labels = LABELS

    backbone = attach(load_backbone(base), tmp_path)
    again = VisionSpecialist.load_trained(backbone, base, recipe(), Kept(), tmp_path).eval()  # type: ignore[arg-type]

    replay_self_tests(again, self_tests, "here")
    torch.testing.assert_close(answers(again, [PICTURE]), answers(specialist, [PICTURE]))
    for weight in up_weights(backbone):
        weight.data.zero_()
    with pytest.raises(IdleAdapter, match="changes nothing"):
        replay_self_tests(again, self_tests, "here")


def test_a_probe_is_the_same_picture_for_the_same_text(bases: dict[str, Path]) -> None:
    specialist = build_vision(pull_base(str(bases["resnet"])))

    first, again, other = (specialist.self_test_row(text).values for text in ("ill", "ill", "normal"))

    assert first is not None
    assert (first.shape, first[0, 0]) == ((32, 32), first[3, 3])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_convolutions_with_lora_are_left_as_peft_has_them(bases: dict[str, Path]) -> None:
    specialist = changed(build_vision(pull_base(str(bases["lite"]))))
    before = answers(specialist, [PICTURE])

    with fused_lora(specialist.backbone):
        within = answers(specialist, [PICTURE])
        assert not [m for m in specialist.backbone.modules() if isinstance(m, peft.tuners.lora.Conv2d) and "forward" in vars(m)]

    assert torch.equal(within, before)


@pytest.mark.parametrize("name", ["resnet", "lite", "vit"])
def test_the_mean_of_a_map_is_the_evidence_for_the_label(name: str, bases: dict[str, Path]) -> None:
    specialist = build_vision(pull_base(str(bases[name])))
    if name == "vit":  # whose mean takes in the token before the patches, too
        specialist.pooling = "mean"
    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    with torch.no_grad():
        specialist.head.linear.bias.copy_(torch.tensor([0.3, -0.2]))

    drawn = activation_map(specialist, picture, 1)
    logits = answers(specialist, [picture])[0] - specialist.head.linear.bias.detach()

    assert (drawn.shape, drawn.dtype) == ((32, 32), np.float32)
    np.testing.assert_allclose(activation_map(specialist, picture, 0), -drawn, atol=1e-5)
    if name == "lite":  # one place alone, so nothing is lost in drawing it out
        assert drawn == pytest.approx(float(logits[1] - logits.mean()), abs=1e-5)


def test_a_map_is_high_where_the_label_is_seen() -> None:
    """A backbone whose only feature is the picture itself: the map must be the picture."""

    class Eye(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, pixel_values: torch.Tensor) -> Any:
            maps = F.avg_pool2d(pixel_values, 8)
            return type("Said", (), {"last_hidden_state": maps, "pooler_output": maps.mean((2, 3))})

    specialist = VisionSpecialist.__new__(VisionSpecialist)
    nn.Module.__init__(specialist)
    from vertical_sdk.families.head import Head

    specialist.backbone, specialist.head, specialist.task, specialist.labels = Eye(), Head(3, 2), "classification", LABELS
    specialist.size, specialist.max_length, specialist.more, specialist.pooling = 32, 4, {}, "mean"
    specialist.mean, specialist.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    with torch.no_grad():
        specialist.head.linear.weight.copy_(torch.tensor([[0.0] * 3, [1.0] * 3]))
    picture = np.zeros((32, 32), dtype=np.uint8)
    picture[8:16, 16:24] = 255

    drawn = activation_map(specialist, picture, 1)

    assert np.unravel_index(drawn.argmax(), drawn.shape)[0] in range(8, 16)
    assert np.unravel_index(drawn.argmax(), drawn.shape)[1] in range(16, 24)
    assert drawn[24:, :8] == pytest.approx(0.0)


def test_a_model_of_timm_that_is_not_ours_needs_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    config = json.loads((save_lite(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "resnet50"}))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "timm" else find(name, *more))

    with pytest.raises(MissingExtra, match=r"a model of timm.*needs the extra 'vision': pip install .*\[vision\]"):
        load_backbone(pull_base(str(tmp_path)))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(save_lite(tmp_path) / "model.safetensors")
    save_file({k: v for k, v in state.items() if k != "conv_head.weight"}, tmp_path / "model.safetensors")

    with pytest.raises(BaseModelError, match="its weights are not those of tf_efficientnet_lite0"):
        load_backbone(pull_base(str(tmp_path)))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    from vertical_sdk.bases.efficientnet import convert_checkpoint

    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv": Trap()}, tmp_path / "trap.pth")
    torch.save({"conv": torch.zeros(2)}, tmp_path / "other.pth")

    with pytest.raises(BaseModelError, match=r"trap\.pth: is cut, changed or not a checkpoint"):
        convert_checkpoint(tmp_path / "trap.pth", tmp_path / "new")
    with pytest.raises(BaseModelError, match=r"other\.pth: its tensors are not those"):
        convert_checkpoint(tmp_path / "other.pth", tmp_path / "new")
    assert not (tmp_path / "ran").exists()


def test_a_row_counts_as_one_thing_to_learn(bases: dict[str, Path]) -> None:
    row: Encoded = build_vision(pull_base(str(bases["resnet"]))).encode(Example("a", values=PICTURE, target="ill"), learn=True)

    assert (row.units, row.target, row.cut) == (1, 1, 0)
