"""ITK's affine optimizer between two images with affines: the best of 12 parameters for a metric, from coarse to fine."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import itk
import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.itk_torch_bridge import metatensor_to_itk_image
from nibabel.affines import apply_affine
from numpy.typing import NDArray

HISTOGRAM_BINS = 32
# A regular tenth of the voxels leads to the same place (0.15 mm on average at most) in a quarter of the time.
SAMPLED_SHARE = 0.1
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Affine = NDArray[np.floating]


class Level(NamedTuple):
    """One step of a registration from coarse to fine.

    Attributes:
        shrink: every so manieth voxel is looked at,
        smoothing_mm: after a Gaussian of this width.
    """

    shrink: int
    smoothing_mm: float


def align(
    fixed: MetaTensor,
    moving: MetaTensor,
    start: Affine,
    levels: Sequence[Level],
    metric: Callable[[type], Any],
    ignored: MetaTensor | None = None,
    looked_at: MetaTensor | None = None,
) -> Affine:
    """Return the affine `(4, 4)` in RAS that takes the millimeters of one image to those of another, the best for a metric.

    Args:
        fixed: image `(1, X, Y, Z)` with its affine.
        moving: likewise.
        start: affine to go from.
        levels: from coarse to fine.
        metric: makes ITK's metric for images of a type.
        ignored: what is not looked at in the moving image, 0/1 bytes on its grid.
        looked_at: all that is looked at in the fixed image, likewise.
    """
    images = metatensor_to_itk_image(fixed), metatensor_to_itk_image(moving)
    kind = type(images[0])
    transform, measured = as_transform(start, center_mm(fixed)), metric(kind)
    if ignored is not None and ignored.any():  # an empty mask would cost time for nothing
        measured.SetMovingImageMask(as_mask(MetaTensor(1 - ignored.as_tensor(), affine=ignored.affine)))
    if looked_at is not None:
        measured.SetFixedImageMask(as_mask(looked_at))
    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New(
        MinimumStepLength=1e-3, NumberOfIterations=200, GradientMagnitudeTolerance=1e-9
    )
    optimizer.SetScalesEstimator(itk.RegistrationParameterScalesFromPhysicalShift[type(measured)].New(Metric=measured))
    method = itk.ImageRegistrationMethodv4[kind, kind].New(
        FixedImage=images[0], MovingImage=images[1], Metric=measured, Optimizer=optimizer, InitialTransform=transform
    )
    go_from_coarse_to_fine(method, levels)
    method.InPlaceOn()
    method.Update()
    return as_affine(transform)


def as_mask(mask: MetaTensor) -> Any:
    """Return 0/1 bytes `(1, X, Y, Z)` as ITK's metrics take masks."""
    return itk.ImageMaskSpatialObject[3].New(Image=metatensor_to_itk_image(mask).astype(itk.UC))


def mutual_information(kind: type) -> Any:
    """Return ITK's metric for two images of one thing in whatever contrast."""
    return itk.MattesMutualInformationImageToImageMetricv4[kind, kind].New(NumberOfHistogramBins=HISTOGRAM_BINS)


def mean_squares(kind: type) -> Any:
    """Return ITK's metric for two images of one contrast."""
    return itk.MeanSquaresImageToImageMetricv4[kind, kind].New()


def go_from_coarse_to_fine(method: Any, levels: Sequence[Level]) -> None:
    """Set the levels of a registration, and that it looks at a regular share of the voxels."""
    method.SetNumberOfLevels(len(levels))
    method.SetShrinkFactorsPerLevel([level.shrink for level in levels])
    method.SetSmoothingSigmasPerLevel([level.smoothing_mm for level in levels])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED_SHARE)
    method.MetricSamplingReinitializeSeed(0)  # ITK shifts the points a little, at random


def as_transform(affine: Affine, pivot_mm: NDArray[np.floating]) -> Any:
    """Return an affine in RAS as an ITK transform, which works in LPS, about a point."""
    matrix, center = RAS_TO_LPS @ affine @ RAS_TO_LPS, RAS_TO_LPS[:3, :3] @ pivot_mm
    transform = itk.AffineTransform[itk.D, 3].New()
    transform.SetCenter(center.tolist())
    transform.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(matrix[:3, :3])))
    transform.SetTranslation((apply_affine(matrix, center) - center).tolist())
    return transform


def as_affine(transform: Any) -> Affine:
    """Return an ITK transform, which works in LPS, as a matrix in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(transform.GetMatrix())
    affine[:3, 3] = transform.GetOffset()
    return np.asarray(RAS_TO_LPS @ affine @ RAS_TO_LPS)


def center_mm(image: MetaTensor) -> NDArray[np.floating]:
    """Return the center of mass of an image `(1, X, Y, Z)`."""
    weights = image.as_tensor()[0].double()
    along = [torch.einsum(f"xyz->{axis}", weights) / weights.sum() for axis in "xyz"]
    voxel = [float(share @ torch.arange(len(share)).double()) for share in along]
    center: NDArray[np.floating] = apply_affine(image.affine.numpy(), voxel)
    return center
