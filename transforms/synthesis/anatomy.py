"""Changes of the anatomy by age and chronic infarcts (wide ventricles and sulci), and the fit of lesions to the anatomy."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from strokelesion.transforms.components import without_small
from strokelesion.transforms.geometry import bounding_box
from strokelesion.transforms.masks import divide_components
from strokelesion.transforms.synthesis.fields import blurred, closed, distance_mm, plain
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_brain, is_inside_skull

# Tissues that a widened ventricle or sulcus may replace.
AROUND_VENTRICLES = (Tissue.WHITE, Tissue.CAUDATE, Tissue.HYPOINTENSE, Tissue.HIPPOCAMPUS, Tissue.THALAMUS, Tissue.CHOROID)
AROUND_SULCI = (Tissue.CORTEX, Tissue.CEREBELLAR_CORTEX)
# Manual tracings of larger lesions include the sulci inside them as part of the cavity. Smaller lesions contain tissue only.
LARGEST_IN_TISSUE_ML = 3.0
# Largest half-width of a sulcus. The fluid between brain and skull is wider; tracers never include it.
SULCUS_MM = 5.0


class RandWidenSpacesd(Randomizable, MapTransform):
    """Widen ventricles and sulci: slightly everywhere, as in aging, and more beside the lesions (ex vacuo).

    Voxels within r of a ventricle become ventricle, with r = overall + beside * nearness to a lesion. Cortex becomes CSF where
    the blurred CSF mask exceeds a threshold. The threshold is 0.5, minus a global term and a term for nearness to a lesion.

    Args:
        ventricle_mm: Largest widening of the ventricles everywhere.
        ex_vacuo_mm: Largest additional widening beside a large lesion.
        sulci: Largest global decrease of the threshold.
    """

    version = 1

    def __init__(self, ventricle_mm: float = 3.0, ex_vacuo_mm: float = 6.0, sulci: float = 0.1) -> None:
        MapTransform.__init__(self, ("tissues", "lesions"))
        self.ventricle_mm, self.ex_vacuo_mm, self.sulci = ventricle_mm, ex_vacuo_mm, sulci

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with wider ventricles and sulci in `tissues`."""
        tissues, lesions = data["tissues"], data["lesions"]
        spacing_mm = float(tissues.affine[0, 0])
        codes = plain(tissues)[0].clone()
        nearness = (3 * blurred((plain(lesions)[0] > 0).float(), 10.0, spacing_mm)).clamp(max=1)
        # Powers above 1 make weak changes more frequent than strong ones.
        strengths = self.R.uniform(size=3) ** [3, 1, 2] * [self.ventricle_mm, self.ex_vacuo_mm, self.sulci]
        overall, beside, sulci = strengths.tolist()
        reach_mm = overall + beside * nearness
        wide = (distance_mm(codes == Tissue.VENTRICLE, spacing_mm) < reach_mm) & (reach_mm >= spacing_mm / 2)
        codes[wide & any_of(codes, AROUND_VENTRICLES)] = int(Tissue.VENTRICLE)
        level = 0.5 - sulci - 0.08 * nearness
        open_space = blurred((codes == Tissue.CSF).float(), 1.0, spacing_mm) > level
        if sulci + float(nearness.max()) > 0.02:
            codes[open_space & any_of(codes, AROUND_SULCI)] = int(Tissue.CSF)
        return {**data, "tissues": MetaTensor(codes[None], meta=tissues.meta)}


class FitLesionsd(MapTransform):
    """Crop large lesions to brain tissue and sulci, small ones to brain tissue; both without ventricles and outer CSF.

    Removes lesions that lose more than `largest_loss` of their volume, components below `least_share` of the cropped lesion,
    and components below `least_ml`. Writes `label` `(1, X, Y, Z)`: 1 for the main lesion, which is the largest 26-connected
    component, and 2 for all others.
    """

    version = 1

    def __init__(self, least_ml: float = 0.03, largest_loss: float = 0.7, least_share: float = 0.02) -> None:
        super().__init__(("tissues", "lesions"))
        self.least_ml, self.largest_loss, self.least_share = least_ml, largest_loss, least_share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with cropped `lesions` and with `label`."""
        tissues, lesions = data["tissues"], plain(data["lesions"]).clone()
        label = torch.zeros_like(lesions)
        spacing_mm = float(tissues.affine[0, 0])
        if lesions.any():
            box = (slice(None), *bounding_box(lesions[0], round(2 * SULCUS_MM / spacing_mm)))
            lesions[box] = self.cut(plain(tissues)[box], lesions[box], spacing_mm)
            kept = remove_small_components(lesions[box] > 0, 1000 * self.least_ml / spacing_mm**3)
            label[box] = divide_components(kept.to(torch.uint8))
        lesions[label == 0] = 0
        lesions, label = (MetaTensor(volume, meta=tissues.meta) for volume in (lesions, label))
        return {**data, "lesions": lesions, "label": label}

    def cut(self, tissues: torch.Tensor, lesions: torch.Tensor, spacing_mm: float) -> torch.Tensor:
        """Return the map of lesion numbers, cropped to the tissues that each lesion may cover; both `(1, X, Y, Z)`."""
        lesions = lesions.clone()
        brain = is_brain(tissues)
        brain_and_sulci = is_inside_skull(tissues) & closed(brain[0], SULCUS_MM, spacing_mm)
        for number in range(1, int(lesions.max()) + 1):
            drawn = lesions == number
            is_large = float(drawn.sum()) * spacing_mm**3 / 1000 > LARGEST_IN_TISSUE_ML
            inside = brain_and_sulci if is_large else brain
            kept = drawn & inside & (tissues != Tissue.VENTRICLE) & (tissues != Tissue.CHOROID)
            lost = 1 - float(kept.sum()) / max(1, int(drawn.sum()))
            kept = remove_small_components(kept, self.least_share * float(kept.sum()))
            lesions[drawn & ~kept if lost <= self.largest_loss else drawn] = 0
        return lesions


def remove_small_components(mask: torch.Tensor, least_voxels: float) -> torch.Tensor:
    """Return a mask `(1, X, Y, Z)` without its 26-connected components below a size, on the same device."""
    return torch.as_tensor(without_small(mask[0], least_voxels), device=mask.device)[None]


class BrainMaskd(MapTransform):
    """Write `brain` `(1, X, Y, Z)`: brain, ventricles and lesions. As in FreeSurfer, the CSF of the sulci is excluded."""

    version = 1

    def __init__(self) -> None:
        super().__init__(("tissues", "label"))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with `brain`."""
        mask = is_brain(plain(data["tissues"])) | (plain(data["label"]) > 0)
        return {**data, "brain": MetaTensor(mask.to(torch.uint8), meta=data["tissues"].meta)}
