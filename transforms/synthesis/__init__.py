"""Transforms that make a synthetic T1 scan of a chronic stroke patient from a head, lesion masks and an intensity model.

In the order of bundles/synthesis.json:

    tissues.py          tissue classes and FreeSurfer's labels
    head_placement.py   one random deformation of head and lesions
    anatomy.py          wide ventricles and sulci, fit of the lesions
    mimics.py           lesion mimics
    tissue_paint.py     T1 intensities of tissues
    lesion_paint.py     T1 intensities of chronic infarcts
    scanner.py          effects of scanners and of preprocessing
    fields.py           random fields, filters and distances, which they share
"""

from strokelesion.transforms.recipe import SeededRecipe
from strokelesion.transforms.synthesis.anatomy import BrainMaskd, FitLesionsd, RandWidenSpacesd
from strokelesion.transforms.synthesis.head_placement import LoadLesionsd, RandPlaceHeadd
from strokelesion.transforms.synthesis.lesion_paint import RandPaintLesionsd
from strokelesion.transforms.synthesis.mimics import RandAddMimicsd, RandPaintVascularSpacesd
from strokelesion.transforms.synthesis.scanner import (
    SCANNERS,
    RandBiasd,
    RandHeadCoverd,
    RandNoised,
    RandThickSlicesd,
    RandUnitsd,
    simulated_scanner,
)
from strokelesion.transforms.synthesis.tissue_paint import RandPaintTissuesd
from strokelesion.transforms.synthesis.tissues import LabelTissuesd, Tissue, is_brain
