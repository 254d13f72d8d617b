"""Preparation of scans from the scanner: bias field correction, and resampling to MNI space as in training."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, SpatialResample
from monai.utils import TraceKeys
from numpy.typing import NDArray
from scipy import ndimage

from strokelesion.networks import UserError
from strokelesion.transforms.geometry import mni_grid, spread_from
from strokelesion.transforms.registration import Registration, register_brain

# Approximate voxel size of the image given to N4; the field is far smoother.
N4_VOXEL_MM = 4.0
N4_ITERATIONS = (50, 50, 50, 50)
# Median of the image given to N4. ITK's N4 ignores values below 1, so all scans are rescaled first.
N4_MEDIAN = 1000.0
logger = logging.getLogger(__name__)


class CorrectBiasd(MapTransform):
    """Divide a scan by its bias field, estimated by N4 in the brain.

    1. Take every n-th voxel, for a spacing of about 4 mm.
    2. Estimate the field with ITK's N4, over four levels of 50 iterations.
    3. Interpolate the field's logarithm on the scan's grid, and divide.

    Args:
        keys: Scans `(1, X, Y, Z)` with their affines, beside the brain mask `brain` `(1, X, Y, Z)` on the same grid.

    Source: Tustison et al., N4ITK, IEEE Trans Med Imaging 29 (2010).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its scans corrected."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = sample[key] / bias_field(sample[key], sample["brain"])
        return sample


def bias_field(image: MetaTensor, brain: torch.Tensor) -> torch.Tensor:
    """Return the bias field of a scan `(1, X, Y, Z)`, with a geometric mean of 1 in the brain `(1, X, Y, Z)`."""
    steps = [max(1, round(N4_VOXEL_MM / edge_mm)) for edge_mm in image.pixdim.tolist()]
    thin = tuple(slice(step // 2, None, step) for step in steps)
    values = np.ascontiguousarray(image.as_tensor()[0][thin].float().clamp(min=0).numpy())
    mask = np.ascontiguousarray((np.asarray(brain)[0][thin] > 0) & (values > 0)).astype(np.uint8)
    values *= N4_MEDIAN / np.median(values[mask > 0])
    log_field = np.log(np.maximum(values, 1e-6)) - np.log(np.maximum(n4(values, mask), 1e-6))
    log_field = spread_from(mask > 0, log_field)  # N4's field is not fitted outside the brain and may take any value there
    axes = [(np.arange(size) - step // 2) / step for size, step in zip(image.shape[1:], steps, strict=True)]
    where = np.meshgrid(*axes, indexing="ij")
    whole = ndimage.map_coordinates(log_field - log_field[mask > 0].mean(), where, order=1, mode="nearest")
    return torch.from_numpy(np.exp(whole).astype(np.float32))[None]


def n4(values: NDArray[np.float32], mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an image `(x, y, z)` corrected by ITK's N4 inside a mask."""
    import itk  # takes seconds, and most scans need none of it

    image, inside = itk.image_from_array(values), itk.image_from_array(mask)
    corrector = itk.N4BiasFieldCorrectionImageFilter.New(image, MaskImage=inside)
    corrector.SetMaximumNumberOfIterations(N4_ITERATIONS)
    corrector.SetNumberOfFittingLevels(len(N4_ITERATIONS))
    corrector.Update()
    return np.asarray(itk.array_from_image(corrector.GetOutput()))


class PlaceInMNId(MapTransform, InvertibleTransform):
    """Resample a scan to the grid of MNI152NLin2009aSym, which ATLAS scans and all synthetic scans have.

    The affine of the result maps to MNI millimeters. The inverse resamples predictions to the scan's own grid and millimeters,
    trilinearly. A scan that cannot be registered stays unchanged, with a warning in the log.

    Args:
        keys: Scan `(1, X, Y, Z)` with its affine, beside the brain mask `brain` `(1, X, Y, Z)` on the same grid. `to_mni` is
            added, the affine `(4, 4)` from the scan's millimeters to MNI's; nan if registration failed.
        spacing_mm: Voxel size of the grid along its three axes.
        register: Function that registers a brain to MNI space; it raises UserError if it fails.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
        register: Callable[[MetaTensor, torch.Tensor], Registration] = register_brain,
    ) -> None:
        super().__init__(keys)
        self.register = register
        self.grid, self.size = mni_grid(spacing_mm)
        # Single precision halves memory and time and changes positions by a thousandth of a voxel.
        self.resample = SpatialResample(mode="bilinear", padding_mode="zeros", dtype=np.float32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its scan in MNI space."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample["to_mni"] = torch.from_numpy(self.found(sample[key], sample["brain"]))
            sample[key] = self.traced(sample[key])
            if not sample["to_mni"].isnan().any():
                sample[key].affine = sample["to_mni"] @ sample[key].affine
                sample[key] = self.resample(sample[key], dst_affine=self.grid, spatial_size=self.size)
        return sample

    def found(self, image: MetaTensor, brain: torch.Tensor) -> NDArray[np.floating]:
        """Return the affine `(4, 4)` to MNI's millimeters; nan if registration failed."""
        try:
            return self.register(image, brain).to_mni
        except UserError as error:
            logger.warning("left as it lies, not brought to MNI space: %s", error)
            return np.full((4, 4), np.nan)

    def traced(self, image: MetaTensor) -> MetaTensor:
        """Return the unchanged scan with its affine recorded for the inverse."""
        copy = MetaTensor(image.as_tensor(), meta=image.meta, applied_operations=image.applied_operations)
        affine = image.affine.double()
        self.push_transform(copy, orig_size=image.shape[1:], extra_info={"affine": affine})  # type: ignore[no-untyped-call]
        copy.affine = affine
        return copy

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes on their scans' own grids."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            if sample[key].applied_operations[-1][TraceKeys.CLASS_NAME] == type(self.resample).__name__:
                sample[key] = self.resample.inverse(sample[key])
            sample[key].affine = self.pop_transform(sample[key])[TraceKeys.EXTRA_INFO]["affine"]
        return sample
