"""Slices through the whole augmentation of bundles/resunet.json, by the project and by its peers, in batches of 32.

    python -m candidates.inputs FOLDER strokelesion|monai|monai_fused|batchgeneratorsv2|torchio

Peers hold the slices in memory and take them item by item; nothing is read, cropped or padded for them.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from candidates.measured import Laps, report

BATCH = 32
EPOCHS = 8  # of the project, after one that warms up
LEAST_S = 5.0  # of a peer, after a batch that warms up
PROBABILITY = 0.8
TURN_DEG = 15


def measure_strokelesion(folder: Path) -> float:
    """Measure the store on disk through sampler, loader and augmentation, as a training takes its slices."""
    import torch

    from candidates.bundle import read_bundle
    from strokelesion.pipeline.training.epochs import augmented_batch

    config = read_bundle("resunet", folder)
    loader, sampler, augmentation = map(config.get_parsed_content, ("train::dataloader", "train::sampler", "augmentation"))
    laps = Laps()
    for epoch in range(1 + EPOCHS):
        laps.mark()
        sampler.set_epoch(epoch)
        for batch in loader:
            augmented_batch(batch, torch.device("cpu"), augmentation=augmentation)
    laps.mark()
    return EPOCHS * len(sampler) / laps.seconds(first=1)


def measure_peer(batches: Iterator[Any]) -> float:
    """Measure batches that come without end."""
    laps = Laps()
    for _ in batches:
        laps.mark()
        if len(laps.at_s) > 1 and laps.seconds() > LEAST_S:
            break
    return (len(laps.at_s) - 1) * BATCH / laps.seconds()


def batches_of(dataset: Any, loader: Any, **options: Any) -> Iterator[Any]:
    """Return the shuffled batches of a data set without end."""
    loaded = loader(dataset, batch_size=BATCH, shuffle=True, drop_last=True, **options)
    return itertools.chain.from_iterable(itertools.repeat(loaded))


def monai(folder: Path, fused: bool = False) -> Iterator[Any]:
    """Use dictionary transforms on cached slices, as a user would write them.

    `fused` is the chain for those who know MONAI well: no metadata, and rotation, scaling and deformation in one transform.
    """
    from monai import transforms as mt
    from monai.data import CacheDataset, DataLoader, set_track_meta

    set_track_meta(not fused)
    keys, often = ("image", "label"), {"prob": PROBABILITY}
    mode: dict[str, Any] = {"mode": ("bilinear", "nearest"), "padding_mode": "zeros"}
    turn: dict[str, Any] = {"rotate_range": np.deg2rad(TURN_DEG), "scale_range": (0.1, 0.1)}
    # Distance and standard deviation of the control points' shift, pixels, as in bundles/resunet.json.
    elastic: dict[str, Any] = {"spacing": (38, 37), "magnitude_range": (3.0, 3.0)}
    zoom = mt.RandZoomd(keys, min_zoom=0.9, max_zoom=1.1, **often, mode=mode["mode"], padding_mode="constant")
    separate = [mt.RandAffined(keys, **often, **turn, **mode), mt.Rand2DElasticd(keys, **often, **elastic, **mode), zoom]
    chain = [
        mt.LoadImaged(keys),
        mt.EnsureChannelFirstd(keys, channel_dim="no_channel"),
        mt.RandFlipd(keys, prob=0.5, spatial_axis=0),
        mt.RandFlipd(keys, prob=0.1, spatial_axis=1),
        *([mt.Rand2DElasticd(keys, **often, **elastic, **turn, **mode)] if fused else separate),
        mt.RandScaleIntensityFixedMeand("image", **often, factors=0.2),
        mt.RandShiftIntensityd("image", **often, offsets=0.1),
    ]
    files = (sorted(map(str, folder.glob(f"epoch/*_{kind}.nii"))) for kind in ("t1", "lesion"))
    items = [{"image": image, "label": label} for image, label in zip(*files, strict=True)]
    return batches_of(CacheDataset(items, mt.Compose(chain), progress=False, num_workers=None), DataLoader)


def read_epoch(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images and label maps, `(N, 192, 224)`."""
    image, label = (np.load(folder / f"epoch/{key}.npy") for key in ("image", "label"))
    return image, label


