"""Lesion mimics on T1. Without them in training, a network would segment such structures as lesions."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from strokelesion.transforms.synthesis.fields import distance_mm, generator_of, plain, quantile, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_brain

# Largest thickness of periventricular caps, and largest radius of cysts.
CAP_MM, CYST_MM = 8.0, 5.0
# Range of the number of enlarged perivascular spaces in a scan, and of their lengths.
SPACES, SPACES_MM = (5, 150), (2.0, 12.0)


class RandAddMimicsd(Randomizable, MapTransform):
    """Add lesion mimics outside the lesions.

    The mimics are white-matter hypointensities, as periventricular caps and as spots, and cysts of the choroid fissure beside
    the hippocampus. `RandPaintVascularSpacesd` paints enlarged perivascular spaces, because these are thinner than voxels.

    Args:
        spots: Largest share of the white matter in spots.
        prob: Probability of each of the three kinds.
    """

    version = 1

    def __init__(self, spots: float = 0.02, prob: float = 0.4) -> None:
        MapTransform.__init__(self, ("tissues", "lesions"))
        self.spots, self.prob = spots, prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with mimics in `tissues`."""
        tissues = data["tissues"]
        spacing_mm = float(tissues.affine[0, 0])
        codes, spared = plain(tissues)[0].clone(), plain(data["lesions"])[0] > 0
        white = (codes == Tissue.WHITE) & ~spared
        if self.R.uniform() < self.prob:
            codes[white & self.caps(codes, spacing_mm)] = int(Tissue.HYPOINTENSE)
        if self.R.uniform() < self.prob:
            noise = smooth_noise(codes.shape, spacing_mm, 5.0, generator_of(self.R), device=codes.device)[0]
            codes[white & (noise > quantile(noise[white], 1 - self.R.uniform(0, self.spots)))] = int(Tissue.HYPOINTENSE)
        if self.R.uniform() < self.prob:
            codes[self.cyst(codes, spacing_mm) & is_brain(codes) & ~spared] = int(Tissue.CSF)
        return {**data, "tissues": MetaTensor(codes[None], meta=tissues.meta)}

    def caps(self, codes: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return a random mask of caps around the ventricles, with varying thickness."""
        noise = smooth_noise(codes.shape, spacing_mm, 15.0, generator_of(self.R), device=codes.device)[0]
        thickness_mm = self.R.uniform(1, CAP_MM) * torch.sigmoid(2 * noise - 1)
        return distance_mm(codes == Tissue.VENTRICLE, spacing_mm) < thickness_mm

    def cyst(self, codes: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return a ball of random radius, centered on a random voxel of the hippocampus."""
        voxels = (codes == Tissue.HIPPOCAMPUS).nonzero()
        if not len(voxels):
            return torch.zeros_like(codes, dtype=torch.bool)
        center = voxels[self.R.randint(len(voxels))]
        sizes = zip(codes.shape, center.tolist(), strict=True)
        axes = [(torch.arange(size, device=codes.device) - c) ** 2 for size, c in sizes]
        squared = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
        ball: torch.Tensor = squared * spacing_mm**2 < self.R.uniform(1.5, CYST_MM) ** 2
        return ball


class RandPaintVascularSpacesd(Randomizable, MapTransform):
    """Paint enlarged perivascular spaces: straight dark lines, thinner than a voxel, in white matter and basal ganglia.

    Args:
        prob: Share of scans with enlarged perivascular spaces.
    """

    version = 1

    def __init__(self, prob: float = 0.4) -> None:
        MapTransform.__init__(self, ("image", "tissues"))
        self.prob = prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with perivascular spaces in `image`."""
        if self.R.uniform() >= self.prob:
            return dict(data)
        tissues, spacing_mm = plain(data["tissues"])[0], float(data["tissues"].affine[0, 0])
        home = any_of(tissues, (Tissue.WHITE, Tissue.PUTAMEN, Tissue.CAUDATE)).nonzero()
        chosen = home[torch.from_numpy(self.R.randint(len(home), size=self.R.randint(*SPACES))).to(home.device)]
        voxels = self.threads(chosen.cpu().double(), spacing_mm, tissues.shape).to(home.device)
        weight = torch.zeros(tissues.shape, device=tissues.device)
        # A space is narrower than 1 mm, so it fills only a part of each voxel that it crosses.
        weight[voxels[:, 0], voxels[:, 1], voxels[:, 2]] = float(self.R.uniform(0.2, 0.7)) / spacing_mm**2
        weight = weight * is_brain(tissues)
        image = plain(data["image"])
        painted = image + weight * (float(data["means"][Tissue.VENTRICLE]) - image)
        return {**data, "image": MetaTensor(painted, meta=data["image"].meta)}

    def threads(self, starts: torch.Tensor, spacing_mm: float, shape: torch.Size) -> torch.Tensor:
        """Return the voxels `(N, 3)` on random line segments that start at the given voxels."""
        directions = torch.from_numpy(self.R.normal(size=(len(starts), 3)))
        directions /= directions.norm(dim=1, keepdim=True)
        lengths = torch.from_numpy(self.R.uniform(*SPACES_MM, len(starts))) / spacing_mm
        steps = torch.linspace(0, 1, 25, dtype=torch.float64)
        points = starts[:, None] + steps[None, :, None] * (lengths[:, None] * directions)[:, None]
        return points.round().long().reshape(-1, 3).clamp(min=torch.zeros(3, dtype=torch.long), max=torch.tensor(shape) - 1)
