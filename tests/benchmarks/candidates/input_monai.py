"""MONAI's dictionary transforms, item by item, on cached slices: the same kinds of augmentation, as a user would write them.

    python -m candidates.input_monai FOLDER [fused]

`fused` is the chain for those who know it well: no metadata, and rotation, scaling and deformation in one transform.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import CacheDataset, DataLoader, set_track_meta
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Rand2DElasticd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityFixedMeand,
    RandShiftIntensityd,
    RandZoomd,
    Transform,
)

from candidates.input_epoch import BATCH, slices_per_s
from candidates.measured import report

KEYS = ("image", "label")
MODE: dict[str, Any] = {"mode": ("bilinear", "nearest"), "padding_mode": "zeros"}
TURN: dict[str, Any] = {"rotate_range": np.deg2rad(15), "scale_range": (0.1, 0.1)}
# Distance and standard deviation of the control points' shift, pixels, as in bundles/resunet.json.
ELASTIC: dict[str, Any] = {"spacing": (38, 37), "magnitude_range": (3.0, 3.0)}


def spatial(fused: bool) -> list[Transform]:
    """Return rotation, scaling, zoom and deformation, as three transforms or as one."""
    if fused:
        return [Rand2DElasticd(KEYS, prob=0.8, **ELASTIC, **TURN, **MODE)]
    return [
        RandAffined(KEYS, prob=0.8, **TURN, **MODE),
        Rand2DElasticd(KEYS, prob=0.8, **ELASTIC, **MODE),
        RandZoomd(KEYS, prob=0.8, min_zoom=0.9, max_zoom=1.1, mode=("bilinear", "nearest"), padding_mode="constant"),
    ]


def chain(fused: bool) -> Compose:
    """Return the whole chain; what comes before the first random transform is cached."""
    return Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS, channel_dim="no_channel"),
            RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            RandFlipd(KEYS, prob=0.1, spatial_axis=1),
            *spatial(fused),
            RandScaleIntensityFixedMeand("image", prob=0.8, factors=0.2),
            RandShiftIntensityd("image", prob=0.8, offsets=0.1),
        ]
    )


def batches(folder: Path, fused: bool) -> Iterator[Any]:
    """Yield batches without end."""
    files = [[str(path) for path in sorted(folder.glob(f"epoch/*_{kind}.nii"))] for kind in ("t1", "lesion")]
    items = [{"image": image, "label": label} for image, label in zip(*files, strict=True)]
    dataset = CacheDataset(items, chain(fused), progress=False, num_workers=None)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def main() -> None:
    """Measure and print."""
    fused = "fused" in sys.argv[2:]
    set_track_meta(not fused)
    report(("monai", "torch"), slices_per_s=slices_per_s(batches(Path(sys.argv[1]), fused)))


if __name__ == "__main__":
    main()
