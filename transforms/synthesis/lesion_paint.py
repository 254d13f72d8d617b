"""What chronic infarcts look like on T1: cavity and gliosis, strands, halo and soft borders."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from strokelesion.transforms.synthesis.fields import blurred, box_of, generator_of, grain, plain, quantile, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_fluid

# Lesions of this size and above are mostly cavity; see `RandPaintLesionsd.mixture`.
LARGE_ML = 20.0
# Lesions are painted in their box and this much around it.
MARGIN_MM = 12
# A lesion differs at least so much from what was there, in units of the way from CSF to gray matter: it was traced on T1.
LEAST_CONTRAST = 0.25


class RandPaintLesionsd(Randomizable, MapTransform):
    """Paint chronic infarcts into `image`: cavities as dark as CSF, gliosis between CSF and gray matter, strands, soft borders.

    Each lesion is a mixture of two substances, drawn anew for each:

    1. A share of its voxels is cavity, first where it is deep: large lesions are mostly cavity, small ones are cavity
       (lacunes) or none, those between anything.
    2. The rest is gliotic: its mean lies between CSF and gray matter, in white matter sometimes close to gray, and never so
       close to what was there that nobody would have traced it. Beyond the border a halo darkens the white matter and fades
       out; it is not part of the label, as in tracings.
    3. Thin strands of what was there cross the cavity.
    4. The border is a Gaussian ramp: partial volume.

    Args:
        edge_mm: range of the border's standard deviation.
        halo: largest share of the way to gray matter that the halo goes.
        strand_prob: share of scans whose cavities are crossed by strands.
    """

    version = 1

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
        generator, device = generator_of(self.R), numbers.device
        csf, gray = float(means[Tissue.VENTRICLE]), float(means[Tissue.CORTEX])
        coarse = smooth_noise(numbers.shape, spacing_mm, self.R.uniform(4, 12), generator, device=device)[0]
        depth = coarse + 6 * blurred(((numbers > 0) | fluid).float(), 3.0, spacing_mm)
        levels, tones = self.mixtures(numbers, depth, (image - csf) / (gray - csf), spacing_mm**3 / 1000)
        near = nearest_number(numbers, spacing_mm)
        cavity = torch.sigmoid((depth - levels[near]) / 0.2)
        if self.R.uniform() < self.strand_prob:
            sheets = smooth_noise(numbers.shape, spacing_mm, self.R.uniform(5, 12), generator, device=device)[0].abs()
            cavity = cavity * (1 - self.R.uniform(0.2, 0.9) * torch.exp(-((sheets / 0.1) ** 2)))
        gliosis = csf + tones[near] * (gray - csf)
        texture = smooth_noise(numbers.shape, spacing_mm, 3.0, generator, device=device)[0]
        gliosis = gliosis + self.R.uniform(0, 0.15) * (gray - csf) * texture
        kept = self.R.uniform(0, 0.25)
        mixed = cavity * csf * self.R.uniform(0.9, 1.1) + (1 - cavity) * ((1 - kept) * gliosis + kept * image)
        # The grain of the tissues around, so that texture does not give the lesion away.
        coarseness = cavity * spread[Tissue.VENTRICLE] + (1 - cavity) * spread[Tissue.CORTEX]
        return blurred(mixed + coarseness * grain(numbers.shape, generator, device), 0.6, spacing_mm)

    def mixtures(
        self, numbers: torch.Tensor, depth: torch.Tensor, tone: torch.Tensor, voxel_ml: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw for each lesion the depth at which its cavity begins, and the tone of the rest; `tone` is of what was there."""
        levels = torch.zeros(int(numbers.max()) + 1, device=numbers.device)
        tones = torch.zeros_like(levels)
        for number in range(1, len(levels)):
            inside = numbers == number
            share, drawn = self.mixture(float(inside.sum()) * voxel_ml)
            tones[number] = min(drawn, max(0.0, float(quantile(tone[inside], 0.5)) - LEAST_CONTRAST))
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
