"""Transforms that make a synthetic T1 scan of a chronic stroke patient from a head, lesion masks and an intensity model.

Order, as in bundles/synthesis.json: load, place, widen CSF spaces, fit lesions, add mimics, paint, simulate the scanner.
"""

from strokelesion.transforms.synthesis.anatomy import BrainMaskd, FitLesionsd, RandWidenSpacesd
from strokelesion.transforms.synthesis.composition import LoadLesionsd, SeededRecipe
from strokelesion.transforms.synthesis.head_placement import RandPlaceHeadd
from strokelesion.transforms.synthesis.lesion_paint import RandPaintLesionsd
from strokelesion.transforms.synthesis.mimics import RandAddMimicsd, RandPaintVascularSpacesd
from strokelesion.transforms.synthesis.scanner import RandBiasd, RandHeadCoverd, RandNoised, RandThickSlicesd, RandUnitsd
from strokelesion.transforms.synthesis.scanners import SCANNERS, simulated_scanner
from strokelesion.transforms.synthesis.tissue_paint import RandPaintTissuesd
from strokelesion.transforms.synthesis.tissues import LabelTissuesd, Tissue, is_brain

__all__ = [
    "SCANNERS",
    "BrainMaskd",
    "FitLesionsd",
    "LabelTissuesd",
    "LoadLesionsd",
    "RandAddMimicsd",
    "RandBiasd",
    "RandHeadCoverd",
    "RandNoised",
    "RandPaintLesionsd",
    "RandPaintTissuesd",
    "RandPaintVascularSpacesd",
    "RandPlaceHeadd",
    "RandThickSlicesd",
    "RandUnitsd",
    "RandWidenSpacesd",
    "SeededRecipe",
    "Tissue",
    "is_brain",
    "simulated_scanner",
]
