"""Affine registration of a brain to MNI space, from many starts, by mutual information, with a check of the result.

Registration is far more robust with images of the brain alone than with whole heads. If it still fails, the result is
refused, because measures at a wrong position are worse than none.
"""

from collections.abc import Iterator
from functools import cache
from itertools import chain, product
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import BorderPad, CropForegroundd, Orientation, Spacing
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.spatial.transform import Rotation

from strokelesion.networks import UserError
from strokelesion.transforms.alignment import Affine, Level, align, center_mm, smooth
from strokelesion.transforms.geometry import resampled, sample_at, spread_from, voxel_ml
from strokelesion.transforms.intensity import brain_scale

# Version of the method. Raise it when results may change, so that stored results are computed again.
METHOD = 4
VOXEL_MM = 2.0
# Border around the brain, so that template voxels outside the brain are mapped to zeros, not beyond the image.
BORDER_VOXELS = 20
BRIGHTEST = 1.3  # relative to white matter; vessels and remaining fat are clipped, because they do not help
# Rotations of the search about the three axes of the head (nod, tilt, turn), tested in voxels of 8 mm.
TURNS_DEG = ((-45, -30, -15, 0, 15, 30, 45), (-30, -15, 0, 15, 30), (-45, -30, -15, 0, 15, 30, 45))
SEARCH_VOXEL = 4
TRIED_STARTS = 3
COARSE, FINE = Level(4, 4.0), Level(2, 3.0)
# The last steps ignore the border of the brain mask: fluid is set to 0, like the outside, and only voxels inside the template
# are used. The border differs between masks of the same head, due to its pose, skull stripping and lesions. With a rim of 4 mm
# around the template, infarcts at the surface shifted the result twice as far.
FLUID_LEVEL = 0.6
MASK_RIM_VOXELS = 1
LAST_STEPS = 2
# Before the last steps, dark lesions are filled with gray matter, which preserves the brain's center and volume.
GRAY_LEVEL = 0.7
# Distance over which a lesion darkens its surroundings in a smoothed image.
LESION_RIM_VOXELS = 2
# The brightness of the head is matched to the template at this scale, where both contain enough tissue.
EVENED_MM = 20.0
TISSUE_LEVELS = (0.4, 0.25)  # of template and head; the head may be dark from the bias field
LEAST_TISSUE = 0.02
# A brain of 0.6 liters is enlarged by 3.2 to fill the template, which is larger than real brains.
VOLUME_RATIOS = (0.5, 3.2)
CORRELATION_AT_LEAST = 0.7


class Registration(NamedTuple):
    """Registration of a scan to MNI space.

    Attributes:
        to_mni: Affine `(4, 4)` from the scan's millimeters (RAS) to those of MNI152.
        correlation: Correlation of the bias-corrected scan (`evened`) and the template, smoothed by 4 mm, inside the template.
    """

    to_mni: Affine
    correlation: float


def register_brain(
    image: MetaTensor, brain: torch.Tensor, lesions: torch.Tensor | None = None, start: Affine | None = None
) -> Registration:
    """Return the registration of a scan to MNI space.

    1. Extract brain and template alone, with white matter 1, at 2 mm.
    2. Search for the pose of the head (`poses`), and start with the likeliest.
    3. Do twice: match the brightness of the head to the template (`evened`), remove fluid (`solid`), and maximize the mutual
       information over 12 parameters inside the template at 2 mm.
    4. Check the volume ratio and the correlation of the evened head. If the check fails, try again from the next pose.

    Args:
        image: T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity.
        brain: Brain mask `(1, X, Y, Z)`, lesions included.
        lesions: Lesion mask `(1, X, Y, Z)`; lesions are ignored so that they do not shift the result. None ignores nothing.
        start: `to_mni` of an earlier registration or of `find_pose`, used as the first start.

    Raises:
        UserError: If no result passes the check, or if the brain is empty.

    Source: Mattes et al., IEEE Trans Med Imaging 22 (2003). The template is the symmetric ICBM152 2009a (Fonov et
        al., NeuroImage 54, 2011) from nilearn.
    """
    fixed, head = template(), brain_alone(image, brain)
    unseen = (torch.zeros_like(brain) if lesions is None else lesions).as_subclass(torch.Tensor)
    ignored = grown(resampled(MetaTensor(unseen, affine=image.affine), head, "nearest"), LESION_RIM_VOXELS)
    known = [] if start is None else [np.linalg.inv(start)]
    failed: UserError | None = None
    for near in chain(known, poses(fixed, head, ignored)):
        try:
            return registered(fixed, head, near, ignored)
        except UserError as error:
            failed = failed or error
    raise cast(UserError, failed)


