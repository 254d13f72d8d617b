"""Affine registration of a head to MNI space, by its tissues: whatever its contrast, white matter comes onto white matter.

Both sides are shown as a T1 would: white matter 1, gray matter 0.6, all else 0. ITK moves one onto the other.
"""

from functools import cache
from typing import cast

import itk
import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.itk_torch_bridge import metatensor_to_itk_image
from monai.transforms import BorderPad, GaussianSmooth, Spacing, SpatialResample
from nibabel.affines import voxel_sizes
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template
from numpy.typing import NDArray

from strokelesion.transforms.synthesis.tissues import Tissue, is_brain

GRAY_LEVEL = 0.6
WHITE_TISSUES = (Tissue.WHITE, Tissue.STEM, Tissue.CEREBELLAR_WHITE, Tissue.HYPOINTENSE, Tissue.PALLIDUM)
FLUID_TISSUES = (Tissue.VENTRICLE, Tissue.CHOROID)
# From coarse to fine: voxel size (in multiples of VOXEL_MM) and smoothing of each level.
VOXEL_MM = 2.0
SHRINK_FACTORS = (2, 1)
SMOOTHING_MM = (4.0, 2.0)
# A regular tenth of the voxels leads to the same place (0.15 mm on average at most) in a quarter of the time.
SAMPLED_SHARE = 0.1
# The template must see that there is nothing around a brain that was cropped closely.
BORDER_MM = 40
# A brain of 0.9 liters grows by 2.1 to fill the template, which is larger than life.
VOLUME_RATIOS = (0.5, 2.5)
# Eighteen registered heads reach .69 to .92, the lowest with large ventricles; heads turned over or cut in half up to .60.
CORRELATION_AT_LEAST = 0.63
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Affine = NDArray[np.floating]


def register_to_mni(tissues: MetaTensor) -> Affine:
    """Return the affine `(4, 4)` that takes a head's millimeters (RAS) to those of MNI152.

    1. Show the tissues and the template as T1-like images at 2 mm.
    2. Lay the centers of mass over each other.
    3. Minimize the mean square difference over all 12 parameters, at 4 mm and then at 2 mm.
    4. Check the volume ratio and, inside the template, the correlation.

    Args:
        tissues: map of `Tissue` `(1, X, Y, Z)` with its affine in RAS.

    Raises:
        ValueError: when the result fails a check.
    """
    head = t1_like(tissues)
    to_head = align(template(), head)
    volume_ratio, correlation = 1 / float(np.linalg.det(to_head)), overlap(template(), head, to_head)
    if not VOLUME_RATIOS[0] < volume_ratio < VOLUME_RATIOS[1] or correlation < CORRELATION_AT_LEAST:
        raise ValueError(
            f"the registration to MNI space failed: volume ratio {volume_ratio:.2f}, correlation {correlation:.2f}; expected "
            f"{VOLUME_RATIOS[0]} to {VOLUME_RATIOS[1]} and at least {CORRELATION_AT_LEAST}. Check that the head is a whole "
            "brain, upright, with its left and right as the header says."
        )
    return np.linalg.inv(to_head)


@cache
def template() -> MetaTensor:
    """Return the MNI152 template (2009a, symmetric) as a T1-like image at 2 mm."""
    white, gray = load_mni152_wm_template(resolution=1), load_mni152_gm_template(resolution=1)
    image = np.asarray(white.dataobj, dtype=np.float32) + GRAY_LEVEL * np.asarray(gray.dataobj, dtype=np.float32)
    return coarse(MetaTensor(torch.from_numpy(image)[None], affine=torch.from_numpy(white.affine)))


def t1_like(tissues: MetaTensor) -> MetaTensor:
    """Return a tissue map as a T1-like image at 2 mm, with a border of nothing."""
    levels = is_brain(torch.arange(len(Tissue))) * GRAY_LEVEL
    levels[list(WHITE_TISSUES)], levels[list(FLUID_TISSUES)] = 1.0, 0.0
    image = MetaTensor(levels[tissues.as_tensor().long()], affine=tissues.affine)
    border = np.ceil(BORDER_MM / voxel_sizes(tissues.affine.numpy())).astype(int)
    return coarse(cast(MetaTensor, BorderPad(border.repeat(2).tolist())(image)))


