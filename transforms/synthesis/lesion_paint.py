"""Appearance of chronic infarcts on T1: cavity and gliosis, tissue strands, halo and partial volume at borders."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from strokelesion.transforms.geometry import bounding_box
from strokelesion.transforms.synthesis.fields import blurred, generator_of, grain, plain, quantile, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_fluid

# Lesions of this size and above are mostly cavity; see `RandPaintLesionsd.mixture`.
LARGE_ML = 20.0
# Lesions are painted in their bounding box plus this margin.
MARGIN_MM = 12
# Least contrast of a lesion to the original tissue, 1 = gray matter minus CSF. Less contrast would not be traced on T1.
LEAST_CONTRAST = 0.25
# Range of the standard deviation of the border, and largest weight of the gray-matter intensity in the halo.
EDGE_MM = (0.4, 1.2)
HALO = 0.6


class RandPaintLesionsd(Randomizable, MapTransform):
    """Paint chronic infarcts into `image`: cavities as dark as CSF, gliosis between CSF and gray matter, strands, soft borders.

    Each lesion is a random mixture of cavity and gliosis:

    1. The deepest voxels are cavity. Large lesions are mostly cavity. Small lesions are all cavity (lacunes) or have none.
       Lesions of intermediate size have any proportion.
    2. The other voxels are gliosis. Their mean lies between CSF and gray matter, sometimes close to gray matter, and always
       differs visibly from the original tissue. Around the lesion, a halo darkens the white matter and fades out. The halo is
       not part of the label, as in manual tracings.
    3. Thin strands of gliosis cross the cavity.
    4. The border is a Gaussian ramp, which models partial volume.

    Args:
        strand_prob: Share of scans with strands in their cavities.
        least_cavity: Least share of cavity in a lesion, from 0 to 1; lesions with more cavity are darker and easier to find.
    """

    version = 1

    def __init__(self, strand_prob: float = 0.5, least_cavity: float = 0.0) -> None:
        MapTransform.__init__(self, ("image", "tissues", "lesions"))
        self.strand_prob, self.least_cavity = strand_prob, least_cavity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with lesions painted into `image`."""
        numbers, tissues = plain(data["lesions"])[0], plain(data["tissues"])[0]
        if not numbers.any():
            return dict(data)
        image, spacing_mm = plain(data["image"])[0].clone(), float(data["tissues"].affine[0, 0])
        box = bounding_box(numbers, round(MARGIN_MM / spacing_mm))
        boxes = image[box], numbers[box].long(), tissues[box]
        image[box] = self.painted(*boxes, data["means"], data["spread"], spacing_mm)
        return {**data, "image": MetaTensor(image[None], meta=data["image"].meta)}

    def painted(
        self,
        image: torch.Tensor,
        numbers: torch.Tensor,
        tissues: torch.Tensor,
        means: torch.Tensor,
        spread: torch.Tensor,
        spacing_mm: float,
    ) -> torch.Tensor:
        """Return a box of the image with lesions painted into it; all volumes are `(X, Y, Z)`."""
        lesion = numbers > 0
        substance = self.substance(image, numbers, is_fluid(tissues), means, spread, spacing_mm)
        reach = blurred(lesion.float(), self.R.uniform(1.0, 4.0), spacing_mm)
        halo = self.R.uniform(0, HALO) * reach * any_of(tissues, (Tissue.WHITE,))
        image = image + halo * (float(means[Tissue.CORTEX]) - image)
        return image + border(lesion, self.R.uniform(*EDGE_MM), spacing_mm) * (substance - image)

    def substance(
        self,
        image: torch.Tensor,
        numbers: torch.Tensor,
        fluid: torch.Tensor,
        means: torch.Tensor,
        spread: torch.Tensor,
        spacing_mm: float,
    ) -> torch.Tensor:
        """Return lesion intensities for all voxels: a mixture of cavity and gliosis per lesion, with texture and strands.

        CSF beside a lesion increases its depth, so that a cavity opens into sulci and ventricles without a wall.
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
        # Lesions get the noise of CSF and cortex, so that a network cannot detect them by a different texture.
        coarseness = cavity * spread[Tissue.VENTRICLE] + (1 - cavity) * spread[Tissue.CORTEX]
        return blurred(mixed + coarseness * grain(numbers.shape, generator, device), 0.6, spacing_mm)

    def mixtures(
        self, numbers: torch.Tensor, depth: torch.Tensor, tone: torch.Tensor, voxel_ml: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the least depth of the cavity and the tone of the gliosis per lesion; `tone` is that of the original image."""
        levels = torch.zeros(int(numbers.max()) + 1, device=numbers.device)
        tones = torch.zeros_like(levels)
        for number in range(1, len(levels)):
            inside = numbers == number
            share, drawn = self.mixture(float(inside.sum()) * voxel_ml)
            tones[number] = min(drawn, max(0.0, float(quantile(tone[inside], 0.5)) - LEAST_CONTRAST))
            levels[number] = quantile(depth[inside], 1 - share)
        return levels, tones

    def mixture(self, volume_ml: float) -> tuple[float, float]:
        """Draw the share of cavity in a lesion and the tone of its gliosis, where 0 is CSF and 1 is gray matter."""
        large = min(1.0, np.log1p(volume_ml) / np.log1p(LARGE_ML))
        share = float(self.R.beta(0.5 + 2.5 * large, 0.5 + 0.2 * large))
        tone = float(self.R.uniform(0.8, 1.1) if self.R.uniform() < 0.15 else self.R.uniform(0.2, 0.85))
        return min(max(share, self.least_cavity), 1.0), tone


def border(lesion: torch.Tensor, sigma_mm: float, spacing_mm: float) -> torch.Tensor:
    """Return lesion weights: a Gaussian ramp at the border, and at least 0.6 inside, so that thin lesions stay visible."""
    soft = blurred(lesion.float(), sigma_mm, spacing_mm)
    return torch.where(lesion, soft.clamp(min=0.6), soft)


def nearest_number(numbers: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Return lesion numbers, extended by about 3 mm; a voxel between lesions gets the largest number of its neighbors."""
    grown = numbers[None, None].float()
    for _ in range(max(1, round(3 / spacing_mm))):
        grown = torch.where(grown > 0, grown, torch.nn.functional.max_pool3d(grown, 3, stride=1, padding=1))
    return grown[0, 0].long()
