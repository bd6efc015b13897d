"""Series of numbers read by a backbone that was pretrained on text: patches, or whole channels, take the place of words.

The backbone is frozen but for LoRA; what goes in and comes out is trained (Zhou et al., One Fits All, 2023). A forecast is a linear model's,
fitted before training, and what a small network, which sees one channel, and the backbone add to it:

    forecast = last value + spread of the channel · (linear(features) + curved(features, channel) + outlet(backbone(features)))

The features of a channel are its own history and that of the channels near by in the graph, both from the last value and in units of
the channel's spread, which values were measured, the usual course of the day (of the week, after four weeks) before and after now, and
the time. Labels and numbers are read from the mean of the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertical_sdk.bases.base import Base
from vertical_sdk.card import Card
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import CorruptAdapter, DataError, RecipeError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.clock import SMOOTHING_SECONDS, WEEKLY_FROM, fill_gaps, neighbour_weights, seconds_since_monday
from vertical_sdk.families.head import HEAD, Head, load_head, save_head
from vertical_sdk.families.specialist import Batch, load_backbone
from vertical_sdk.families.text_backbone import drop_layers, find_model, lora_on_layers, run_tokens
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import get_task
from vertical_sdk.tensors import load_tensors
from vertical_sdk.types import DAY, LARGEST, WEEK, Example, Family, LabelSpace, Modality, SeriesLayout, TaskName

__all__ = ["SERIES", "SeriesSpecialist", "seconds_of_week"]

SERIES = "series.safetensors"
RIDGE = 1e-4
"""Penalty of the linear model, as a share of the features' mean square."""
LINEAR_ROWS = 50_000
"""The linear model is fitted on at most so many rows of channels."""
ROUNDS = 10
NAME, HIDDEN = 16, 128
"""Learned numbers of each channel, and the width of the small network."""


def seconds_of_week(time: str | None) -> float:
    """Compute the seconds since Monday 0:00 of an ISO time; 0 for None.

    Raises DataError for text that is not a time.
    """
    if time is None:
        return 0.0
    try:
        return seconds_since_monday(time) % WEEK
    except ValueError:
        raise DataError(f"{time!r} is not a time. Write it as 2024-01-31T08:05:00.") from None