def coarse(image: MetaTensor) -> MetaTensor:
    """Return an image `(1, X, Y, Z)` at 2 mm; before it is thinned out it is smoothed by half of that."""
    smooth = GaussianSmooth((VOXEL_MM / 2 / voxel_sizes(image.affine.numpy())).tolist())(image)
    return cast(MetaTensor, Spacing(VOXEL_MM, mode="bilinear", padding_mode="border")(smooth))


def align(fixed: MetaTensor, moving: MetaTensor) -> Affine:
    """Return the affine `(4, 4)` in RAS that takes the millimeters of one image to those of another that looks alike."""
    images = metatensor_to_itk_image(fixed), metatensor_to_itk_image(moving)
    transform = centered(*images)
    kind = type(images[0])
    metric = itk.MeanSquaresImageToImageMetricv4[kind, kind].New()
    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New(
        MinimumStepLength=1e-3, NumberOfIterations=200, GradientMagnitudeTolerance=1e-9
    )
    optimizer.SetScalesEstimator(itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New(Metric=metric))
    method = itk.ImageRegistrationMethodv4[kind, kind].New(
        FixedImage=images[0], MovingImage=images[1], Metric=metric, Optimizer=optimizer, InitialTransform=transform
    )
    go_from_coarse_to_fine(method)
    method.InPlaceOn()
    method.Update()
    return as_affine(transform)


def go_from_coarse_to_fine(method: itk.ImageRegistrationMethodv4) -> None:
    """Set the levels of a registration, and that it looks at a regular share of the voxels."""
    method.SetNumberOfLevels(len(SHRINK_FACTORS))
    method.SetShrinkFactorsPerLevel(SHRINK_FACTORS)
    method.SetSmoothingSigmasPerLevel(SMOOTHING_MM)
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED_SHARE)
    method.MetricSamplingReinitializeSeed(0)  # ITK shifts the points a little, at random


def centered(fixed: itk.Image, moving: itk.Image) -> itk.AffineTransform:
    """Return the translation that takes the center of mass of one image to that of the other."""
    centers = []
    for image in (fixed, moving):
        moments = itk.ImageMomentsCalculator[type(image)].New(Image=image)
        moments.Compute()
        centers.append(np.array(moments.GetCenterOfGravity()))
    transform = itk.AffineTransform[itk.D, 3].New()
    transform.SetCenter(centers[0].tolist())
    transform.SetTranslation((centers[1] - centers[0]).tolist())
    return transform


def as_affine(transform: itk.AffineTransform) -> Affine:
    """Return an ITK transform, which works in LPS, as a matrix in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(transform.GetMatrix())
    affine[:3, 3] = transform.GetOffset()
    return np.asarray(RAS_TO_LPS @ affine @ RAS_TO_LPS)


def overlap(fixed: MetaTensor, moving: MetaTensor, to_moving: Affine) -> float:
    """Return the correlation of two images, smoothed by 4 mm, where the fixed one is not empty."""
    placed = MetaTensor(moving.as_tensor(), affine=torch.linalg.inv(torch.from_numpy(to_moving)) @ moving.affine)
    resampled = SpatialResample(padding_mode="zeros")(placed, dst_affine=fixed.affine, spatial_size=fixed.shape[1:])
    inside = fixed.as_tensor() > GRAY_LEVEL / 2
    smooth = GaussianSmooth(SMOOTHING_MM[0] / VOXEL_MM)
    pair = [torch.as_tensor(smooth(torch.as_tensor(image)))[inside] for image in (fixed.as_tensor(), resampled)]
    return float(torch.corrcoef(torch.stack(pair))[0, 1])