def batchgeneratorsv2(folder: Path) -> Iterator[Any]:
    """Use nnU-Net's own transforms for the five kinds, as its loader feeds them in two dimensions.

    Rotation, scaling and deformation are one resampling; labels are interpolated as nnU-Net does it (`bilinear`).
    """
    import torch
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform
    from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

    torch.set_grad_enabled(False)
    image, label = read_epoch(folder)
    turn_rad = float(np.deg2rad(TURN_DEG))
    elastic = {"p_elastic_deform": 1, "elastic_deform_scale": (0.08, 0.12), "elastic_deform_magnitude": (6, 8)}
    affine = {"p_rotation": 1, "rotation": (-turn_rad, turn_rad), "p_scaling": 1, "scaling": (0.8, 1.2)}
    grid = {"patch_center_dist_from_border": 0, "random_crop": False, "bg_style_seg_sampling": False}
    border = {"border_mode_seg": "constant", "padding_value_seg": -1}
    sometimes = (
        SpatialTransform(image.shape[1:], **grid, **elastic, **affine, **border),
        MultiplicativeBrightnessTransform(BGContrast((0.9, 1.1)), synchronize_channels=False),
        ContrastTransform(BGContrast((0.8, 1.2)), preserve_range=True, synchronize_channels=False),
    )
    drawn = [RandomTransform(transform, apply_probability=PROBABILITY) for transform in sometimes]
    chain = ComposeTransforms([*drawn, MirrorTransform((0, 1)), RemoveLabelTansform(-1, 0)])
    rng = np.random.default_rng(0)

    def item(number: int) -> dict[str, torch.Tensor]:
        tensors = (torch.from_numpy(one[number][None].copy()) for one in (image, label.astype(np.int16)))
        return chain(**dict(zip(("image", "segmentation"), tensors, strict=True)))

    while True:
        out = [item(number) for number in rng.choice(len(image), BATCH)]
        yield [torch.stack([one[key] for one in out]) for key in ("image", "segmentation")]


def torchio(folder: Path) -> Iterator[Any]:
    """Use TorchIO on volumes of one slice, as it takes them; gamma stands for brightness and contrast."""
    import torch
    import torchio as tio
    from torch.utils.data import DataLoader

    chain = tio.Compose(
        [
            tio.RandomFlip(axes=0, flip_probability=0.5),
            tio.RandomFlip(axes=1, flip_probability=0.1),
            tio.RandomAffine((0.8, 1.2, 0.8, 1.2, 1, 1), (0, 0, 0, 0, -TURN_DEG, TURN_DEG), default_pad_value=0, p=PROBABILITY),
            tio.RandomElasticDeformation(num_control_points=(8, 9, 5), max_displacement=(6, 6, 0), p=PROBABILITY),
            tio.RandomGamma(p=PROBABILITY),
        ]
    )

    def as_batch(subjects: list[Any]) -> dict[str, torch.Tensor]:
        return {key: torch.stack([subject[key].data[..., 0] for subject in subjects]) for key in ("image", "label")}

    subjects = [
        tio.Subject(image=tio.ScalarImage(tensor=image[None, ..., None]), label=tio.LabelMap(tensor=label[None, ..., None]))
        for image, label in zip(*map(torch.from_numpy, read_epoch(folder)), strict=True)
    ]
    return batches_of(tio.SubjectsDataset(subjects, transform=chain), DataLoader, collate_fn=as_batch)


PEERS = {"monai": monai, "batchgeneratorsv2": batchgeneratorsv2, "torchio": torchio}


def main() -> None:
    """Measure and print."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    if name == "strokelesion":
        report(("torch", "monai"), slices_per_s=measure_strokelesion(folder))
        return
    batches = monai(folder, fused=True) if name == "monai_fused" else PEERS[name](folder)
    report((name.split("_")[0], "torch"), slices_per_s=measure_peer(batches))


if __name__ == "__main__":
    main()
