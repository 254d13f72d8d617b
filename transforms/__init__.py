"""MONAI dictionary transforms. Each works on one sample (arrays with their affines) and does not depend on a data set."""

from strokelesion.transforms.augmentation import RandAugmentSlicesd
from strokelesion.transforms.brain import BrainExtractor, BrainNetwork, ExtractBraind, KeepInBraind, StripHeadd
from strokelesion.transforms.decision import DecideLesionsd, FillBackgroundd
from strokelesion.transforms.intensity import ScaleTissued, is_tissue
from strokelesion.transforms.masks import BinarizeMasksd, FuseSubmasksd, LabelLesionsd, LoadMasksd
from strokelesion.transforms.prediction_check import CheckPredictiond
from strokelesion.transforms.preparation import CorrectBiasd, PlaceInMNId
from strokelesion.transforms.reading import LoadScand, SeriesReader
from strokelesion.transforms.recipe import Recipe
from strokelesion.transforms.slices import CropToBraind, CropToTissued, ExtractSlicesd, TurnToPlaned

__all__ = [
    "BinarizeMasksd",
    "BrainExtractor",
    "BrainNetwork",
    "CheckPredictiond",
    "CorrectBiasd",
    "CropToBraind",
    "CropToTissued",
    "DecideLesionsd",
    "ExtractBraind",
    "ExtractSlicesd",
    "FillBackgroundd",
    "FuseSubmasksd",
    "KeepInBraind",
    "LabelLesionsd",
    "LoadMasksd",
    "LoadScand",
    "PlaceInMNId",
    "RandAugmentSlicesd",
    "Recipe",
    "ScaleTissued",
    "SeriesReader",
    "StripHeadd",
    "TurnToPlaned",
    "is_tissue",
]
