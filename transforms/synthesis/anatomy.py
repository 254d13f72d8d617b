"""What age and an old infarct do to the anatomy: wide ventricles and sulci; and the lesion's place in it."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from scipy import ndimage

from strokelesion.transforms.synthesis.fields import blurred, distance_mm, generator_of, plain, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, is_brain, is_inside_skull

# What a widened ventricle or sulcus may take the place of.
AROUND_VENTRICLES = (Tissue.WHITE, Tissue.CAUDATE, Tissue.HYPOINTENSE, Tissue.HIPPOCAMPUS, Tissue.THALAMUS, Tissue.CHOROID)
AROUND_SULCI = (Tissue.CORTEX, Tissue.CEREBELLAR_CORTEX)
# Below this a lesion lies in the tissue; above, sulci that it swallowed count as its cavity, as tracers draw them.
LARGEST_IN_TISSUE_ML = 3.0
EVERY_NEIGHBOR = ndimage.generate_binary_structure(3, 3)


def any_of(tissues: torch.Tensor, classes: tuple[Tissue, ...]) -> torch.Tensor:
    """Return where a tissue map shows one of several classes."""
    return torch.isin(tissues, torch.tensor([int(tissue) for tissue in classes], dtype=tissues.dtype))


class RandWidenSpacesd(Randomizable, MapTransform):
    """Widen ventricles and sulci: a little everywhere, as age does, and more beside the lesions (ex vacuo).

    Voxels within r of a ventricle become ventricle, r = overall + beside * nearness to lesion; cortex where the blurred
    CSF exceeds a level becomes CSF, and the level falls in the same way.

    Args:
        ventricle_mm: largest widening everywhere.
        ex_vacuo_mm: largest additional widening beside a large lesion.
        sulci: largest fall of the level, from 0.5.
    """

    def __init__(self, ventricle_mm: float = 3.0, ex_vacuo_mm: float = 6.0, sulci: float = 0.1) -> None:
        MapTransform.__init__(self, ("tissues", "lesions"))
        self.ventricle_mm, self.ex_vacuo_mm, self.sulci = ventricle_mm, ex_vacuo_mm, sulci

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `tissues` changed."""
        sample = dict(data)
        tissues, lesions = sample["tissues"], sample["lesions"]
        spacing_mm = float(tissues.affine[0, 0])
        codes = plain(tissues)[0].clone()
        nearness = (3 * blurred((plain(lesions)[0] > 0).float(), 10.0, spacing_mm)).clamp(max=1)
        # Squared, so that most heads stay close to how they are.
        strengths = self.R.uniform(size=3) ** [3, 1, 2] * [self.ventricle_mm, self.ex_vacuo_mm, self.sulci]
        overall, beside, sulci = strengths.tolist()
        reach_mm = overall + beside * nearness
        wide = (distance_mm(codes == Tissue.VENTRICLE, spacing_mm) < reach_mm) & (reach_mm >= spacing_mm / 2)
        codes[wide & any_of(codes, AROUND_VENTRICLES)] = int(Tissue.VENTRICLE)
        level = 0.5 - sulci - 0.08 * nearness
        open_space = blurred((codes == Tissue.CSF).float(), 1.0, spacing_mm) > level
        if sulci + float(nearness.max()) > 0.02:
            codes[open_space & any_of(codes, AROUND_SULCI)] = int(Tissue.CSF)
        sample["tissues"] = MetaTensor(codes[None], meta=tissues.meta)
        return sample


