"""Effects of scanner and preprocessing on a T1: bias field, noise, thick slices, skull stripping, defacing and units.

`SCANNERS` are chains of them by name. `mixed` is for training and for a held-out cohort, `whole_head` for training brain
extraction. Each of the others changes one property of the scan. They are the test conditions of the model card.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandAdjustContrastd, RandGaussianSmoothd, RandGibbsNoised, Randomizable

from strokelesion.networks import CommandLineError
from strokelesion.transforms.recipe import Recipe
from strokelesion.transforms.synthesis.fields import closed, generator_of, grain, plain, smooth_noise

# Standard deviation of the blur, in mm.
BLUR_MM = (0.25, 0.9)
PLAIN_NOISE = 0.03
# Spacing of the nodes of bias fields.
BIAS_MM = 80.0
UNITS = (60.0, 3000.0)


def replaced(image: MetaTensor, values: torch.Tensor) -> MetaTensor:
    """Return an image with new values `(X, Y, Z)` on the same grid."""
    return MetaTensor(values[None], meta=image.meta)


class RandBiasd(Randomizable, MapTransform):
    """Multiply `image` by a bias field: exp(noise * strength / 2), where smooth noise varies over `BIAS_MM`.

    Args:
        strength: Largest log deviation, reached at two standard deviations of the noise. A value from 0 to it is drawn.
        fixed: Whether `strength` is used without drawing.
    """

    version = 1

    def __init__(self, strength: float = 0.4, fixed: bool = False) -> None:
        MapTransform.__init__(self, ("image",))
        self.strength, self.fixed = strength, fixed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` changed."""
        image = data["image"]
        strength = self.strength if self.fixed else self.R.uniform(0, self.strength)
        generator = generator_of(self.R)
        field = smooth_noise(image.shape[1:], float(image.affine[0, 0]), BIAS_MM, generator, device=image.device)[0]
        return {**data, "image": replaced(image, plain(image)[0] * torch.exp(field.clamp(-2, 2) * strength / 2))}