class Course(nn.Module):
    """The linear forecast, and the scale and usual course of each channel, learned from the training rows.

    spread   (channels,) standard deviation of each
    usual    (slots, channels) mean at each time of the day or week
    period   () seconds of all slots
    others   (7, slots, channels) the same without the rows of one weekday, during training: the usual value must not come from the
             row itself
    near     (channels, channels) rows of weights of the channels near by, which sum to 1; zero without a graph
    linear   features → (horizon · quantiles)
    curved   features and what is learned of the channel → the same, of two hidden layers; begins at 0
    """

    def __init__(self, layout: SeriesLayout, quantiles: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layout, self.quantiles = layout, quantiles
        channels, slots = len(layout.channels), max(1, round(WEEK / layout.seconds))
        self.spread: Tensor
        self.usual: Tensor
        self.period: Tensor
        self.near: Tensor
        self.register_buffer("spread", torch.ones(channels))
        self.register_buffer("usual", torch.zeros(slots, channels))
        self.register_buffer("period", torch.tensor(WEEK))
        near = neighbour_weights(layout)
        self.register_buffer("near", torch.zeros(channels, channels) if near is None else torch.from_numpy(near).float())
        self.others: Tensor | None
        self.register_buffer("others", None, persistent=False)
        outputs = layout.horizon * quantiles
        self.linear = nn.Linear(self.width, outputs)
        self.name = nn.Embedding(channels, NAME)
        self.curved = nn.Sequential(
            *(nn.Linear(self.width + NAME, HIDDEN), nn.GELU(), nn.Dropout(dropout)),
            *(nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Dropout(dropout)),
            nn.Linear(HIDDEN, outputs),
        )
        for parameter in self.curved[-1].parameters():
            nn.init.zeros_(parameter)

    @property
    def width(self) -> int:
        """Features of one channel."""
        layout = self.layout
        return 2 * layout.history + layout.history * bool(self.near.any()) + layout.history + layout.horizon + 4

    def features(self, values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Features (rows, channels, width) and the last values (rows, channels) of histories (rows, steps, channels).

        A missing value counts as the last value before it; a channel without any value has its usual value.
        """
        layout = self.layout
        expected = self._usual(at, -layout.history + 1, layout.history)
        known = ~values.isnan()
        filled = fill_gaps(values, expected)
        last = filled[:, -1]
        history = (filled - last[:, None]) / self.spread
        parts = [history, known.float()]
        if bool(self.near.any()):
            parts.append((filled @ self.near.T - last[:, None]) / self.spread)
        parts += [(expected - last[:, None]) / self.spread, (self._usual(at, 1, layout.horizon) - last[:, None]) / self.spread]
        angles = at[:, None] / torch.tensor([DAY, WEEK], device=at.device) * 2 * math.pi
        clock = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :, None].expand(-1, -1, values.shape[2])
        return torch.cat([*parts, clock], dim=1).transpose(1, 2), last

    def forward(self, features: Tensor, last: Tensor, more: Tensor | None = None) -> Tensor:
        """The forecast (rows, horizon, channels, quantiles) in the data's unit; `more` (rows, channels, horizon · quantiles) is added."""
        named = torch.cat([features, self.name.weight.expand(len(features), -1, -1)], dim=-1)
        steps: Tensor = self.linear(features) + self.curved(named)
        if more is not None:
            steps = steps + more
        steps = steps.reshape(*steps.shape[:2], self.layout.horizon, self.quantiles).transpose(1, 2)
        return last[:, None, :, None] + self.spread[:, None] * steps

    @torch.no_grad()
    def fit(self, values: Tensor, at: Tensor, targets: Tensor, levels: Sequence[float]) -> None:
        """Fit spreads, the usual course, and the linear model (by quantile regression) on the training rows."""
        spread = _wide_std(targets.flatten(0, 1))
        self.spread.copy_(spread.clamp_min(1e-6 + 1e-3 * float(spread.mean())))
        self._learn_usual(targets, at)
        x, last = self.features(values, at)
        y = (targets - last[:, None]) / self.spread
        x, y = x.flatten(0, 1), y.transpose(1, 2).flatten(0, 1)
        whole = torch.nonzero(~y.isnan().any(dim=1))[:, 0]
        if len(whole) < 2 * self.width:
            return
        if len(whole) > LINEAR_ROWS:
            whole = whole[torch.linspace(0, len(whole) - 1, LINEAR_ROWS).long()]
        x = torch.cat([x[whole], torch.ones(len(whole), 1)], dim=1).double()
        found = torch.stack(
            [_quantile_lines(x, y[whole].double(), level) for level in levels], dim=2
        )  # (width + 1, horizon, q)
        self.linear.weight.copy_(found[:-1].flatten(1).T)
        self.linear.bias.copy_(found[-1].flatten())

    def _learn_usual(self, targets: Tensor, at: Tensor) -> None:
        seconds = self.layout.seconds
        apart = torch.unique(at).diff()
        pace = float(apart.min()) if len(apart) else seconds  # of the rows, which may skip steps
        weekly = len(at) * pace / WEEK >= WEEKLY_FROM
        period = WEEK if weekly else DAY
        used = max(1, round(period / seconds))
        steps = torch.arange(1, targets.shape[1] + 1) * seconds
        slot = (((at[:, None] + steps) % period) / seconds).round().long() % used
        day = (at // DAY).long()[:, None].expand_as(slot)
        known = ~targets.isnan()
        total = torch.zeros(7, used, targets.shape[2], dtype=torch.float64)
        count = torch.zeros_like(total)
        total.index_put_((day, slot), targets.nan_to_num().double(), accumulate=True)
        count.index_put_((day, slot), known.double(), accumulate=True)
        if around := round(SMOOTHING_SECONDS / seconds):  # single slots have few rows
            total, count = (torch.stack([one.roll(k, 1) for k in range(-around, around + 1)]).sum(0) for one in (total, count))
        if not weekly and int((count.sum((1, 2)) > 0).sum()) > 1:
            self.others = _means(total.sum(0) - total, count.sum(0) - count)
        self.usual[:used] = _means(total.sum(0)[None], count.sum(0)[None])[0]
        self.period.fill_(period)

    def _usual(self, at: Tensor, first: int, steps: int) -> Tensor:
        """Compute the usual values of `steps` steps, the first one `first` seconds after `at`: (rows, steps, channels)."""
        seconds = at[:, None] + torch.arange(first, first + steps, device=at.device) * self.layout.seconds
        used = max(1, round(float(self.period) / self.layout.seconds))
        slot = ((seconds % self.period) / self.layout.seconds).round().long() % used
        if self.training and self.others is not None:
            return self.others[(at // DAY).long()[:, None].expand_as(slot), slot]
        found: Tensor = self.usual[slot]
        return found


def _means(total: Tensor, count: Tensor) -> Tensor:
    """Average (n, slots, channels) over n; a slot without rows has the channel's mean."""
    whole = total.sum(1, keepdim=True) / count.sum(1, keepdim=True).clamp_min(1)
    return torch.where(count > 0, total / count.clamp_min(1), whole).float()


class SeriesSpecialist(nn.Module):
    """Series → tokens of the backbone's width → backbone → labels, numbers or the next steps."""

    reads: ClassVar[Modality] = "series"
    bases: ClassVar[tuple[Family, ...]] = ("encoder", "causal")
    auto_class: ClassVar[str] = "AutoModel"

    def __init__(
        self,
        backbone: Any,
        recipe: Recipe,
        labels: LabelSpace | None,
        layout: SeriesLayout | None,
        head: Head | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = None
        self.task: TaskName = recipe.task
        self.labels = labels
        self.layout = layout
        self.settings = recipe.series
        self.max_length = recipe.data.max_length
        self.dropout = nn.Dropout(recipe.head.dropout)
        self.levels = (0.5, *recipe.series.quantiles)
        model = find_model(backbone)
        drop_layers(model, self.settings.layers, "series.layers")
        width = model.config.hidden_size
        self.head: Head | None = None
        self.own = nn.ModuleDict()
        if get_task(self.task).ahead:
            if layout is None:
                raise RecipeError(f"{recipe.name}: {self.task} needs a reader that gives the layout of its channels.")
            course = Course(layout, len(self.levels), recipe.head.dropout)
            self.own["course"] = course
            size = course.width
            tokens = 1
            if self.settings.tokens == "patches":
                size, tokens = 2 * self.settings.patch, 1 + math.ceil(layout.history / self.settings.patch)
                self.own["context"] = nn.Linear(course.width - 2 * layout.history, width)
            else:
                self.own["name"] = nn.Embedding(len(layout.channels), width)
            outlet = nn.Linear(tokens * width, layout.horizon * len(self.levels))
            nn.init.zeros_(outlet.weight)
            nn.init.zeros_(outlet.bias)
            self.own["outlet"] = outlet
        else:
            if self.settings.tokens == "channels":
                raise RecipeError(f"{recipe.name}: series.tokens: channels is for forecasting; a {self.task} reads patches.")
            size = 2 * self.settings.patch
            self.own["context"] = nn.Linear(2, width)
            self.head = head or Head(width, len(labels) if labels else 1)
        self.own["embed"] = nn.Linear(size, width)
        spread = float(model.get_input_embeddings().weight.std())
        for way, made in self.own.items():
            if isinstance(made, nn.Linear | nn.Embedding) and way != "outlet":
                nn.init.normal_(made.weight, std=spread / math.sqrt(getattr(made, "in_features", 1)))

    @classmethod
    def build_untrained(
        cls, base: Base, recipe: Recipe, labels: LabelSpace | None, layout: SeriesLayout | None = None
    ) -> SeriesSpecialist:
        """Build an untrained specialist: LoRA that changes nothing yet, random input layers, and output layers of zero."""
        adapted = lora_on_layers(load_backbone(base), recipe, recipe.series.layers, "series.layers", base.name)
        made = cls(adapted, recipe, labels, layout)
        if (
            layout is not None
            and base.max_length is not None
            and made.tokens(layout.history, len(layout.channels)) > base.max_length
        ):
            raise RecipeError(
                f"{recipe.name}: series: {layout.history} steps of {len(layout.channels)} channels are more tokens than the at most "
                f"{base.max_length} tokens that {base.name} reads. Raise series.patch, or take another base."
            )
        return made

    def tokens(self, steps: int, channels: int) -> int:
        """Count the tokens that see each other: all channels, or the patches of one channel and its context."""
        return channels if self.settings.tokens == "channels" else 1 + math.ceil(steps / self.settings.patch)

    @classmethod
    def load_trained(cls, backbone: Any, base: Base, recipe: Recipe, card: Card, files: CheckedFiles) -> SeriesSpecialist:
        """Load the files of `save` onto a backbone that already carries the adapter."""
        head = load_head(files) if HEAD in card.files else None
        state = load_tensors(files.read(SERIES), files.folder / SERIES)
        try:
            _check_sizes(state, recipe, card.layout)
            graph = state.get("course.near")
            layout = card.layout
            if layout is not None and graph is not None and graph.any():
                layout = replace(layout, graph=graph.numpy())
            made = cls(backbone, recipe, card.labels, layout, head)
            made.own.load_state_dict(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CorruptAdapter(f"cannot be read: {error}. Download the adapter again.", where=files.folder / SERIES) from None
        return made

    def save(self, folder: Path) -> None:
        """Write the input and output layers, and the head if there is one."""
        from safetensors.torch import save_file

        save_file({key: value.contiguous() for key, value in self.own.state_dict().items()}, folder / SERIES)
        if self.head is not None:
            save_head(folder, self.head)

    def fit_to_rows(self, rows: Sequence[Encoded]) -> None:
        """Forecasting: fit the linear model, from which training starts."""
        course = self.course
        if course is not None:
            batch = self.collate(rows)
            course.cpu().fit(batch["values"], batch["at"], batch["targets"], self.levels)
            course.to(next(self.backbone.parameters()).device)

    @property
    def scale(self) -> float:
        """The standard deviation of the targets."""
        if self.head is not None:
            return float(self.head.std)
        return float(self.course.spread.square().mean().sqrt()) if self.course else 1.0

    @property
    def course(self) -> Course | None:
        """The layout of the channels; None for labels and numbers."""
        return next((known for known in self.own.values() if isinstance(known, Course)), None)

    def self_test_row(self, text: str) -> Example:
        """Waves that depend on the text alone, in the shape of the rows."""
        steps, channels = (self.layout.history, len(self.layout.channels)) if self.layout else (8 * self.settings.patch, 1)
        rng = np.random.default_rng(stable_hash(text) % 2**32)
        phase, pace = rng.uniform(0, 6.3, channels), rng.uniform(0.1, 1.0, channels)
        waves = np.sin(np.arange(steps)[:, None] * pace + phase)
        if self.course:
            waves = self.course.usual.mean(0).cpu().numpy() + waves * self.course.spread.cpu().numpy()
        return Example(id=text, values=waves.astype(np.float32))

    def encode(self, example: Example, *, learn: bool) -> Encoded:
        """Convert the row to numbers, NaN for missing values."""
        if example.values is None:
            raise DataError(f"row {example.id}: has no series of numbers.")
        if (np.abs(example.values) > LARGEST).any():
            raise DataError(
                f"row {example.id}: contains {np.nanmax(np.abs(example.values)):g}, which is too large to be a measurement. Give NaN if "
                "nothing was measured."
            )
        values = np.asarray(example.values, dtype=np.float32)
        values = values[:, None] if values.ndim == 1 else values
        if self.layout is not None and values.shape != (self.layout.history, len(self.layout.channels)):
            raise DataError(
                f"row {example.id}: is a series of {values.shape[0]} steps and {values.shape[1]} channels; this specialist reads "
                f"{self.layout.history} steps of {len(self.layout.channels)} channels ({', '.join(self.layout.channels[:5])})."
            )
        if not np.isfinite(values).any():
            raise DataError(f"row {example.id}: has no measured value.")
        target = get_task(self.task).encode_target(example.target, self.labels) if learn else None
        size = self.tokens(*values.shape) * (1 if self.settings.tokens == "channels" else values.shape[1])
        return Encoded(values=values, at=seconds_of_week(example.time), target=target, size=size)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Batch rows: values (rows, steps, channels), padded with NaN at the start; at (rows,); targets if rows have them."""
        longest = max(len(row.values) for row in rows if row.values is not None)
        values = [torch.from_numpy(np.ascontiguousarray(row.values)) for row in rows]
        batch = {
            "values": torch.stack([F.pad(one, (0, 0, longest - len(one), 0), value=math.nan) for one in values]),
            "at": torch.tensor([row.at for row in rows]),
        }
        if rows[0].target is not None:
            targets: list[Any] = [row.target for row in rows]
            known = isinstance(targets[0], np.ndarray)
            batch["targets"] = torch.from_numpy(np.stack(targets)) if known else torch.tensor(targets)
        return batch

    def features(self, batch: Batch) -> Tensor:
        """The mean of the tokens of all channels, of length 1: (rows, width)."""
        values = batch["values"]
        mean, std = _nan_mean(values), _nan_std(values).clamp_min(1e-6)
        tokens = self._patches((values - mean[:, None]) / std[:, None], ~values.isnan())
        level = torch.stack([mean, std.log()], dim=-1).flatten(0, 1)
        hidden = self._run(torch.cat([self.own["context"](level)[:, None], tokens], dim=1))
        pooled = hidden.mean(dim=1).reshape(values.shape[0], values.shape[2], -1).mean(dim=1)
        return F.normalize(pooled.float(), dim=-1)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Outputs and targets: (rows, k), or (rows, horizon, channels, quantiles) in the data's unit."""
        if self.head is not None:
            return self.head(self.dropout(self.features(batch))), batch.get("targets")
        course = self.course
        assert course is not None
        values = batch["values"]
        features, last = course.features(values, batch["at"])
        if self.settings.tokens == "channels":
            hidden = self._run(self.own["embed"](features) + self.own["name"].weight)
        else:
            steps = course.layout.history
            tokens = self._patches(
                features[:, :, :steps].transpose(1, 2), features[:, :, steps : 2 * steps].transpose(1, 2) > 0
            )
            context = self.own["context"](features[:, :, 2 * steps :]).flatten(0, 1)
            hidden = self._run(torch.cat([context[:, None], tokens], dim=1))
            hidden = hidden.reshape(values.shape[0], values.shape[2], -1)
        more = self.own["outlet"](self.dropout(hidden.float()))
        return course(features.float(), last, more.float()), batch.get("targets")

    def _patches(self, values: Tensor, known: Tensor) -> Tensor:
        """Embed values (rows, steps, channels), and which of them were measured, as tokens (rows · channels, patches, width)."""
        short = -values.shape[1] % self.settings.patch
        both = torch.stack([values.nan_to_num() * known, known.to(values)], dim=-1)
        both = F.pad(both, (0, 0, 0, 0, short, 0)).transpose(1, 2).flatten(0, 1)  # (rows · channels, steps, 2)
        tokens: Tensor = self.own["embed"](both.reshape(len(both), -1, 2 * self.settings.patch))
        return tokens

    def _run(self, tokens: Tensor) -> Tensor:
        """Hidden states (n, tokens, width) of tokens (n, tokens, width); each token sees all others if the backbone reads both ways."""
        return run_tokens(find_model(self.backbone), tokens, ordered=True)


def _check_sizes(state: Mapping[str, Tensor], recipe: Recipe, layout: SeriesLayout | None) -> None:
    """Compare the sizes that recipe and layout ask for with the tensors, before memory is taken for them.

    Raises KeyError for a missing tensor, ValueError that names one of another size.
    """
    if layout is None or recipe.series.tokens == "patches":
        size = 2 * recipe.series.patch
        if state["embed.weight"].shape[1] != size:
            raise ValueError(f"embed.weight has the shape {tuple(state['embed.weight'].shape)}, and {size} columns are needed")
    if layout is None:
        return
    usual, linear = state["course.usual"].shape, state["course.linear.weight"].shape
    slots = max(1, round(WEEK / layout.seconds))
    if usual != (slots, len(layout.channels)):
        raise ValueError(f"course.usual has the shape {tuple(usual)}, and ({slots}, {len(layout.channels)}) is needed")
    outputs = layout.horizon * (1 + len(recipe.series.quantiles))
    if linear[0] != outputs or linear[1] < layout.history + layout.horizon:
        raise ValueError(f"course.linear.weight has the shape {tuple(linear)}, and {outputs} rows are needed")


def _quantile_lines(x: Tensor, y: Tensor, level: float) -> Tensor:
    """Linear quantile regression of each column of y (rows, k) on x (rows, width), whose last column is 1: (width, k).

    By least squares with weights that turn the square into the pinball loss (Schlossmacher, 1973, for the median).
    """
    penalty = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)

    def solve(weights: Tensor, target: Tensor) -> Any:
        weighted = x * weights[:, None]
        gram = weighted.T @ x
        return torch.linalg.solve(gram + gram.diagonal().mean() * penalty, weighted.T @ target)

    found: Tensor = solve(torch.ones(len(x), dtype=x.dtype), y)
    found[-1] += (y - x @ found).sort(dim=0).values[min(len(x) - 1, int(level * len(x)))]
    for _ in range(ROUNDS):
        off = y - x @ found
        weights = torch.where(off > 0, level, 1 - level) / off.abs().clamp_min(1e-3)
        found = torch.stack([solve(weights[:, k], y[:, k]) for k in range(y.shape[1])], dim=1)
    return found


def _nan_mean(values: Tensor) -> Tensor:
    """Average over the steps of (rows, steps, channels); 0 for a channel without values."""
    known = ~values.isnan()
    return values.nan_to_num().sum(dim=1) / known.sum(dim=1).clamp_min(1)


def _wide_std(values: Tensor) -> Tensor:
    """`_nan_std` over the rows of (rows, channels) whose sum of squares may not fit into float32.

    Each channel is divided by a power of two, which changes no digit of the result.
    """
    largest = values.nan_to_num(0.0).abs().amax(dim=0).clamp_min(1.0)
    scale = largest / torch.frexp(largest).mantissa
    return _nan_std(values / scale) * scale


def _nan_std(values: Tensor) -> Tensor:
    """The standard deviation over the steps of (rows, steps, channels), or over the rows of (rows, channels)."""
    wide = values if values.ndim == 3 else values[None]
    known = ~wide.isnan()
    off = torch.where(known, wide - _nan_mean(wide)[:, None], torch.zeros_like(wide))
    std = (off.square().sum(dim=1) / known.sum(dim=1).clamp_min(1)).sqrt()
    return std if values.ndim == 3 else std[0]