class FitLesionsd(MapTransform):
    """Cut lesions to the anatomy: inside the skull, off the ventricles; small ones off the CSF as well.

    Removes what is left of a lesion that lost more than `largest_loss` of itself, and specks of under `least_ml`. Writes
    `label` `(1, X, Y, Z)`: 1 for the largest 26-connected component, the main lesion, 2 for all others.
    """

    def __init__(self, least_ml: float = 0.01, largest_loss: float = 0.7) -> None:
        super().__init__(("tissues", "lesions"))
        self.least_ml, self.largest_loss = least_ml, largest_loss

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `lesions` cut and `label` written."""
        sample = dict(data)
        tissues, lesions = plain(sample["tissues"]), plain(sample["lesions"]).clone()
        voxel_ml = float(torch.linalg.det(sample["tissues"].affine[:3, :3]).abs()) / 1000
        for number in range(1, int(lesions.max()) + 1):
            drawn = lesions == number
            inside = is_inside_skull(tissues) if float(drawn.sum()) * voxel_ml > LARGEST_IN_TISSUE_ML else is_brain(tissues)
            kept = drawn & inside & (tissues != Tissue.VENTRICLE) & (tissues != Tissue.CHOROID)
            lost = 1 - float(kept.sum()) / max(1, int(drawn.sum()))
            lesions[drawn & ~kept if lost <= self.largest_loss else drawn] = 0
        label = main_and_sub(lesions, self.least_ml / voxel_ml)
        lesions[label == 0] = 0
        sample["lesions"] = MetaTensor(lesions, meta=sample["tissues"].meta)
        sample["label"] = MetaTensor(label, meta=sample["tissues"].meta)
        return sample


def main_and_sub(lesions: torch.Tensor, least_voxels: float) -> torch.Tensor:
    """Return 1 in the largest 26-connected component of `(1, X, Y, Z)`, 2 in the others, without those below a size."""
    components, _ = ndimage.label(lesions[0].numpy() > 0, structure=EVERY_NEIGHBOR)
    components = torch.from_numpy(components).long()
    sizes = torch.bincount(components.flatten())
    sizes[0] = 0
    kinds = torch.where(sizes >= max(1.0, least_voxels), 2, 0).to(torch.uint8)
    if kinds.any():
        kinds[sizes.argmax()] = 1
    return kinds[components][None]


class RandLookalikesd(Randomizable, MapTransform):
    """Add what looks like a lesion and is none, away from the lesions.

    White-matter hypointensities as caps around the ventricles and as spots; cysts of the choroid fissure beside the
    hippocampus. (Wide perivascular spaces are thinner than voxels: `RandPaintVascularSpacesd` paints them.)

    Args:
        cap_mm: largest thickness of the caps.
        spots: largest share of the white matter in spots.
        cyst_mm: largest radius of the cysts.
        prob: of each of the three kinds.
    """

    def __init__(self, cap_mm: float = 8.0, spots: float = 0.02, cyst_mm: float = 5.0, prob: float = 0.4) -> None:
        MapTransform.__init__(self, ("tissues", "lesions"))
        self.cap_mm, self.spots, self.cyst_mm, self.prob = cap_mm, spots, cyst_mm, prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `tissues` changed."""
        sample = dict(data)
        tissues = sample["tissues"]
        spacing_mm = float(tissues.affine[0, 0])
        codes = plain(tissues)[0].clone()
        white = (codes == Tissue.WHITE) & (plain(sample["lesions"])[0] == 0)
        if self.R.uniform() < self.prob:
            codes[white & self.caps(codes, spacing_mm)] = int(Tissue.HYPOINTENSE)
        if self.R.uniform() < self.prob:
            noise = smooth_noise(codes.shape, spacing_mm, 5.0, generator_of(self.R))[0]
            codes[white & (noise > quantile(noise[white], 1 - self.R.uniform(0, self.spots)))] = int(Tissue.HYPOINTENSE)
        if self.R.uniform() < self.prob:
            codes[self.cyst(codes, spacing_mm) & is_brain(codes) & (plain(sample["lesions"])[0] == 0)] = int(Tissue.CSF)
        sample["tissues"] = MetaTensor(codes[None], meta=tissues.meta)
        return sample

    def caps(self, codes: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Draw where hypointensities surround the ventricles, thicker here and thinner there."""
        noise = smooth_noise(codes.shape, spacing_mm, 15.0, generator_of(self.R))[0]
        thickness_mm = self.R.uniform(1, self.cap_mm) * torch.sigmoid(2 * noise - 1)
        return distance_mm(codes == Tissue.VENTRICLE, spacing_mm) < thickness_mm

    def cyst(self, codes: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Draw a ball at a random place of the hippocampus."""
        places = (codes == Tissue.HIPPOCAMPUS).nonzero()
        if not len(places):
            return torch.zeros_like(codes, dtype=torch.bool)
        center = places[self.R.randint(len(places))]
        axes = [(torch.arange(size) - c) ** 2 for size, c in zip(codes.shape, center.tolist(), strict=True)]
        squared = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
        ball: torch.Tensor = squared * spacing_mm**2 < self.R.uniform(1.5, self.cyst_mm) ** 2
        return ball


def box_of(mask: torch.Tensor, margin: int) -> tuple[slice, ...]:
    """Return the box of the non-zero voxels of `(X, Y, Z)`, wider by a margin in voxels."""
    axes = [mask.amax(tuple(other for other in range(3) if other != axis)).nonzero()[:, 0] for axis in range(3)]
    return tuple(slice(max(0, int(axis[0]) - margin), int(axis[-1]) + 1 + margin) for axis in axes)


def quantile(values: torch.Tensor, share: float) -> torch.Tensor:
    """Return a quantile of at most 100,000 evenly chosen values; torch sorts no more than 16 million."""
    if not values.numel():
        return torch.tensor(torch.inf)
    chosen: torch.Tensor = torch.quantile(values[:: max(1, values.numel() // 100_000)].float(), share)
    return chosen


class BrainMaskd(MapTransform):
    """Write `brain` `(1, X, Y, Z)`: brain, ventricles and lesions; not the CSF of the sulci, as in FreeSurfer's labels."""

    def __init__(self) -> None:
        super().__init__(("tissues", "label"))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `brain` written."""
        sample = dict(data)
        mask = is_brain(plain(sample["tissues"])) | (plain(sample["label"]) > 0)
        sample["brain"] = MetaTensor(mask.to(torch.uint8), meta=sample["tissues"].meta)
        return sample