class RandNoised(Randomizable, MapTransform):
    """Add Rician noise to `image`: sqrt((image + n1)^2 + n2^2) with normal n1 and n2, as in MRI magnitude images.

    MONAI's `RandRicianNoised` does the same, but draws with NumPy on the CPU. That takes longer than the whole painting.

    Source: Gudbjartsson, Patz: The Rician Distribution of Noisy MRI Data. Magn Reson Med 1995.

    Args:
        std: Standard deviation of n1 and n2, relative to white matter.
        prob: Share of scans with noise.
        sample_std: Whether the standard deviation is drawn from 0 to `std`.
    """

    version = 1

    def __init__(self, std: float, prob: float = 1.0, sample_std: bool = True) -> None:
        MapTransform.__init__(self, ("image",))
        self.std, self.prob, self.sample_std = std, prob, sample_std

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` changed."""
        if self.R.uniform() >= self.prob:
            return dict(data)
        image, generator = data["image"], generator_of(self.R)
        std = self.R.uniform(0, self.std) if self.sample_std else self.std
        real, imaginary = (std * grain(image.shape[1:], generator, image.device) for _ in range(2))
        return {**data, "image": replaced(image, torch.hypot(plain(image)[0] + real, imaginary))}


class RandThickSlicesd(Randomizable, MapTransform):
    """Average `image` over thick slices along one axis and interpolate back, to simulate anisotropic voxels.

    Args:
        thickness_mm: Range of the slice thickness.
        prob: Share of scans with thick slices.
        axis: Slice direction: 0 sagittal, 1 coronal, 2 axial; None for a random one.
    """

    version = 1

    def __init__(self, thickness_mm: tuple[float, float] = (2.0, 5.0), prob: float = 0.2, axis: int | None = None) -> None:
        MapTransform.__init__(self, ("image",))
        self.thickness_mm, self.prob, self.axis = thickness_mm, prob, axis

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` changed."""
        if self.R.uniform() >= self.prob:
            return dict(data)
        image = data["image"]
        axis = self.R.randint(3) if self.axis is None else self.axis
        shape = list(image.shape[1:])
        thick = shape.copy()
        thick[axis] = max(2, round(shape[axis] * float(image.affine[0, 0]) / self.R.uniform(*self.thickness_mm)))
        slabs = F.adaptive_avg_pool3d(plain(image)[None].float(), tuple(thick))
        return {**data, "image": replaced(image, F.interpolate(slabs, size=shape, mode="trilinear")[0, 0])}


class RandHeadCoverd(Randomizable, MapTransform):
    """Keep the whole head, strip the skull, deface, or remove a slab at the top or bottom of the brain.

    Skull stripping keeps the brain mask, closed over the sulci and slightly too wide or too tight, like the results of common
    tools. Defacing removes all voxels before and below a tilted plane in front of the brain.

    Args:
        stripped, defaced: Shares of scans without skull and without face.
        cut: Share of scans without a slab at the top or bottom.
    """

    version = 1

    def __init__(self, stripped: float = 0.3, defaced: float = 0.3, cut: float = 0.0) -> None:
        MapTransform.__init__(self, ("image", "brain"))
        self.stripped, self.defaced, self.cut = stripped, defaced, cut

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` set to 0 where the head is removed."""
        image, brain = data["image"], plain(data["brain"])[0] > 0
        draw = self.R.uniform()
        kept = torch.ones_like(brain)
        if draw < self.stripped:
            kept = self.strip(brain, float(image.affine[0, 0]))
        elif draw < self.stripped + self.defaced:
            kept = self.deface(brain, float(image.affine[0, 0]))
        if self.R.uniform() < self.cut:
            kept = kept & self.slab(brain)
        return {**data, "image": replaced(image, plain(image)[0] * kept)}

    def strip(self, brain: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return the brain mask, closed over the sulci, up to 3 mm wider or 1 mm tighter."""
        return closed(brain, self.R.uniform(4, 10), spacing_mm, wider_mm=self.R.uniform(-1, 3))

    def deface(self, brain: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return the mask of voxels behind a tilted plane, which does not touch the brain."""
        where = brain.nonzero().float()
        if not len(where):
            return torch.ones_like(brain)
        slope = float(self.R.uniform(0.6, 1.6))
        axes = [torch.arange(size, dtype=torch.float32, device=brain.device) for size in brain.shape[1:]]
        forward_and_down = axes[0][:, None] - slope * axes[1][None, :]
        margin = self.R.uniform(2, 15) / spacing_mm
        limit = float((where[:, 1] - slope * where[:, 2]).max()) + margin
        return (forward_and_down <= limit)[None].expand_as(brain)

    def slab(self, brain: torch.Tensor) -> torch.Tensor:
        """Return a mask without a slab at the top or bottom; the slab covers 2 to 15 % of the brain's height."""
        levels = brain.any(0).any(0).nonzero()[:, 0]
        kept = torch.ones_like(brain)
        if len(levels):
            part = round(float(self.R.uniform(0.02, 0.15)) * len(levels))
            if self.R.uniform() < 0.5:
                kept[..., int(levels[-1]) + 1 - part :] = False
            else:
                kept[..., : int(levels[0]) + part] = False
        return kept


class RandUnitsd(Randomizable, MapTransform):
    """Scale `image` so that white matter lies in the range `UNITS`, as units differ between vendors, and round."""

    version = 1

    def __init__(self) -> None:
        MapTransform.__init__(self, ("image",))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` in whole numbers from 0 to 32767."""
        image, factor = data["image"], UNITS[0] * (UNITS[1] / UNITS[0]) ** self.R.uniform()
        return {**data, "image": replaced(image, (plain(image)[0] * factor).round().clamp(0, 32767))}


def simulated_scanner(name: str, voxel_mm: float) -> Recipe:
    """Return the random transforms of one of `SCANNERS` for images of a voxel size."""
    if name not in SCANNERS:
        raise CommandLineError(f"--scanner got {name!r}; allowed are {', '.join(SCANNERS)}.")
    return Recipe(SCANNERS[name](voxel_mm))


def varied(voxel_mm: float, blurred: float, noise: float, cover: RandHeadCoverd) -> list[Any]:
    """Return transforms that vary all properties of a scan: a share is blurred, with up to a noise, and covered."""
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
