"""batchgeneratorsv2 on slices in memory, item by item, as nnU-Net v2's loader feeds it in two dimensions.

    python -m candidates.input_batchgenerators FOLDER

Rotation, scaling and deformation are one resampling there, too, with labels interpolated as nnU-Net does it (`bilinear`);
nothing is read, cropped or padded, which nnU-Net would do besides.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

from candidates.input_epoch import BATCH, read_epoch, slices_per_s
from candidates.measured import report

TURN_RAD = float(np.deg2rad(15))


def sometimes(transform: BasicTransform) -> RandomTransform:
    """Return a transform with the probability of bundles/resunet.json."""
    return RandomTransform(transform, apply_probability=0.8)


def chain(size: tuple[int, int]) -> ComposeTransforms:
    """Return nnU-Net's own transforms for the five kinds, with the strengths of bundles/resunet.json."""
    spatial = SpatialTransform(
        size,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=1,
        elastic_deform_scale=(0.08, 0.12),
        elastic_deform_magnitude=(6, 8),
        p_rotation=1,
        rotation=(-TURN_RAD, TURN_RAD),
        p_scaling=1,
        scaling=(0.8, 1.2),
        bg_style_seg_sampling=False,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    brightness = MultiplicativeBrightnessTransform(BGContrast((0.9, 1.1)), synchronize_channels=False)
    contrast = ContrastTransform(BGContrast((0.8, 1.2)), preserve_range=True, synchronize_channels=False)
    several = [
        sometimes(spatial),
        sometimes(brightness),
        sometimes(contrast),
        MirrorTransform((0, 1)),
        RemoveLabelTansform(-1, 0),
    ]
    return ComposeTransforms(several)


def batches(folder: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches without end."""
    image, label = read_epoch(folder)
    transform = chain(image.shape[1:])
    rng = np.random.default_rng(0)
    while True:
        out = [
            transform(
                image=torch.from_numpy(image[number][None].copy()),
                segmentation=torch.from_numpy(label[number][None].astype(np.int16)),
            )
            for number in rng.choice(len(image), BATCH)
        ]
        yield torch.stack([item["image"] for item in out]), torch.stack([item["segmentation"] for item in out])


def main() -> None:
    """Measure and print."""
    torch.set_grad_enabled(False)
    report(("batchgeneratorsv2", "torch"), slices_per_s=slices_per_s(batches(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
