"""MONAI dictionary transforms; each knows one sample, an array with its affine, and nothing of data sets."""

from strokelesion.transforms.augmentation import RandAugmentSlicesd
from strokelesion.transforms.brain import BrainExtractor, BrainNetwork, ExtractBraind, KeepInBraind
from strokelesion.transforms.decision import DecideLesionsd
from strokelesion.transforms.intensity import ScaleTissued, is_tissue
from strokelesion.transforms.lesions import BinarizeMasksd, FillBackgroundd, FuseSubmasksd, LabelLesionsd
from strokelesion.transforms.loading import LoadScand, SeriesReader
from strokelesion.transforms.predictions import CheckPredictiond
from strokelesion.transforms.recipe import Recipe
from strokelesion.transforms.slices import ExtractSlicesd

__all__ = [
    "BinarizeMasksd",
    "BrainExtractor",
    "BrainNetwork",
    "CheckPredictiond",
    "DecideLesionsd",
    "ExtractBraind",
    "ExtractSlicesd",
    "FillBackgroundd",
    "FuseSubmasksd",
    "KeepInBraind",
    "LabelLesionsd",
    "LoadScand",
    "RandAugmentSlicesd",
    "Recipe",
    "ScaleTissued",
    "SeriesReader",
    "is_tissue",
]
