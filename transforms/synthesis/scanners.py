"""Simulated scanners by name: random transforms that are applied to a painted synthetic head.

`mixed` is for training and for a held-out cohort, `whole_head` for training brain extraction. Each of the others changes one
property of the scan. They are the test conditions of the model card.
"""

from collections.abc import Callable, Sequence
from typing import Any

from monai.transforms import RandAdjustContrastd, RandGaussianSmoothd, RandGibbsNoised

from strokelesion.networks import CommandLineError
from strokelesion.transforms.recipe import Recipe
from strokelesion.transforms.synthesis.scanner import RandBiasd, RandHeadCoverd, RandNoised, RandThickSlicesd, RandUnitsd

# Standard deviation of the blur, in mm.
BLUR_MM = (0.25, 0.9)
PLAIN_NOISE = 0.03


def simulated_scanner(name: str, voxel_mm: float) -> Recipe:
    """Return the random transforms of a scanner.

    Args:
        name: One of `SCANNERS`.
        voxel_mm: Voxel size of the images.

    Raises:
        CommandLineError: The name is unknown.
    """
    if name not in SCANNERS:
        raise CommandLineError(f"--scanner got {name!r}; allowed are {', '.join(SCANNERS)}.")
    return Recipe(SCANNERS[name](voxel_mm))


def varied(voxel_mm: float, blurred: float, noise: float, cover: RandHeadCoverd) -> list[Any]:
    """Return transforms that vary all properties of a scan.

    Args:
        voxel_mm: Voxel size of the images.
        blurred: Share of blurred images.
        noise: Largest standard deviation of the noise.
        cover: Transform that removes parts of the head.
    """
    sigma = BLUR_MM[0] / voxel_mm, BLUR_MM[1] / voxel_mm
    return [
        RandBiasd(),
        RandThickSlicesd(),
        RandGaussianSmoothd("image", sigma_x=sigma, sigma_y=sigma, sigma_z=sigma, prob=blurred),
        RandGibbsNoised("image", prob=0.15, alpha=(0.3, 0.7)),
        RandNoised(std=noise, prob=0.9, sample_std=True),
        RandAdjustContrastd("image", prob=0.4, gamma=(0.7, 1.4)),
        cover,
        RandUnitsd(),
    ]


def fixed(*before: Any, noise: float = PLAIN_NOISE, stripped: float = 0) -> list[Any]:
    """Return transforms without variation: the given ones, noise, a whole or stripped head, and units."""
    return [
        *before,
        RandNoised(std=noise, prob=1, sample_std=False),
        RandHeadCoverd(stripped=stripped, defaced=0),
        RandUnitsd(),
    ]


SCANNERS: dict[str, Callable[[float], Sequence[Any]]] = {
    "mixed": lambda voxel_mm: varied(voxel_mm, 0.3, 0.06, RandHeadCoverd()),
    "whole_head": lambda voxel_mm: varied(voxel_mm, 0.5, 0.08, RandHeadCoverd(stripped=0.2, defaced=0.3, cut=0.3)),
    "plain": lambda voxel_mm: fixed(),
    "stripped": lambda voxel_mm: fixed(stripped=1),
    "thick": lambda voxel_mm: fixed(RandThickSlicesd(thickness_mm=(3, 3), prob=1, axis=2)),
    "bias": lambda voxel_mm: fixed(RandBiasd(strength=0.4, fixed=True)),
    "half_noise": lambda voxel_mm: fixed(noise=PLAIN_NOISE / 2),
    "double_noise": lambda voxel_mm: fixed(noise=2 * PLAIN_NOISE),
}
