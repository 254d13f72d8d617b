"""From tissues to T1 intensities: the paint of the synthesis, for heads without a T1 and for lesions in every head.

White matter has the intensity 1 here; what a scanner makes of it comes later.
"""

from collections.abc import Hashable, Mapping
from functools import cache
from importlib.resources import files
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from strokelesion.transforms.synthesis.anatomy import any_of, box_of, quantile
from strokelesion.transforms.synthesis.fields import blurred, generator_of, plain, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, is_brain, is_fluid

# Tissues whose texture is coarse because they mix what the classes do not tell apart: muscle and fat, cells and air.
COARSE = (Tissue.SOFT, Tissue.MARROW, Tissue.MUCOSA, Tissue.UNKNOWN)
COARSE_SCALE_MM = 7.0
# Lesions of this size and above are mostly cavity; see `RandPaintLesionsd.mixture`.
LARGE_ML = 20.0
# Lesions are painted in their box and this much around it.
MARGIN_MM = 12


@cache
def t1_priors() -> pd.DataFrame:
    """Return mean, `sd_within` and `sd_between` heads of each tissue's T1 intensity, white matter = 1; see t1_priors.csv."""
    text = files("strokelesion.transforms.synthesis").joinpath("t1_priors.csv").read_text()
    return pd.read_csv(StringIO(text)).set_index("tissue")


def tissue_means(image: torch.Tensor, tissues: torch.Tensor) -> torch.Tensor:
    """Return the median intensity of each tissue in a scan, NaN where it is absent."""
    means = torch.full((len(Tissue),), torch.nan)
    for tissue in Tissue:
        means[tissue] = quantile(image[tissues == tissue], 0.5) if (tissues == tissue).any() else torch.nan
    return means


