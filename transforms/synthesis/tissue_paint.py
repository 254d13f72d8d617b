"""T1 intensities for tissue maps: for all voxels of heads without a T1, for changed voxels of heads with a T1.

White matter has the intensity 1. Later transforms simulate the scanner.
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

from strokelesion.transforms.synthesis.fields import blurred, distance_mm, generator_of, grain, plain, quantile, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_fluid

# Tissues with coarse texture, because each mixes materials that have no class of their own: muscle and fat, cells and air.
COARSE = (Tissue.SOFT, Tissue.MARROW, Tissue.MUCOSA, Tissue.UNKNOWN)
COARSE_SCALE_MM = 7.0
# Depth to which the partial volume at the border of a ventricle or sulcus reaches into the fluid.
OLD_BORDER_MM = 2.5
# Membranes and vessels brighten the CSF of sulci. This effect varies over the brain: scale and strength of the variation.
PARTIAL_VOLUME_SCALE_MM = 25.0
PARTIAL_VOLUME_VARIATION = 0.15


@cache
def t1_priors() -> pd.DataFrame:
    """Return the table t1_priors.csv: T1 intensity per tissue, white matter = 1, SD within a head and SD between heads."""
    text = files("strokelesion.transforms.synthesis").joinpath("t1_priors.csv").read_text()
    return pd.read_csv(StringIO(text)).set_index("tissue")


def tissue_means(image: torch.Tensor, tissues: torch.Tensor) -> torch.Tensor:
    """Return the median intensity of each tissue in a scan; NaN for absent tissues."""
    means = torch.full((len(Tissue),), torch.nan, device=image.device)
    for tissue in Tissue:
        means[tissue] = quantile(image[tissues == tissue], 0.5) if (tissues == tissue).any() else torch.nan
    return means


class RandPaintTissuesd(Randomizable, MapTransform):
    """Write `image`: a T1 drawn from the priors, or the T1 of the head with the changed tissues repainted.

    1. The mean of each tissue is drawn from N(mean, sd_between). The contrast between white matter and the rest is scaled.
    2. For `any_contrast_prob` of the scans, all means are drawn uniformly instead, as in SynthSeg (Billot et al. 2023).
    3. Texture: voxel noise within the tissue, slow variation over 15 mm, and a coarse mixture outside the brain.
    4. The CSF of sulci, csf, is brightened to csf + w * (cortex - csf), with w from 0 to `sulcal_partial_volume`.
    5. A Gaussian blurs the borders, which models partial volume.

    Args:
        any_contrast_prob: Share of scans with a contrast other than T1.
        blur_mm: Range of the standard deviation of the blur.
        sulcal_partial_volume: Largest weight w; 0 for sulci as dark as the ventricles. In two labeled T1s, CSF between folds
            of cortex, one voxel from cortex, has a median w of .05 and .5.
    """

    version = 1

    def __init__(
        self, any_contrast_prob: float = 0.1, blur_mm: tuple[float, float] = (0.4, 0.8), sulcal_partial_volume: float = 0.0
    ) -> None:
        MapTransform.__init__(self, ("tissues",))
        self.any_contrast_prob, self.blur_mm, self.sulcal_partial_volume = any_contrast_prob, blur_mm, sulcal_partial_volume

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `image` `(1, X, Y, Z)`, and `means` and `spread` (SD) of the intensity per tissue."""
        tissues = data["tissues"]
        spacing_mm = float(tissues.affine[0, 0])
        codes = plain(tissues)[0].long()
        if "image" in data:
            native = plain(data["native_tissues"])[0].long()
            image, means, spread = self.repainted(plain(data["image"])[0], codes, native, spacing_mm)
        else:
            means, spread = self.draw_means(codes.device)
            image = self.textured(codes, means, spread, spacing_mm)
            if self.sulcal_partial_volume > 0:
                image = self.brighten_sulci(image, codes, means, spacing_mm)
            image = blurred(image, self.R.uniform(*self.blur_mm), spacing_mm).clamp(min=0)
        return {**data, "image": MetaTensor(image[None], meta=tissues.meta), "means": means, "spread": spread}

    def draw_means(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the mean of each tissue and the standard deviation of its voxels."""
        priors = t1_priors()
        means, spread = np.zeros((2, len(Tissue)))
        codes = [int(Tissue[name]) for name in priors.index]
        if self.R.uniform() < self.any_contrast_prob:
            means[codes] = self.R.uniform(0.05, 1.5, len(codes))
        else:
            means[codes] = priors["mean"] + priors["sd_between"] * self.R.normal(size=len(codes))
            means[Tissue.CSF] = means[Tissue.VENTRICLE] * self.R.uniform(0.8, 1.2)
            stretch = self.R.uniform(0.85, 1.25)
            brain = slice(Tissue.WHITE + 1, Tissue.CSF + 1)
            means[brain] = 1 - stretch * (1 - means[brain])
        spread[codes] = priors["sd_within"] * self.R.uniform(0.3, 1.0, len(codes))
        means[codes] = means[codes].clip(0.02, 2)
        return torch.from_numpy(means).float().to(device), torch.from_numpy(spread).float().to(device)

    def textured(self, codes: torch.Tensor, means: torch.Tensor, spread: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return an image of tissue means plus texture: coarse outside the brain, fine and slow inside."""
        generator = generator_of(self.R)
        coarse = any_of(torch.arange(len(Tissue), device=codes.device), COARSE).float()
        fine = grain(codes.shape, generator, codes.device) * (spread * (1 - 0.7 * coarse))[codes]
        slow = 0.03 * smooth_noise(codes.shape, spacing_mm, 15.0, generator, device=codes.device)[0] * means[codes]
        mixture = smooth_noise(codes.shape, spacing_mm, COARSE_SCALE_MM, generator, device=codes.device)[0]
        return means[codes] + fine + slow + mixture * (spread * coarse)[codes]

    def brighten_sulci(self, image: torch.Tensor, codes: torch.Tensor, means: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return the image with brighter CSF in the sulci, by a weight that varies smoothly over the brain."""
        share = float(self.R.uniform(0, self.sulcal_partial_volume))
        variation = smooth_noise(codes.shape, spacing_mm, PARTIAL_VOLUME_SCALE_MM, generator_of(self.R), device=codes.device)[0]
        weight = (share + PARTIAL_VOLUME_VARIATION * variation).clamp(0, self.sulcal_partial_volume)
        return torch.where(codes == Tissue.CSF, image + weight * (means[Tissue.CORTEX] - means[Tissue.CSF]), image)

    def repainted(
        self, image: torch.Tensor, codes: torch.Tensor, native: torch.Tensor, spacing_mm: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the T1 of the head, white matter 1, with the changed tissues repainted and blurred at their borders."""
        means = tissue_means(image, native)
        image, means = image / means[Tissue.WHITE], means / means[Tissue.WHITE]
        drawn, spread = self.draw_means(codes.device)
        means = torch.where(means.isnan(), drawn, means)
        means[Tissue.CSF] = means[Tissue.VENTRICLE]  # at 1 mm, CSF of sulci includes partial volume of cortex
        changed = codes != native
        if changed.any():
            # Otherwise the partial volume of the old border would remain as a bright line inside the fluid.
            changed |= is_fluid(codes) & (distance_mm(changed, spacing_mm) <= max(OLD_BORDER_MM, spacing_mm))
        weight = blurred(changed.float(), 0.6, spacing_mm)
        painted = blurred(torch.where(changed, self.textured(codes, means, spread, spacing_mm), image), 0.5, spacing_mm)
        return image + weight * (painted - image), means, spread
