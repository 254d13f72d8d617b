"""MONAI dictionary transforms. Each works on one sample (arrays with their affines) and does not depend on a data set.

In the order of a scan:

    content.py            placeholders of git-annex and git-lfs, packed files under other names
    conversion.py         DICOM series to NIfTI, by dcm2niix
    reading.py            files to volumes, after a check of their headers
    masks.py              mask files to one label map
    preparation.py        bias field, MNI space
    brain.py              brain mask by trained networks, and what lies outside it
    intensity.py          one scale for all scanners
    slices.py             field of view, planes and slices
    augmentation.py       random changes of a batch of slices
    decision.py           probabilities to labels
    drawn_masks.py        masks that a person drew in any program
    filling.py            lesions replaced by mirrored tissue, and stored_values.py, which keeps all other voxels
    prediction_check.py   reading of a saved prediction, and whether it can be scored
    synthesis/            synthetic scans for training

What they share:

    recipe.py             chains of transforms with a fingerprint
    headers.py            qform, sform and their disagreements; headers of masks
    geometry.py           grids, boxes, points, distances
    components.py         connected components
    registration.py       affine registration of a brain to MNI space, by alignment.py
    sample_error.py       errors that name the file
"""

from strokelesion.transforms.augmentation import RandAugmentSlicesd
from strokelesion.transforms.brain import BrainExtractor, BrainNetwork, ExtractBraind, KeepInBraind, KeepOnePieced, StripHeadd
from strokelesion.transforms.decision import DecideLesionsd, FillBackgroundd
from strokelesion.transforms.intensity import ScaleTissued, is_tissue
from strokelesion.transforms.masks import BinarizeMasksd, DivideByClassesd, FuseSubmasksd, LabelLesionsd, LoadMasksd
from strokelesion.transforms.prediction_check import CheckPredictiond, LoadPredictiond
from strokelesion.transforms.preparation import CorrectBiasd, PlaceInMNId
from strokelesion.transforms.reading import LoadScand
from strokelesion.transforms.recipe import Recipe
from strokelesion.transforms.slices import CropToBraind, CropToTissued, ExtractSlicesd, TurnToPlaned
