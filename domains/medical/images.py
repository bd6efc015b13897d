"""Medical pictures: the reader of MedMNIST's files, and ways in which the same picture might have been taken.

Nothing here mirrors a picture: the heart is on the left, and left and right are written on films. Nothing cuts or hides a
part of it, as the part may be the finding.
"""

from __future__ import annotations

import math
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import Share, augmentations, readers
from vertical_sdk.data.account import StepAccount
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, Split, TaskName

__all__ = ["intensity_window", "medmnist", "rotate", "shift", "zoom"]

PARTS: tuple[tuple[str, Split], ...] = (("train", "train"), ("val", "validation"), ("test", "test"))
"""A part's name in the file, and its name here."""
Picture = NDArray[np.uint8]
Part = Annotated[float, Field(ge=0, lt=0.5)]
Angle = Annotated[float, Field(ge=0, le=45)]


@readers.register("medical.medmnist", tasks=("classification", "ordinal"))
def medmnist(
    path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop", *, names: tuple[str, ...] = ()
) -> Table:
    """Pictures of a MedMNIST file (Yang et al., 2023): an .npz with train_images, train_labels, and the same of val and test.

    Images are bytes, (n, h, w) or (n, h, w, 3); labels are (n,) or (n, 1) numbers from 0. Each picture keeps the part that
    the file gives it. A file without a test part is judged on its val part, and validation rows are then to be taken out of
    training (`split: given` does). To be predicted, a file may hold images alone, without parts and labels.

    names  names of the labels 0, 1, 2, ...; their numbers if not given

    Raises DataError that names the file and the array which is missing, cut, or not what it should be.
    """
    readers.require("medical.medmnist", task, "data.reader")
    if columns:
        raise RecipeError("medical.medmnist reads arrays, which have no columns. Leave data.columns out.")
    arrays = _read_arrays(path)
    parts: list[tuple[str, Split | None]] = [(key, split) for key, split in PARTS if f"{key}_images" in arrays]
    if not parts and "images" not in arrays:
        raise DataError(f"{path}: has no train_images, val_images or test_images; it has {', '.join(arrays) or 'nothing'}.")
    examples: list[Example] = []
    for key, split in parts or [("", None)]:
        stem = f"{key}_" if key else ""
        images = _check_images(path, f"{stem}images", arrays)
        labels = _check_labels(path, f"{stem}labels", arrays, len(images), names, missing)
        place = "test" if key == "val" and len(parts) > 1 and "test_images" not in arrays else split
        examples += [
            Example(f"{key}:{n}" if key else str(n), target=label, split=place, values=image)
            for n, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
    sizes = ", ".join(f"{len(arrays[f'{key}_images'])} {key}" for key, _ in parts) or f"{len(examples)}"
    return Table(
        tuple(examples),
        f"MedMNIST: {sizes} images of {'×'.join(map(str, examples[0].values.shape if examples[0].values is not None else ()))}",
        labels=names or None,
        license="CC-BY-4.0",
        account=StepAccount("read", len(examples), len(examples)),
    )


@augmentations.register("medical.shift")
def shift(example: Example, rng: random.Random, *, p: Share = 0.5, most: Part = 0.1) -> Example:
    """With probability p move the picture by up to this share of its sides, as if the patient stood elsewhere.

    What comes in at an edge repeats the edge. The label never changes.
    """
    down, right = (rng.uniform(-most, most) for _ in range(2))
    return _visible_box(example, rng, p, lambda image: _move_image(image, down=down, right=right))


@augmentations.register("medical.rotate")
def rotate(example: Example, rng: random.Random, *, p: Share = 0.5, degrees: Angle = 10.0) -> Example:
    """With probability p turn the picture by up to so many degrees, as if the patient leaned. The label never changes."""
    angle = rng.uniform(-degrees, degrees)
    return _visible_box(example, rng, p, lambda image: _move_image(image, angle=angle))


@augmentations.register("medical.zoom")
def zoom(example: Example, rng: random.Random, *, p: Share = 0.5, most: Part = 0.15) -> Example:
    """With probability p show the picture larger or smaller by up to this share, as if taken nearer. The label never changes."""
    scale = math.exp(rng.uniform(-1, 1) * math.log1p(most))
    return _visible_box(example, rng, p, lambda image: _move_image(image, scale=scale))


@augmentations.register("medical.intensity_window")
def intensity_window(
    example: Example, rng: random.Random, *, p: Share = 0.5, most: Part = 0.2, gamma: Annotated[float, Field(ge=0, le=1)] = 0.0
) -> Example:
    """With probability p another window of greys, as another exposure or screen would show: what is black and white moves.

    most   by how much of the range from black to white either end may move
    gamma  how far the greys between may bend: grey^g, with g from 1/(1 + gamma) to 1 + gamma

    The label never changes.
    """
    black, white = rng.uniform(-most, most), 1 + rng.uniform(-most, most)
    bend = math.exp(rng.uniform(-1, 1) * math.log1p(gamma))

    def change(image: Picture) -> Picture:
        window = ((image / 255.0 - black) / (white - black)).clip(0, 1)
        return _read_bytes(255.0 * window**bend)

    return _visible_box(example, rng, p, change)


def _visible_box(example: Example, rng: random.Random, p: float, change: Callable[[Picture], Picture]) -> Example:
    """The row with its picture changed, with probability p.

    Raises DataError if it has none.
    """
    if example.values is None or example.values.dtype != np.uint8 or example.values.ndim not in {2, 3}:
        raise DataError(
            f"row {example.id}: not a picture of bytes (height, width) or (height, width, 3), as this augmentation needs."
        )
    return replace(example, values=change(example.values)) if rng.random() < p else example


def _move_image(image: Picture, *, down: float = 0.0, right: float = 0.0, angle: float = 0.0, scale: float = 1.0) -> Picture:
    """The picture moved by shares of its sides, turned by degrees and made larger about its middle, by cubic splines."""
    from scipy import ndimage

    height, width = image.shape[:2]
    turn = math.radians(angle)
    matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) / scale
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = middle - matrix @ (middle + np.array([down * height, right * width]))
    channels = image.astype(np.float64).reshape(height, width, -1)
    moved = [
        ndimage.affine_transform(channels[..., n], matrix, offset=offset, order=3, mode="nearest")
        for n in range(channels.shape[2])
    ]
    return _read_bytes(np.stack(moved, axis=-1).reshape(image.shape))