class RandPaintTissuesd(Randomizable, MapTransform):
    """Write `image`: a T1 drawn from the priors, or the head's own with what the synthesis changed painted over.

    1. Each tissue's mean is drawn from N(mean, sd_between); the contrast between white matter and the rest is stretched.
    2. For `any_contrast_prob` of the scans all means are drawn uniformly instead, as SynthSeg does (Billot et al. 2023).
    3. Texture: noise from voxel to voxel within the tissue, slow variation over 15 mm, coarse mixture outside the brain.
    4. A Gaussian blurs the borders: partial volume.

    Args:
        any_contrast_prob: share of scans whose contrast is not T1's.
        blur_mm: range of the blur's standard deviation.
    """

    def __init__(self, any_contrast_prob: float = 0.1, blur_mm: tuple[float, float] = (0.4, 0.8)) -> None:
        MapTransform.__init__(self, ("tissues",))
        self.any_contrast_prob, self.blur_mm = any_contrast_prob, blur_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` `(1, X, Y, Z)`, and `means` and `spread` of the tissues' intensities."""
        sample = dict(data)
        tissues = sample["tissues"]
        spacing_mm = float(tissues.affine[0, 0])
        codes = plain(tissues)[0].long()
        if "image" in sample:
            image, means, spread = self.repainted(
                plain(sample["image"])[0], codes, plain(sample["native_tissues"])[0].long(), spacing_mm
            )
        else:
            means, spread = self.draw_means()
            image = self.textured(codes, means, spread, spacing_mm)
            image = blurred(image, self.R.uniform(*self.blur_mm), spacing_mm).clamp(min=0)
        sample["image"] = MetaTensor(image[None], meta=tissues.meta)
        sample["means"], sample["spread"] = means, spread
        return sample

    def draw_means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the mean of each tissue, and how its voxels vary."""
        priors = t1_priors()
        means, spread = np.zeros(len(Tissue)), np.zeros(len(Tissue))
        codes = [int(Tissue[name]) for name in priors.index]
        if self.R.uniform() < self.any_contrast_prob:
            means[codes] = self.R.uniform(0.05, 1.5, len(codes))
        else:
            means[codes] = priors["mean"] + 1.3 * priors["sd_between"] * self.R.normal(size=len(codes))
            means[Tissue.CSF] = means[Tissue.VENTRICLE] * self.R.uniform(0.8, 1.2)
            stretch = self.R.uniform(0.75, 1.25)
            brain = slice(Tissue.WHITE + 1, Tissue.CSF + 1)
            means[brain] = 1 - stretch * (1 - means[brain])
        spread[codes] = priors["sd_within"] * self.R.uniform(0.3, 1.0, len(codes))
        means[codes] = means[codes].clip(0.02, 2)
        return torch.from_numpy(means).float(), torch.from_numpy(spread).float()

    def textured(self, codes: torch.Tensor, means: torch.Tensor, spread: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return means plus texture: coarse outside the brain, fine and slow inside."""
        generator = generator_of(self.R)
        coarse = torch.zeros(len(Tissue))
        coarse[list(map(int, COARSE))] = 1
        fine = torch.randn(codes.shape, generator=generator) * (spread * (1 - 0.7 * coarse))[codes]
        slow = 0.03 * smooth_noise(codes.shape, spacing_mm, 15.0, generator)[0] * means[codes]
        mixture = smooth_noise(codes.shape, spacing_mm, COARSE_SCALE_MM, generator)[0] * (spread * coarse)[codes]
        return means[codes] + fine + slow + mixture

    def repainted(
        self, image: torch.Tensor, codes: torch.Tensor, native: torch.Tensor, spacing_mm: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the head's own T1, white matter 1, with the tissues that the synthesis changed painted over softly."""
        means = tissue_means(image, native)
        image, means = image / means[Tissue.WHITE], means / means[Tissue.WHITE]
        drawn, spread = self.draw_means()
        means = torch.where(means.isnan(), drawn, means)
        means[Tissue.CSF] = means[Tissue.VENTRICLE]  # CSF of sulci is mixed with cortex in a T1 of 1 mm
        changed = codes != native
        weight = blurred(changed.float(), 0.6, spacing_mm)
        painted = blurred(torch.where(changed, self.textured(codes, means, spread, spacing_mm), image), 0.5, spacing_mm)
        return image + weight * (painted - image), means, spread


class RandPaintLesionsd(Randomizable, MapTransform):
    """Paint chronic infarcts into `image`: cavities as dark as CSF, gliosis between CSF and gray matter, strands, soft borders.

    Each lesion is a mixture of two substances, drawn anew for each:

    1. A share of its voxels is cavity, first where it is deep: large lesions are mostly cavity, small ones are cavity
       (lacunes) or none, those between anything.
    2. The rest is gliotic: its mean lies between CSF and gray matter, sometimes close to gray. Beyond the border a halo
       darkens the white matter and fades out; it is not part of the label, as in tracings.
    3. Thin strands of what was there cross the cavity.
    4. The border is a Gaussian ramp: partial volume.

    Args:
        edge_mm: range of the border's standard deviation.
        halo: largest share of the way to gray matter that the halo goes.
        strand_prob: share of scans whose cavities are crossed by strands.
    """

    def __init__(self, edge_mm: tuple[float, float] = (0.4, 1.2), halo: float = 0.6, strand_prob: float = 0.5) -> None:
        MapTransform.__init__(self, ("image", "tissues", "lesions"))
        self.edge_mm, self.halo, self.strand_prob = edge_mm, halo, strand_prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` changed where it has lesions."""
        sample = dict(data)
        numbers = plain(sample["lesions"])[0]
        if numbers.any():
            image = plain(sample["image"])[0].clone()
            spacing_mm = float(sample["tissues"].affine[0, 0])
            box = box_of(numbers, round(MARGIN_MM / spacing_mm))
            tissues = plain(sample["tissues"])[0][box]
            image[box] = self.painted(image[box], numbers[box].long(), tissues, sample["means"], sample["spread"], spacing_mm)
            sample["image"] = MetaTensor(image[None], meta=sample["image"].meta)
        return sample

    def painted(
        self,
        image: torch.Tensor,
        numbers: torch.Tensor,
        tissues: torch.Tensor,
        means: torch.Tensor,
        spread: torch.Tensor,
        spacing_mm: float,
    ) -> torch.Tensor:
        """Return a part of the image with its lesions; all volumes `(X, Y, Z)`."""
        lesion = numbers > 0
        substance = self.substance(image, numbers, is_fluid(tissues), means, spread, spacing_mm)
        reach = blurred(lesion.float(), self.R.uniform(1.0, 4.0), spacing_mm)
        halo = self.R.uniform(0, self.halo) * reach * any_of(tissues, (Tissue.WHITE,))
        image = image + halo * (float(means[Tissue.CORTEX]) - image)
        return image + border(lesion, self.R.uniform(*self.edge_mm), spacing_mm) * (substance - image)

    def substance(
        self,
        image: torch.Tensor,
        numbers: torch.Tensor,
        fluid: torch.Tensor,
        means: torch.Tensor,
        spread: torch.Tensor,
        spacing_mm: float,
    ) -> torch.Tensor:
        """Return what fills the lesions, everywhere: a mixture of cavity and gliosis per lesion, with texture and strands.

        Fluid beside a lesion counts as its depth: a cavity opens into sulci and ventricles without a wall.
        """
        generator = generator_of(self.R)
        csf, gray = float(means[Tissue.VENTRICLE]), float(means[Tissue.CORTEX])
        coarse = smooth_noise(numbers.shape, spacing_mm, self.R.uniform(4, 12), generator)[0]
        depth = coarse + 6 * blurred(((numbers > 0) | fluid).float(), 3.0, spacing_mm)
        levels, tones = self.mixtures(numbers, depth, spacing_mm**3 / 1000)
        near = nearest_number(numbers, spacing_mm)
        cavity = torch.sigmoid((depth - levels[near]) / 0.2)
        if self.R.uniform() < self.strand_prob:
            sheets = smooth_noise(numbers.shape, spacing_mm, self.R.uniform(5, 12), generator)[0].abs()
            cavity = cavity * (1 - self.R.uniform(0.2, 0.9) * torch.exp(-((sheets / 0.1) ** 2)))
        gliosis = csf + tones[near] * (gray - csf)
        gliosis = gliosis + self.R.uniform(0, 0.15) * (gray - csf) * smooth_noise(numbers.shape, spacing_mm, 3.0, generator)[0]
        kept = self.R.uniform(0, 0.25)
        mixed = cavity * csf * self.R.uniform(0.9, 1.1) + (1 - cavity) * ((1 - kept) * gliosis + kept * image)
        # The grain of the tissues around, so that texture does not give the lesion away.
        grain = cavity * spread[Tissue.VENTRICLE] + (1 - cavity) * spread[Tissue.CORTEX]
        return blurred(mixed + grain * torch.randn(numbers.shape, generator=generator), 0.6, spacing_mm)

    def mixtures(self, numbers: torch.Tensor, depth: torch.Tensor, voxel_ml: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw for each lesion the depth at which its cavity begins, and the tone of the rest."""
        levels = torch.zeros(int(numbers.max()) + 1)
        tones = torch.zeros_like(levels)
        for number in range(1, len(levels)):
            inside = numbers == number
            share, tones[number] = self.mixture(float(inside.sum()) * voxel_ml)
            levels[number] = quantile(depth[inside], 1 - share)
        return levels, tones

    def mixture(self, volume_ml: float) -> tuple[float, float]:
        """Draw which share of a lesion is cavity, and how gray the rest is: 0 as CSF, 1 as gray matter."""
        large = min(1.0, np.log1p(volume_ml) / np.log1p(LARGE_ML))
        share = float(self.R.beta(0.5 + 2.5 * large, 0.5 + 0.2 * large))
        tone = float(self.R.uniform(0.8, 1.1) if self.R.uniform() < 0.15 else self.R.uniform(0.2, 0.85))
        return min(max(share, 0.0), 1.0), tone