def find_pose(image: MetaTensor, brain: torch.Tensor) -> Affine:
    """Return the affine `(4, 4)` of the likeliest pose of `poses` from a scan's millimeters to MNI's, before lesions are known.

    Args and errors are those of `register_brain`, which takes the result as its start.
    """
    head = brain_alone(image, brain)
    nothing = MetaTensor(torch.zeros_like(head.as_tensor()), affine=head.affine)
    return np.linalg.inv(next(poses(template(), head, nothing)))


def poses(fixed: MetaTensor, head: MetaTensor, ignored: MetaTensor) -> Iterator[Affine]:
    """Yield affines `(4, 4)` from the template's millimeters to the head's, likeliest first, accurate to a few millimeters.

    1. Fill dark ignored voxels with gray matter, align the centers of mass, scale by the volumes, and try 245 rotations of the
       head at 8 mm.
    2. From each of the best three in turn, maximize the mutual information over 12 parameters at 4 mm.
    """
    is_dark_lesion = (ignored.as_tensor() > 0) & (head.as_tensor() < GRAY_LEVEL)
    filled = MetaTensor(torch.where(is_dark_lesion, GRAY_LEVEL, head.as_tensor()), affine=head.affine)
    for start in best_starts(fixed, filled)[:TRIED_STARTS]:
        yield align(fixed, filled, start, COARSE)


def registered(fixed: MetaTensor, head: MetaTensor, to_head: Affine, ignored: MetaTensor) -> Registration:
    """Return the refined and checked registration from an initial affine that is accurate to a few millimeters."""
    inside = MetaTensor((fixed.as_tensor() > 0).byte(), affine=fixed.affine)
    for _ in range(LAST_STEPS):
        even = evened(fixed, head, to_head, ignored)
        to_head = align(solid(fixed), solid(even), to_head, FINE, ignored, inside)
    return checked(fixed, evened(fixed, head, to_head, ignored), to_head, CORRELATION_AT_LEAST, ignored)


def checked(
    fixed: MetaTensor, head: MetaTensor, to_head: Affine, least_correlation: float, ignored: MetaTensor | None = None
) -> Registration:
    """Return a registration from an affine, after a check of its volume ratio and correlation.

    Args:
        fixed: Template.
        head: Registered brain.
        to_head: Affine from the template's millimeters to the head's.
        least_correlation: Least correlation of a good registration.
        ignored: Mask of the head that is ignored, 0/1 on its grid.

    Raises:
        UserError: If the volume ratio or the correlation is out of range.
    """
    volume_ratio, correlation = 1 / float(np.linalg.det(to_head)), overlap(fixed, head, to_head, ignored)
    if not VOLUME_RATIOS[0] < volume_ratio < VOLUME_RATIOS[1] or correlation < least_correlation:
        raise UserError(
            f"the registration to MNI space failed: volume ratio {volume_ratio:.2f}, correlation {correlation:.2f}; expected "
            f"{VOLUME_RATIOS[0]} to {VOLUME_RATIOS[1]} and at least {least_correlation}. Check that the head is a whole "
            "brain, upright, with its left and right as the header says."
        )
    return Registration(np.linalg.inv(to_head), correlation)


