"""Affine registration of a brain to MNI space: from many starts, by mutual information, and checked.

Two images of a brain and nothing else come onto each other far more surely than whole heads do. Where even that fails, the
result is refused: measures in the wrong place are worse than none.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple, cast

import itk
import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.itk_torch_bridge import metatensor_to_itk_image
from monai.transforms import BorderPad, CropForeground, GaussianSmooth, Orientation, Spacing, SpatialResample
from nibabel.affines import apply_affine, voxel_sizes
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from strokelesion.transforms.intensity import brain_scale

VOXEL_MM = 2.0
# Around the brain: a template's voxel must find that there is nothing, not that the image has ended.
BORDER_VOXELS = 20
BRIGHTEST = 1.3  # of white matter: vessels and rests of fat say nothing about where the brain is
# The search: turns of the head about its three axes (nod, tilt, turn), looked at in voxels of 8 mm.
TURNS_DEG = ((-45, -30, -15, 0, 15, 30, 45), (-30, -15, 0, 15, 30), (-45, -30, -15, 0, 15, 30, 45))
SEARCH_VOXEL = 4
TRIED_STARTS = 3
HISTOGRAM_BINS = 32
# A regular tenth of the voxels leads to the same place (0.15 mm on average at most) in a quarter of the time.
SAMPLED_SHARE = 0.1
# A brain of 0.9 liters grows by 2.1 to fill the template, which is larger than life.
VOLUME_RATIOS = (0.5, 2.5)
# Two healthy heads reach .80 to .84; the least share of the template that must be covered leaves room for large infarcts.
CORRELATION_AT_LEAST = 0.6
LEAST_COVERED = 0.7
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


COARSE, FINE = Level(2, 4.0), Level(1, 2.0)


class Registration(NamedTuple):
    """How a scan lies in MNI space.

    Attributes:
        to_mni: affine `(4, 4)` that takes the scan's millimeters (RAS) to those of MNI152.
        correlation: of scan and template, smoothed by 4 mm, inside the template.
    """

    to_mni: Affine
    correlation: float


def register_brain(image: MetaTensor, brain: torch.Tensor, lesions: torch.Tensor | None = None) -> Registration:
    """Return how a scan lies in MNI space.

    1. Show brain and template alone, white matter 1, at 2 mm.
    2. Lay the centers of mass over each other, scale by the volumes, and try 245 turns of the head at 8 mm.
    3. From the best three, maximize the mutual information over 12 parameters at 4 mm; from the best of these, at 2 mm.
    4. Check the volume ratio and the correlation.

    Args:
        image: a T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity.
        brain: where its brain is `(1, X, Y, Z)`, lesions included.
        lesions: what is not to be looked at, likewise, so that it does not pull; None looks at everything.

    Raises:
        ValueError: when the result fails a check, or the brain is empty.

    Source: Mattes et al., IEEE Trans Med Imaging 22 (2003), as in ITK; the template is ICBM152 2009a, symmetric (Fonov et
        al., NeuroImage 54, 2011), of nilearn.
    """
    fixed, head = template(), brain_alone(image, brain)
    starts = best_starts(fixed, head)[:TRIED_STARTS]
    ignored = None if lesions is None else on_grid_of(head, MetaTensor(lesions.as_subclass(torch.Tensor), affine=image.affine))
    coarse = [align(fixed, head, start, [COARSE], mutual_information, ignored) for start in starts]
    best = max(coarse, key=lambda to_head: overlap(fixed, head, to_head))
    to_head = align(fixed, head, best, [COARSE, FINE], mutual_information, ignored)
    return checked(fixed, head, to_head, CORRELATION_AT_LEAST, is_whole=False)


def checked(
    fixed: MetaTensor, head: MetaTensor, to_head: Affine, least_correlation: float, is_whole: bool = True
) -> Registration:
    """Return a registration from the affine that takes the template's millimeters to the head's.

    Args:
        fixed: the template.
        head: what was registered.
        to_head: the result.
        least_correlation: what a good one reaches.
        is_whole: false where parts of the head may have been left out, which then do not count.

    Raises:
        ValueError: when it cannot be right by the volume ratio or the correlation.
    """
    volume_ratio, correlation = 1 / float(np.linalg.det(to_head)), overlap(fixed, head, to_head, is_whole)
    if not VOLUME_RATIOS[0] < volume_ratio < VOLUME_RATIOS[1] or correlation < least_correlation:
        raise ValueError(
            f"the registration to MNI space failed: volume ratio {volume_ratio:.2f}, correlation {correlation:.2f}; expected "
            f"{VOLUME_RATIOS[0]} to {VOLUME_RATIOS[1]} and at least {least_correlation}. Check that the head is a whole "
            "brain, upright, with its left and right as the header says."
        )
    return Registration(np.linalg.inv(to_head), correlation)


@cache
def template() -> MetaTensor:
    """Return the brain of MNI152 as `brain_alone` shows brains."""
    t1, mask = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    image = MetaTensor(torch.from_numpy(np.asarray(t1.dataobj, dtype=np.float32))[None], affine=torch.from_numpy(t1.affine))
    return brain_alone(image, torch.from_numpy(np.asarray(mask.dataobj) > 0)[None])


def brain_alone(image: MetaTensor, brain: torch.Tensor) -> MetaTensor:
    """Return a brain in RAS at 2 mm, white matter 1 and all else 0, with a border of nothing."""
    brain = brain.as_subclass(torch.Tensor)
    air, white = brain_scale(image, brain)
    levels = ((image.as_tensor().float() - air) / (white - air)).clamp(0, BRIGHTEST) * brain
    upright = Orientation("RAS", labels=None)(MetaTensor(levels, affine=image.affine))
    cropped = CropForeground(margin=4, allow_smaller=True)(upright)
    return cast(MetaTensor, BorderPad(BORDER_VOXELS)(at_two_mm(cast(MetaTensor, cropped))))


def at_two_mm(image: MetaTensor) -> MetaTensor:
    """Return an image `(1, X, Y, Z)` at 2 mm; before it is thinned out it is smoothed by half of that."""
    smooth = GaussianSmooth((VOXEL_MM / 2 / voxel_sizes(image.affine.numpy())).tolist())(image)
    return cast(MetaTensor, Spacing(VOXEL_MM, mode="bilinear", padding_mode="zeros")(smooth))


def best_starts(fixed: MetaTensor, moving: MetaTensor) -> list[Affine]:
    """Return similarities `(4, 4)` from the millimeters of one brain to those of another, the best correlated first."""
    fixed, moving = thinned(fixed), thinned(moving)
    inside = fixed.as_tensor()[0] > 0
    points_mm = apply_affine(fixed.affine.numpy(), torch.nonzero(inside).numpy())
    expected = fixed.as_tensor()[0][inside]
    starts = similarities(fixed, moving)
    found = torch.stack([values_at(moving, apply_affine(start, points_mm)) for start in starts])
    correlation = torch.corrcoef(torch.cat([expected[None], found]))[0, 1:]
    return [starts[number] for number in correlation.argsort(descending=True).tolist()]


def thinned(image: MetaTensor) -> MetaTensor:
    """Return means of cubes of `SEARCH_VOXEL` voxels of an image `(1, X, Y, Z)`."""
    means = F.avg_pool3d(image.as_tensor(), SEARCH_VOXEL)
    grow = torch.diag(torch.tensor([SEARCH_VOXEL] * 3 + [1.0], dtype=torch.float64))
    grow[:3, 3] = (SEARCH_VOXEL - 1) / 2
    return MetaTensor(means, affine=image.affine.double() @ grow)


def similarities(fixed: MetaTensor, moving: MetaTensor) -> list[Affine]:
    """Return the turns of `TURNS_DEG` about the centers of mass, scaled by the volumes."""
    fixed_mm, moving_mm = center_mm(fixed), center_mm(moving)
    scale = (volume_mm3(moving) / volume_mm3(fixed)) ** (1 / 3)
    starts: list[Affine] = []
    for turn in product(*TURNS_DEG):
        start = np.eye(4)
        start[:3, :3] = scale * Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        start[:3, 3] = moving_mm - start[:3, :3] @ fixed_mm
        starts.append(start)
    return starts


def center_mm(image: MetaTensor) -> NDArray[np.floating]:
    """Return the center of mass of an image `(1, X, Y, Z)`."""
    weights = image.as_tensor()[0].double()
    along = [torch.einsum(f"xyz->{axis}", weights) / weights.sum() for axis in "xyz"]
    voxel = [float(share @ torch.arange(len(share)).double()) for share in along]
    center: NDArray[np.floating] = apply_affine(image.affine.numpy(), voxel)
    return center


def volume_mm3(image: MetaTensor) -> float:
    """Return the volume of what is not dark in a brain alone."""
    return float((image.as_tensor() > BRIGHTEST / 4).sum()) * float(image.pixdim.prod())


def values_at(image: MetaTensor, points_mm: NDArray[np.floating]) -> torch.Tensor:
    """Return an image `(1, X, Y, Z)` at `(N, 3)` points, trilinearly, 0 beyond its edge: `(N,)`."""
    voxels = torch.from_numpy(apply_affine(np.linalg.inv(image.affine.numpy()), points_mm)).float()
    where = (2 * voxels / (torch.tensor(image.shape[1:]) - 1) - 1).flip(-1)
    return F.grid_sample(image.as_tensor()[None], where[None, None, None], align_corners=True).flatten()


def on_grid_of(target: MetaTensor, mask: MetaTensor) -> MetaTensor:
    """Return a mask `(1, x, y, z)` on the grid of an image, as bytes."""
    resample = SpatialResample(mode="nearest", padding_mode="zeros")
    there = resample(
        MetaTensor(mask.as_tensor().float(), affine=mask.affine), dst_affine=target.affine, spatial_size=target.shape[1:]
    )
    return MetaTensor((there.as_subclass(torch.Tensor) > 0).to(torch.uint8), affine=target.affine)


def align(
    fixed: MetaTensor,
    moving: MetaTensor,
    start: Affine,
    levels: Sequence[Level],
    metric: Callable[[type], Any],
    ignored: MetaTensor | None = None,
) -> Affine:
    """Return the affine `(4, 4)` in RAS that takes the millimeters of one image to those of another, the best for a metric.

    Args:
        fixed: image `(1, X, Y, Z)` with its affine.
        moving: likewise.
        start: affine to go from.
        levels: from coarse to fine.
        metric: makes ITK's metric for images of a type.
        ignored: what is not looked at in the moving image, 0/1 bytes on its grid.
    """
    images = metatensor_to_itk_image(fixed), metatensor_to_itk_image(moving)
    kind = type(images[0])
    transform, measured = as_transform(start, center_mm(fixed)), metric(kind)
    if ignored is not None:
        looked_at = metatensor_to_itk_image(MetaTensor(1 - ignored.as_tensor(), affine=ignored.affine)).astype(itk.UC)
        measured.SetMovingImageMask(itk.ImageMaskSpatialObject[3].New(Image=looked_at))
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


def overlap(fixed: MetaTensor, moving: MetaTensor, to_moving: Affine, is_whole: bool = True) -> float:
    """Return the correlation of two images, smoothed by 4 mm, where the fixed one is not dark.

    Where `is_whole` is false, places where the moving one is dark do not count, as long as it covers `LEAST_COVERED` of the
    fixed one; it is 0 where it covers less.
    """
    placed = MetaTensor(moving.as_tensor(), affine=torch.linalg.inv(torch.from_numpy(to_moving)) @ moving.affine)
    resampled = SpatialResample(padding_mode="zeros")(placed, dst_affine=fixed.affine, spatial_size=fixed.shape[1:])
    smooth = GaussianSmooth(COARSE.smoothing_mm / VOXEL_MM)
    one, other = (torch.as_tensor(smooth(torch.as_tensor(image))) for image in (fixed.as_tensor(), resampled))
    inside = fixed.as_tensor() > BRIGHTEST / 4
    if not is_whole:
        covered = inside & (other > BRIGHTEST / 4)
        if float(covered.sum()) < LEAST_COVERED * float(inside.sum()):
            return 0.0
        inside = covered
    return float(torch.corrcoef(torch.stack([one[inside], other[inside]]))[0, 1])
