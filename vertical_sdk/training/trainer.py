"""The trainer: transformers.Trainer with three changes, each exact.

1. A batch goes through the model in length-sorted parts under a token budget, without padding if the base allows it
   (`training.packing`). Every loss is a mean over rows, so the sum of the parts' gradients, each weighted by its share of the learned
   units, is the batch's gradient.
2. Only trained weights are saved, and a checkpoint counts only after its list of digests is written: resume skips a save that was
   killed or ran out of disk.
   A loss that compares rows with each other (`catalog.Part.compares_rows`) is the exception: its batch is one part, in which rows with
   one target are together.
3. The learned units are counted over all processes and accumulation steps, so that two processes learn the same as one.

Further methods are off unless `train` has their keys: `training.averaging`, `training.rdrop`, `training.adversarial` and
`training.learning_rates`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler
from torch.utils.tensorboard import SummaryWriter
from transformers.integrations.integration_utils import TensorBoardCallback

from vertical_sdk.errors import DataError, RunError
from vertical_sdk.families.batching import Encoded, even_batches, micro_batches
from vertical_sdk.families.specialist import Specialist
from vertical_sdk.paths import file_digest, report_full_disk, write_whole
from vertical_sdk.tasks import get_task
from vertical_sdk.training.adversarial import Adversary
from vertical_sdk.training.averaging import WeightAverage
from vertical_sdk.training.frozen_layers import FrozenLayers, open_cache
from vertical_sdk.training.learning_rates import find_rate_factors, split_groups
from vertical_sdk.training.packing import find_obstacle, packed_loss
from vertical_sdk.training.rdrop import rdrop_loss, require_dropout
from vertical_sdk.training_arguments import Arguments
from vertical_sdk.types import Progress

__all__ = ["VerticalTrainer", "last_checkpoint"]

WEIGHTS = "trained.safetensors"
AVERAGE = "average.safetensors"
COMPLETE = "complete.json"


class VerticalTrainer(transformers.Trainer):
    """Trains a specialist on encoded rows."""

    def __init__(
        self,
        specialist: Specialist,
        arguments: Arguments,
        train: Sequence[Encoded],
        validation: Sequence[Encoded],
        loss: Callable[..., Tensor],
        progress: Progress,
        watchers: Sequence[transformers.TrainerCallback] = (),
        *,
        compares_rows: bool = False,
    ) -> None:
        self.specialist = specialist
        self.loss = loss
        self.compares_rows = compares_rows
        self.report = progress
        self.budget = arguments.tokens_per_pass
        callbacks: list[transformers.TrainerCallback] = [_ReportProgress(progress), *watchers]
        if arguments.process_index == 0:
            tensorboard: Any = TensorBoardCallback
            callbacks.append(tensorboard(SummaryWriter(str(Path(str(arguments.output_dir)).parent / "events"))))
        if not validation:
            arguments.eval_strategy = transformers.trainer_utils.IntervalStrategy.NO
            arguments.load_best_model_at_end = False
        elif arguments.early_stopping_patience is not None:
            callbacks.append(transformers.EarlyStoppingCallback(arguments.early_stopping_patience))
        module: Any = specialist
        super().__init__(
            model=module,
            args=arguments,
            train_dataset=list(train),
            eval_dataset=list(validation) or None,
            data_collator=_keep_rows,
            callbacks=callbacks,
        )
        self.remove_callback(transformers.PrinterCallback)
        self.can_return_loss = True
        self._set_up_methods(arguments)

    def _set_up_methods(self, arguments: Arguments) -> None:
        """Prepare the methods that the arguments name."""
        self.rdrop_alpha = arguments.rdrop_alpha
        if self.rdrop_alpha is not None:
            require_dropout(self.specialist, "train")
        self.average = WeightAverage(self._trained(), arguments.ema_decay) if arguments.ema_decay is not None else None
        if self.average is not None:
            self.add_callback(_UpdateAverage(self.average))
        epsilon = arguments.adversarial_epsilon
        self.adversary = Adversary(self.specialist.backbone, epsilon) if epsilon is not None else None
        rates = (arguments.layerwise_lr_decay, arguments.loraplus_lr_ratio)
        self.rate_factors = find_rate_factors(self.specialist, *rates, "train") if rates != (None, None) else None

    def _trained(self) -> dict[str, Tensor]:
        """The trained weights by name."""
        model: Any = self.model
        return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    @property
    def trained_parameters(self) -> int:
        """The number of trained parameters."""
        return sum(weight.numel() for weight in self._trained().values())

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train. In the end, the weights are their average if there is one."""
        result = super().train(*args, **kwargs)
        if self.average is not None:
            self.average.copy_to_weights()
        return result

    def create_optimizer(self, model: Any = None) -> Any:
        """Create the optimizer, with a learning rate for each weight if there are several."""
        exists = self.optimizer is not None
        optimizer: Any = super().create_optimizer(model)
        if self.rate_factors is not None and not exists:
            optimizer.param_groups[:] = split_groups(optimizer.param_groups, self.rate_factors)
        return optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Draw rows at random; for a loss that compares rows, those with one target one after another."""
        rows: Any = train_dataset or self.train_dataset
        return KeySampler(rows, self.args.seed) if self.compares_rows else super()._get_train_sampler(train_dataset)

    def _get_num_items_in_batch(self, batch_samples: list[list[Encoded]], device: torch.device) -> Tensor:
        """Count the learned units of one optimizer step, over all processes."""
        own = torch.tensor(sum(row.units for rows in batch_samples for row in rows), device=device)
        total: Tensor = self.accelerator.reduce(own, reduction="sum") if self.args.world_size > 1 else own
        return total

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run forward and backward over one batch in parts. Returns the batch's share of the step's mean loss."""
        model.train()
        rows: list[Encoded] = inputs
        groups = self._split(rows, self.budget if self.rdrop_alpha is None else max(1, self.budget // 2))
        total = torch.zeros((), device=self.args.device)
        for number, group in enumerate(groups):
            part = [rows[position] for position in group]
            # processes average their gradients once, after the last part; the factor world_size makes the average a sum
            wait = self.accelerator.no_sync(model) if number < len(groups) - 1 else contextlib.nullcontext()
            if self.adversary is None:
                with wait:
                    total += self._learn(model, part, num_items_in_batch)
                continue
            with self.accelerator.no_sync(model), self.adversary.record():
                total += self._learn(model, part, num_items_in_batch)
            with wait, self.adversary.move():
                self._learn(model, part, num_items_in_batch)
        return total

    def _learn(self, model: Any, part: Sequence[Encoded], units: Any) -> Tensor:
        """Add the gradient of some rows; return their part of the step's mean loss over so many units."""
        value: Tensor = self._part_loss(model, part) / units * self.args.world_size
        self.accelerator.backward(value)
        return value.detach()

    def _part_loss(self, model: Any, part: Sequence[Encoded]) -> Tensor:
        """Sum the losses of some rows. With R-Drop, a training pass has each row twice."""
        units = sum(row.units for row in part)
        loss = self.loss
        if self.rdrop_alpha is not None and model.training:
            task = get_task(self.specialist.task)
            loss = functools.partial(rdrop_loss, loss, self.rdrop_alpha, exclusive=task.written or task.single_label)
            part = [*part, *part]
        if self._packs:
            return packed_loss(model, self.specialist, part, loss, self._lower) * units
        batch = {key: value.to(self.args.device) for key, value in self.specialist.collate(part).items()}
        more = {"avoid": batch["avoid"]} if "avoid" in batch else {}
        outputs, targets = model(batch)
        return loss(outputs.float(), targets, **more) * units

    @functools.cached_property
    def _packs(self) -> bool:
        """Whether the base reads rows without padding; else each part is padded."""
        rows: Any = self.train_dataset
        with self.accelerator.autocast():
            reason = self._find_obstacle_of_methods(rows) or find_obstacle(
                self.specialist, rows, checkpointing=bool(self.args.gradient_checkpointing)
            )
        if reason:
            self.report(f"note: rows are padded in training: {reason}", None)
        return not reason

    def _find_obstacle_of_methods(self, rows: Sequence[Encoded]) -> str:
        """Say why a method needs padded rows; "" if none does."""
        if self.rdrop_alpha is not None and rows and rows[0].learn:
            return "rdrop_alpha compares the logits of whole answers"
        if self.adversary is not None and getattr(self.specialist, "shares", False):
            return "adversarial_epsilon moves the tokens of each row, also those that all rows begin with"
        return ""

    @functools.cached_property
    def _lower(self) -> FrozenLayers | None:
        """What the layers below the trained ones compute; None if the lowest layer is trained, or the embeddings are moved."""
        if self.adversary is not None:
            return None
        rows: Any = [*(self.train_dataset or ()), *(self.eval_dataset or ())]  # type: ignore[misc]
        specialist: Any = self.specialist
        width = specialist.backbone.get_base_model().config.hidden_size
        tail = len(specialist.pack(rows[:1])["layout"].tail.parents)
        return open_cache(specialist.backbone, rows, Path(str(self.args.output_dir)), width, tail)

    def _split(self, rows: Sequence[Encoded], budget: int) -> list[list[int]]:
        """The positions of rows in parts under a budget of tokens; for a loss that compares rows, in batches as in training."""
        if self.compares_rows:
            order = sorted(range(len(rows)), key=lambda n: rows[n].target)  # type: ignore[arg-type,return-value]
            size = self.args.per_device_train_batch_size
            return [order[start : start + size] for start in range(0, len(order), size)]
        lengths = [row.length for row in rows]
        return even_batches(lengths, budget) if self._packs else list(micro_batches(lengths, budget))

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Measure the loss on the validation rows and log it, with the average of the weights if there is one."""
        with contextlib.nullcontext() if self.average is None else self.average.in_place():
            metrics = {f"{metric_key_prefix}_loss": self.measure_loss()}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure_loss(self) -> float:
        """Measure the mean loss on the validation rows; every process gets the same value."""
        rows: Any = self.eval_dataset
        model: Any = self.model
        model.eval()
        total = 0.0
        with torch.no_grad(), self.accelerator.autocast():
            for group in self._split(rows, 4 * self.budget):
                total += float(self._part_loss(model, [rows[position] for position in group]))
        return total / float(sum(row.units for row in rows))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach().contiguous() for name, weight in self._trained().items()}, folder / WEIGHTS)
        if self.average is not None:
            save_file({name: value.contiguous() for name, value in self.average.values.items()}, folder / AVERAGE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._load_trained(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            self._load_trained(Path(self.state.best_model_checkpoint))

    def _load_trained(self, folder: Path) -> None:
        model: Any = self.model
        trained = load_file(folder / WEIGHTS)
        if set(trained) != set(self._trained()):
            raise RunError("Another recipe or base saved this checkpoint. Train into another folder.", where=folder)
        model.load_state_dict(trained, strict=False)
        if self.average is not None:
            self.average.load(load_file(folder / AVERAGE))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save and folder.exists():
            shutil.rmtree(folder)  # left by an interrupted save
        with report_full_disk(folder):
            super()._save_checkpoint(model, trial)
        if self.args.should_save:
            digests = {p.name: file_digest(p) for p in sorted(folder.iterdir()) if p.is_file()}
            write_whole(folder / COMPLETE, json.dumps(digests, indent=1))


class KeySampler(Sampler[int]):
    """The positions of rows, in each epoch in another order; rows with one target are one after another.

    The order depends on the seed and the number of the epoch alone, so that a resumed training has it too.
    """

    def __init__(self, rows: Sequence[Encoded], seed: int) -> None:
        self.counterparts: dict[Any, list[int]] = {}
        for position, row in enumerate(rows):
            self.counterparts.setdefault(row.target, []).append(position)
        self.count, self.seed, self.epoch = len(rows), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        groups = list(self.counterparts.values())
        random.Random(f"{self.seed} {self.epoch}").shuffle(groups)  # noqa: S311
        return (position for group in groups for position in group)


def _keep_rows(rows: list[Any]) -> Any:
    """Return a batch as its rows: `training_step` pads them, part by part."""
    return rows


def last_checkpoint(folder: Path) -> Path | None:
    """Find the newest complete checkpoint; None if there is none."""
    numbered = [(int(p.name.rpartition("-")[2]), p) for p in folder.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()]
    for _, path in sorted(numbered, reverse=True):
        with contextlib.suppress(OSError, ValueError):
            digests = json.loads((path / COMPLETE).read_text())
            if all(file_digest(path / name) == digest for name, digest in digests.items()):
                return path
    return None


class _UpdateAverage(transformers.TrainerCallback):
    """Take the weights after each step into their average."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.average.update(state.global_step)


class _ReportProgress(transformers.TrainerCallback):
    """Report the progress, and stop a run whose loss is not finite."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress("training", state.global_step / max(1, state.max_steps))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss", (logs or {}).get("eval_loss"))
        if loss is not None and not math.isfinite(loss):
            raise DataError(
                f"the loss became {loss} at step {state.global_step}, so training cannot continue. Lower train.learning_rate, or look "
                "for wrong targets with `vertical data check`."
            )