@cache
def template() -> MetaTensor:
    """Return the brain of MNI152 in the form of `brain_alone`."""
    t1, mask = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    image = MetaTensor(torch.from_numpy(np.asarray(t1.dataobj, dtype=np.float32))[None], affine=torch.from_numpy(t1.affine))
    return brain_alone(image, torch.from_numpy(np.asarray(mask.dataobj) > 0)[None])


def brain_alone(image: MetaTensor, brain: torch.Tensor) -> MetaTensor:
    """Return a brain in RAS at 2 mm, with white matter 1, and 0 outside the brain and in an added border.

    The mask is first dilated by one voxel: missing cortex harms the registration more than included meninges.
    """
    mask = brain.as_subclass(torch.Tensor)
    air, white = brain_scale(image, mask)
    whole: Any = {name: MetaTensor(one, affine=image.affine) for name, one in (("image", image.as_tensor()), ("brain", mask))}
    near: Any = CropForegroundd(("image", "brain"), source_key="brain", margin=4, allow_smaller=True)(whole)
    levels = ((near["image"].as_tensor().float() - air) / (white - air)).clamp(0, BRIGHTEST)
    both = MetaTensor(torch.cat([levels, near["brain"].as_tensor().float()]), affine=near["image"].affine)
    small = at_two_mm(cast(MetaTensor, Orientation("RAS", labels=None)(both)))
    inside = grown(MetaTensor(small.as_tensor()[1:] > 0.5, affine=small.affine), MASK_RIM_VOXELS)
    alone = MetaTensor(small.as_tensor()[:1] * inside.as_tensor(), affine=small.affine)
    return cast(MetaTensor, BorderPad(BORDER_VOXELS)(alone))


def at_two_mm(image: MetaTensor) -> MetaTensor:
    """Return an image `(C, X, Y, Z)` resampled to 2 mm after smoothing by half of that."""
    resample = Spacing(VOXEL_MM, mode="bilinear", padding_mode="zeros", dtype=np.float32)
    return cast(MetaTensor, resample(smooth(image, VOXEL_MM / 2)))


def best_starts(fixed: MetaTensor, moving: MetaTensor) -> list[Affine]:
    """Return similarity transforms `(4, 4)` from the millimeters of one brain to those of another, best correlation first."""
    fixed, moving = thinned(fixed), thinned(moving)
    inside = fixed.as_tensor()[0] > 0
    points_mm = apply_affine(fixed.affine.numpy(), torch.nonzero(inside).numpy())
    expected = fixed.as_tensor()[0][inside]
    starts = similarities(fixed, moving)
    there = (torch.from_numpy(apply_affine(start, points_mm)).float() for start in starts)
    found = torch.stack([sample_at(moving, moving.affine, points[None, None]).flatten() for points in there])
    correlation = torch.corrcoef(torch.cat([expected[None], found]))[0, 1:]
    return [starts[number] for number in correlation.argsort(descending=True).tolist()]


def thinned(image: MetaTensor) -> MetaTensor:
    """Return an image `(1, X, Y, Z)` averaged over cubes with edges of `SEARCH_VOXEL` voxels."""
    means = F.avg_pool3d(image.as_tensor(), SEARCH_VOXEL)
    grow = torch.diag(torch.tensor([SEARCH_VOXEL] * 3 + [1.0], dtype=torch.float64))
    grow[:3, 3] = (SEARCH_VOXEL - 1) / 2
    return MetaTensor(means, affine=image.affine.double() @ grow)


def similarities(fixed: MetaTensor, moving: MetaTensor) -> list[Affine]:
    """Return the rotations of `TURNS_DEG` about the centers of mass, scaled by the volumes."""
    fixed_mm, moving_mm = center_mm(fixed), center_mm(moving)
    scale = (volume_ml(moving) / volume_ml(fixed)) ** (1 / 3)
    starts: list[Affine] = []
    for turn in product(*TURNS_DEG):
        start = np.eye(4)
        start[:3, :3] = scale * Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        start[:3, 3] = moving_mm - start[:3, :3] @ fixed_mm
        starts.append(start)
    return starts