def _read_bytes(image: NDArray[np.float64]) -> Picture:
    return np.rint(image).clip(0, 255).astype(np.uint8)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What the file holds; arrays of Python objects are pickles, and never read."""
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: is one array; an .npz file with named arrays is needed.")
            return {key: file[key] for key in file.files}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{path}: cannot be read as an .npz file of numbers: {error}") from None


def _check_images(path: Path, key: str, arrays: Mapping[str, NDArray[Any]]) -> Picture:
    images = arrays[key]
    if (
        images.dtype != np.uint8
        or images.ndim not in {3, 4}
        or (images.ndim == 4 and images.shape[3] != 3)
        or 0 in images.shape
    ):
        raise DataError(
            f"{path}: {key} is {images.dtype} {images.shape}; bytes (n, height, width) or (n, height, width, 3) are needed."
        )
    return images


def _check_labels(
    path: Path, key: str, arrays: Mapping[str, NDArray[Any]], count: int, names: tuple[str, ...], missing: Missing
) -> list[str | None]:
    """List one label an image, by name; None for all if the array is missing and rows may lack labels."""
    if key not in arrays:
        if missing == "keep":
            return [None] * count
        raise DataError(f"{path}: has images but no {key}.")
    labels = arrays[key]
    if labels.shape not in {(count,), (count, 1)} or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {key} is {labels.dtype} {labels.shape}; one whole number for each of the {count} images is needed."
        )
    numbers = labels.reshape(-1).tolist()
    if numbers and (min(numbers) < 0 or (names and max(numbers) >= len(names))):
        wrong = next(n for n in numbers if n < 0 or (names and n >= len(names)))
        raise DataError(f"{path}: {key} has the label {wrong}; {len(names)} names are given, for 0 to {len(names) - 1}.")
    return [names[n] if names else str(n) for n in numbers]
