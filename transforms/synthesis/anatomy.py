"""What age and an old infarct do to the anatomy: wide ventricles and sulci; and the lesion's place in it."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from strokelesion.transforms.decision import components
from strokelesion.transforms.lesions import divide_components
from strokelesion.transforms.synthesis.fields import blurred, box_of, closed, distance_mm, plain
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_brain, is_inside_skull

# What a widened ventricle or sulcus may take the place of.
AROUND_VENTRICLES = (Tissue.WHITE, Tissue.CAUDATE, Tissue.HYPOINTENSE, Tissue.HIPPOCAMPUS, Tissue.THALAMUS, Tissue.CHOROID)
AROUND_SULCI = (Tissue.CORTEX, Tissue.CEREBELLAR_CORTEX)
# Below this a lesion lies in the tissue; above, sulci that it swallowed count as its cavity, as tracers draw them.
LARGEST_IN_TISSUE_ML = 3.0
# Half the width of a cleft that is a sulcus; the fluid between brain and skull is none, and nobody traces it.
SULCUS_MM = 5.0


class RandWidenSpacesd(Randomizable, MapTransform):
    """Widen ventricles and sulci: a little everywhere, as age does, and more beside the lesions (ex vacuo).

    Voxels within r of a ventricle become ventricle, r = overall + beside * nearness to lesion; cortex where the blurred
    CSF exceeds a level becomes CSF, and the level falls in the same way.

    Args:
        ventricle_mm: largest widening everywhere.
        ex_vacuo_mm: largest additional widening beside a large lesion.
        sulci: largest fall of the level, from 0.5.
    """

    version = 1

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
    """Cut lesions to brain and sulci, off the ventricles and the fluid below the skull; small ones off all CSF.

    Removes what is left of a lesion that lost more than `largest_loss` of itself, crumbs of the cut of under `least_share` of
    their lesion, and specks of under `least_ml`. Writes `label` `(1, X, Y, Z)`: 1 for the largest 26-connected component, the
    main lesion, 2 for all others.
    """

    version = 1

    def __init__(self, least_ml: float = 0.03, largest_loss: float = 0.7, least_share: float = 0.02) -> None:
        super().__init__(("tissues", "lesions"))
        self.least_ml, self.largest_loss, self.least_share = least_ml, largest_loss, least_share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `lesions` cut and `label` written."""
        sample = dict(data)
        lesions = plain(sample["lesions"]).clone()
        label = torch.zeros_like(lesions)
        spacing_mm = float(sample["tissues"].affine[0, 0])
        if lesions.any():
            box = (slice(None), *box_of(lesions[0], round(2 * SULCUS_MM / spacing_mm)))
            lesions[box] = self.cut(plain(sample["tissues"])[box], lesions[box], spacing_mm)
            label[box] = main_and_sub(lesions[box], 1000 * self.least_ml / spacing_mm**3)
        lesions[label == 0] = 0
        sample["lesions"] = MetaTensor(lesions, meta=sample["tissues"].meta)
        sample["label"] = MetaTensor(label, meta=sample["tissues"].meta)
        return sample

    def cut(self, tissues: torch.Tensor, lesions: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return the numbers of lesions where they fit the tissues, both `(1, X, Y, Z)`."""
        lesions = lesions.clone()
        brain = is_brain(tissues)
        brain_and_sulci = is_inside_skull(tissues) & closed(brain[0], SULCUS_MM, spacing_mm)
        for number in range(1, int(lesions.max()) + 1):
            drawn = lesions == number
            is_large = float(drawn.sum()) * spacing_mm**3 / 1000 > LARGEST_IN_TISSUE_ML
            inside = brain_and_sulci if is_large else brain
            kept = drawn & inside & (tissues != Tissue.VENTRICLE) & (tissues != Tissue.CHOROID)
            lost = 1 - float(kept.sum()) / max(1, int(drawn.sum()))
            kept = without_specks(kept, self.least_share * float(kept.sum()))
            lesions[drawn & ~kept if lost <= self.largest_loss else drawn] = 0
        return lesions


def main_and_sub(lesions: torch.Tensor, least_voxels: float) -> torch.Tensor:
    """Return 1 in the largest 26-connected component of `(1, X, Y, Z)`, 2 in the others, without those below a size."""
    return divide_components(without_specks(lesions > 0, least_voxels).to(torch.uint8))


def without_specks(mask: torch.Tensor, least_voxels: float) -> torch.Tensor:
    """Return a mask `(1, X, Y, Z)` without its 26-connected components below a size."""
    numbers, sizes = components(mask[0])
    stays = sizes >= least_voxels
    stays[0] = False
    return torch.as_tensor(stays[numbers], device=mask.device)[None]


class BrainMaskd(MapTransform):
    """Write `brain` `(1, X, Y, Z)`: brain, ventricles and lesions; not the CSF of the sulci, as in FreeSurfer's labels."""

    version = 1

    def __init__(self) -> None:
        super().__init__(("tissues", "label"))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `brain` written."""
        sample = dict(data)
        mask = is_brain(plain(sample["tissues"])) | (plain(sample["label"]) > 0)
        sample["brain"] = MetaTensor(mask.to(torch.uint8), meta=sample["tissues"].meta)
        return sample