def volume_ml(image: MetaTensor) -> float:
    """Return the volume of the bright voxels of a brain from `brain_alone`."""
    return float((image.as_tensor() > BRIGHTEST / 4).sum()) * voxel_ml(image.affine)


def grown(mask: MetaTensor, voxels: int) -> MetaTensor:
    """Return a mask `(1, X, Y, Z)` dilated by a number of voxels, as 0/1 bytes."""
    wider = ndimage.binary_dilation(mask.as_tensor()[0].numpy(), iterations=voxels)
    return MetaTensor(torch.from_numpy(wider.astype(np.uint8))[None], affine=mask.affine)


def solid(image: MetaTensor) -> MetaTensor:
    """Return a brain `(1, X, Y, Z)` with fluid set to 0, white matter to 1."""
    return MetaTensor(((image.as_tensor() - FLUID_LEVEL) / (1 - FLUID_LEVEL)).clamp(min=0), affine=image.affine)


def place_image(image: MetaTensor, to_image: Affine) -> MetaTensor:
    """Return an image with the millimeters of another, by the affine `(4, 4)` from those to its own; voxels stay the same."""
    return MetaTensor(image.as_tensor(), affine=torch.linalg.inv(torch.from_numpy(to_image)) @ image.affine)


def evened(fixed: MetaTensor, moving: MetaTensor, to_moving: Affine, ignored: MetaTensor) -> MetaTensor:
    """Return a brain corrected for its bias field, estimated from another brain that is roughly aligned.

    The field is the ratio of both brains, each smoothed by `EVENED_MM`, where both are tissue. Unlike the field of N4, it does
    not depend on the brain mask.

    Args:
        fixed: Brain `(1, X, Y, Z)` without bias field, see `brain_alone`.
        moving: Brain `(1, x, y, z)` with bias field, see `brain_alone`.
        to_moving: Affine from the millimeters of `fixed` to those of `moving`.
        ignored: Mask of `moving` that is ignored, 0/1 on its grid.
    """
    looked_at = MetaTensor(1 - ignored.as_tensor(), affine=ignored.affine)
    there, counted = (resampled(place_image(image, to_moving), fixed).as_tensor() for image in (moving, looked_at))
    tissue = (counted > 0.9) & (fixed.as_tensor() > TISSUE_LEVELS[0]) & (there > TISSUE_LEVELS[1])
    sums = [thinned(MetaTensor(image * tissue, affine=fixed.affine)) for image in (there, fixed.as_tensor())]
    width = EVENED_MM / VOXEL_MM / SEARCH_VOXEL
    here, expected = (ndimage.gaussian_filter(image.as_tensor()[0].numpy(), width) for image in sums)
    unknown = expected <= LEAST_TISSUE * expected.max()
    ratio = torch.from_numpy(spread_from(~unknown, here / np.where(unknown, 1, expected)))[None]
    coarse = MetaTensor(ratio, affine=torch.from_numpy(to_moving) @ sums[0].affine)
    field = resampled(coarse, moving, padding_mode="border").as_tensor().clamp(min=0.1)
    return MetaTensor((moving.as_tensor() / field).clamp(max=BRIGHTEST), affine=moving.affine)


def overlap(fixed: MetaTensor, moving: MetaTensor, to_moving: Affine, ignored: MetaTensor | None = None) -> float:
    """Return the correlation of two images, smoothed by 4 mm, where `fixed` is bright and `moving` is not ignored."""
    there = resampled(place_image(moving, to_moving), fixed)
    one, other = (smooth(image, COARSE.smoothing_mm).as_tensor() for image in (fixed, there))
    inside = fixed.as_tensor() > BRIGHTEST / 4
    if ignored is not None:
        inside &= resampled(place_image(ignored, to_moving), fixed).as_tensor() < 0.5
    return float(torch.corrcoef(torch.stack([one[inside], other[inside]]))[0, 1])
