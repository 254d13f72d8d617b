"""TorchIO on slices in memory, item by item, each a volume of one slice, as TorchIO takes them.

    python -m candidates.input_torchio FOLDER

It has no brightness and contrast as the others have them; gamma stands for both.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torchio as tio
from torch.utils.data import DataLoader

from candidates.input_epoch import BATCH, read_epoch, slices_per_s
from candidates.measured import report


def chain() -> tio.Compose:
    """Return the five kinds, with the strengths of bundles/resunet.json."""
    return tio.Compose(
        [
            tio.RandomFlip(axes=0, flip_probability=0.5),
            tio.RandomFlip(axes=1, flip_probability=0.1),
            tio.RandomAffine(scales=(0.8, 1.2, 0.8, 1.2, 1, 1), degrees=(0, 0, 0, 0, -15, 15), default_pad_value=0, p=0.8),
            tio.RandomElasticDeformation(num_control_points=(8, 9, 5), max_displacement=(6, 6, 0), p=0.8),
            tio.RandomGamma(p=0.8),
        ]
    )


def as_batch(subjects: list[tio.Subject]) -> dict[str, torch.Tensor]:
    """Return image and label map `(B, 1, H, W)`."""
    return {key: torch.stack([subject[key].data[..., 0] for subject in subjects]) for key in ("image", "label")}


def batches(folder: Path) -> Iterator[Any]:
    """Yield batches without end."""
    subjects = [
        tio.Subject(image=tio.ScalarImage(tensor=image[None, ..., None]), label=tio.LabelMap(tensor=label[None, ..., None]))
        for image, label in zip(*map(torch.from_numpy, read_epoch(folder)), strict=True)
    ]
    dataset = tio.SubjectsDataset(subjects, transform=chain())
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True, collate_fn=as_batch)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def main() -> None:
    """Measure and print."""
    report(("torchio", "torch"), slices_per_s=slices_per_s(batches(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