def border(lesion: torch.Tensor, sigma_mm: float, spacing_mm: float) -> torch.Tensor:
    """Return weights that pass 0.5 at the lesion's edge; thin lesions keep at least half of their weight."""
    soft = blurred(lesion.float(), sigma_mm, spacing_mm)
    return torch.where(lesion, soft.clamp(min=0.6), soft)


def nearest_number(numbers: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Return for each voxel the number of a lesion at most a few voxels away; 0 is replaced by its neighbors' largest."""
    grown = numbers[None, None].float()
    for _ in range(max(1, round(3 / spacing_mm))):
        grown = torch.where(grown > 0, grown, torch.nn.functional.max_pool3d(grown, 3, stride=1, padding=1))
    return grown[0, 0].long()


class RandPaintVascularSpacesd(Randomizable, MapTransform):
    """Paint wide perivascular spaces: straight dark threads, thinner than a voxel, in white matter and basal ganglia.

    Args:
        prob: share of scans that have them.
        most: largest number of threads.
        length_mm: range of their lengths.
    """

    def __init__(self, prob: float = 0.4, most: int = 150, length_mm: tuple[float, float] = (2.0, 12.0)) -> None:
        MapTransform.__init__(self, ("image", "tissues"))
        self.prob, self.most, self.length_mm = prob, most, length_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` changed."""
        sample = dict(data)
        if self.R.uniform() >= self.prob:
            return sample
        tissues = plain(sample["tissues"])[0]
        spacing_mm = float(sample["tissues"].affine[0, 0])
        home = any_of(tissues, (Tissue.WHITE, Tissue.PUTAMEN, Tissue.CAUDATE)).nonzero()
        chosen = home[torch.from_numpy(self.R.randint(len(home), size=self.R.randint(5, self.most)))]
        voxels = self.threads(chosen.double(), spacing_mm, tissues.shape)
        weight = torch.zeros(tissues.shape)
        # A thread of 1 mm fills a part of the voxels that it crosses.
        weight[voxels[:, 0], voxels[:, 1], voxels[:, 2]] = float(self.R.uniform(0.2, 0.7)) / spacing_mm**2
        weight = weight * is_brain(tissues)
        image = plain(sample["image"])[0]
        sample["image"] = MetaTensor(
            (image + weight * (float(sample["means"][Tissue.VENTRICLE]) - image))[None], meta=sample["image"].meta
        )
        return sample

    def threads(self, starts: torch.Tensor, spacing_mm: float, shape: torch.Size) -> torch.Tensor:
        """Return the voxels that threads from the given ones cross."""
        directions = torch.from_numpy(self.R.normal(size=(len(starts), 3)))
        directions /= directions.norm(dim=1, keepdim=True)
        lengths = torch.from_numpy(self.R.uniform(*self.length_mm, len(starts))) / spacing_mm
        steps = torch.linspace(0, 1, 25, dtype=torch.float64)
        points = starts[:, None] + steps[None, :, None] * (lengths[:, None] * directions)[:, None]
        return points.round().long().reshape(-1, 3).clamp(min=torch.zeros(3, dtype=torch.long), max=torch.tensor(shape) - 1)
