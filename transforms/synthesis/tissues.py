"""Tissue classes of synthetic heads, and their labels in FreeSurfer.

Sources of the labels: FreeSurferColorLUT.txt (FreeSurfer 7); for 5xx, which are tissues outside the brain, the label maps of
SynthSeg (Billot et al., Medical Image Analysis 2023).
"""

from collections.abc import Hashable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from strokelesion.networks import UserError


class Tissue(IntEnum):
    """Tissue classes of voxels, without distinction of left and right."""

    AIR = 0
    WHITE = 1
    CORTEX = 2
    THALAMUS = 3
    CAUDATE = 4
    PUTAMEN = 5
    PALLIDUM = 6
    HIPPOCAMPUS = 7
    STEM = 8
    CEREBELLAR_WHITE = 9
    CEREBELLAR_CORTEX = 10
    HYPOINTENSE = 11
    CHOROID = 12
    VENTRICLE = 13
    CSF = 14
    EYE = 15
    SOFT = 16
    SKIN = 17
    BONE = 18
    MARROW = 19
    MUCOSA = 20
    VESSEL = 21
    UNKNOWN = 22


# A brain mask excludes the CSF outside the ventricles.
LAST_OF_BRAIN = Tissue.VENTRICLE
LAST_INSIDE_SKULL = Tissue.CSF

FREESURFER: dict[Tissue, tuple[int, ...]] = {
    Tissue.WHITE: (2, 41, 192, 250, 251, 252, 253, 254, 255),
    Tissue.CORTEX: (3, 42),
    Tissue.THALAMUS: (9, 10, 48, 49),
    Tissue.CAUDATE: (11, 50, 26, 58),
    Tissue.PUTAMEN: (12, 51),
    Tissue.PALLIDUM: (13, 52),
    Tissue.HIPPOCAMPUS: (17, 18, 53, 54),
    Tissue.STEM: (16, 28, 60, 85),
    Tissue.CEREBELLAR_WHITE: (7, 46),
    Tissue.CEREBELLAR_CORTEX: (8, 47),
    # FreeSurfer calls 25 and 57 "lesion". In healthy elderly subjects these are white-matter hypointensities.
    Tissue.HYPOINTENSE: (25, 57, 77, 78, 79, 80, 81, 82),
    Tissue.CHOROID: (31, 63, 136, 137, 163, 164),
    Tissue.VENTRICLE: (4, 5, 14, 15, 43, 44, 72),
    Tissue.CSF: (24, 30, 62),
    Tissue.EYE: (506,),
    Tissue.SOFT: (507,),
    Tissue.SKIN: (511,),
    Tissue.BONE: (515,),
    Tissue.MARROW: (516,),
    Tissue.MUCOSA: (509,),
    Tissue.VESSEL: (502, 508, 512, 514, 530),
}
# Left and right parcels: cortical of aparc and aparc.a2009s, white-matter of wmparc.
CORTICAL_PARCELS = (range(1000, 1036), range(2000, 2036), range(11100, 11176), range(12100, 12176))
WHITE_PARCELS = (range(3000, 3036), range(4000, 4036), range(5001, 5003))


def is_brain(tissues: torch.Tensor) -> torch.Tensor:
    """Return the mask of brain tissue and ventricles."""
    return (tissues > Tissue.AIR) & (tissues <= LAST_OF_BRAIN)


def is_inside_skull(tissues: torch.Tensor) -> torch.Tensor:
    """Return the mask of brain tissue, ventricles and the CSF around the brain."""
    return (tissues > Tissue.AIR) & (tissues <= LAST_INSIDE_SKULL)


def is_fluid(tissues: torch.Tensor) -> torch.Tensor:
    """Return the mask of CSF, in the ventricles or outside."""
    return (tissues == Tissue.VENTRICLE) | (tissues == Tissue.CSF)


def any_of(tissues: torch.Tensor, classes: Sequence[Tissue]) -> torch.Tensor:
    """Return the mask of voxels in one of several tissue classes."""
    return torch.isin(tissues, torch.tensor([int(tissue) for tissue in classes], dtype=tissues.dtype, device=tissues.device))


def tissue_table() -> torch.Tensor:
    """Return a lookup table `(20000,)` from FreeSurfer label to tissue; unlisted labels map to `UNKNOWN`."""
    table = torch.full((20000,), int(Tissue.UNKNOWN), dtype=torch.uint8)
    table[0] = int(Tissue.AIR)
    for tissue, numbers in FREESURFER.items():
        table[list(numbers)] = int(tissue)
    for tissue, ranges in ((Tissue.CORTEX, CORTICAL_PARCELS), (Tissue.WHITE, WHITE_PARCELS)):
        for parcels in ranges:
            table[list(parcels)] = int(tissue)
    return table


class LabelTissuesd(MapTransform):
    """Replace FreeSurfer's labels `(1, X, Y, Z)` by the classes of `Tissue`, as bytes.

    Raises:
        UserError: A label is negative, above 19,999 or not whole, or no voxel is white matter.
    """

    version = 1

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)
        self.table = tissue_table()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with tissue maps instead of label maps."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            labels = sample[key]
            numbers = torch.as_tensor(labels).long()
            if labels.min() < 0 or labels.max() >= len(self.table) or (labels != labels.round()).any():
                raise UserError(
                    f"the label map's values run from {float(labels.min()):g} to {float(labels.max()):g}; expected "
                    "FreeSurfer's whole numbers from 0 to 19999. Give a segmentation such as aseg or aparc+aseg."
                )
            tissues = self.table[numbers.as_tensor() if isinstance(numbers, MetaTensor) else numbers]
            if not (tissues == Tissue.WHITE).any():
                raise UserError("the label map has no white matter (2, 41); expected FreeSurfer's numbers.")
            sample[key] = MetaTensor(tissues, meta=getattr(labels, "meta", None))
        return sample
