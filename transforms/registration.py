"""Affine registration of a brain to MNI space: from many starts, by mutual information, and checked.

Two images of a brain and nothing else come onto each other far more surely than whole heads do. Where even that fails, the
result is refused: measures in the wrong place are worse than none.
"""

from collections.abc import Iterator
from functools import cache
from itertools import chain, product
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import BorderPad, Compose, CropForegroundd, GaussianSmooth, Orientationd, Spacing
from nibabel.affines import apply_affine, voxel_sizes
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from strokelesion.networks import UserError
from strokelesion.transforms.alignment import Affine, Level, align, center_mm, mutual_information
from strokelesion.transforms.grids import resampled
from strokelesion.transforms.intensity import brain_scale

# Counts up when another result may come out, so that what was remembered by an older method is found anew.
METHOD = 3
VOXEL_MM = 2.0
# Around the brain: a template's voxel must find that there is nothing, not that the image has ended.
BORDER_VOXELS = 20
BRIGHTEST = 1.3  # of white matter: vessels and rests of fat say nothing about where the brain is
# The search: turns of the head about its three axes (nod, tilt, turn), looked at in voxels of 8 mm.
TURNS_DEG = ((-45, -30, -15, 0, 15, 30, 45), (-30, -15, 0, 15, 30), (-45, -30, -15, 0, 15, 30, 45))
SEARCH_VOXEL = 4
TRIED_STARTS = 3
COARSE, FINE = Level(2, 4.0), Level(1, 3.0)
# The last steps do not see where the brain was cut out: fluid is made nothing, as what is outside, and one looks no further
# than the template. Masks of one head differ there, by its turn, by what was stripped and by what a lesion did to them; with
# a rim of 4 mm around the template, infarcts at the surface pulled twice as far.
FLUID_LEVEL = 0.6
MASK_RIM_VOXELS = 1
LAST_STEPS = 2
# Until the last steps, dark lesions count as gray matter: the brain keeps its center and its volume.
GRAY_LEVEL = 0.7
# How far the darkness of a lesion reaches in a smoothed image.
LESION_RIM_VOXELS = 2
# A head is made as bright as the template in places of this size, where so much of both is tissue.
EVENED_MM = 20.0
TISSUE_LEVELS = (0.4, 0.25)  # of template and head, which may lie in a shadow
LEAST_TISSUE = 0.02
# A brain of 0.6 liters grows by 3.2 to fill the template, which is larger than life.
VOLUME_RATIOS = (0.5, 3.2)
CORRELATION_AT_LEAST = 0.7


class Registration(NamedTuple):
    """How a scan lies in MNI space.

    Attributes:
        to_mni: affine `(4, 4)` that takes the scan's millimeters (RAS) to those of MNI152.
        correlation: of the evened scan and the template, smoothed by 4 mm, inside the template.
    """

    to_mni: Affine
    correlation: float


def register_brain(
    image: MetaTensor, brain: torch.Tensor, lesions: torch.Tensor | None = None, start: Affine | None = None
) -> Registration:
    """Return how a scan lies in MNI space.

    1. Show brain and template alone, white matter 1, at 2 mm.
    2. Look for the head's pose (`poses`); begin with the likeliest.
    3. From there, twice: make the head as bright as the template (`evened`), leave out fluid (`solid`), and maximize the
       mutual information over 12 parameters near the template at 2 mm.
    4. Check the volume ratio and, of the evened head, the correlation. What fails is tried again from the next pose.

    Args:
        image: a T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity.
        brain: where its brain is `(1, X, Y, Z)`, lesions included.
        lesions: what is not to be looked at, likewise, so that it does not pull; None looks at everything.
        start: `to_mni` of an earlier registration, from which to try first.

    Raises:
        UserError: when no result passes, or the brain is empty.

    Source: Mattes et al., IEEE Trans Med Imaging 22 (2003), as in ITK; the template is ICBM152 2009a, symmetric (Fonov et
        al., NeuroImage 54, 2011), of nilearn.
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


def poses(fixed: MetaTensor, head: MetaTensor, ignored: MetaTensor) -> Iterator[Affine]:
    """Yield affines `(4, 4)` from the template's millimeters to a head's, the likeliest first, right to a few millimeters.

    1. Fill what is to be ignored and dark with gray matter, lay the centers of mass over each other, scale by the volumes,
       and try 245 turns of the head at 8 mm.
    2. From the best three, one after the other, maximize the mutual information over 12 parameters at 4 mm.
    """
    is_dark_lesion = (ignored.as_tensor() > 0) & (head.as_tensor() < GRAY_LEVEL)
    filled = MetaTensor(torch.where(is_dark_lesion, GRAY_LEVEL, head.as_tensor()), affine=head.affine)
    for start in best_starts(fixed, filled)[:TRIED_STARTS]:
        yield align(fixed, filled, start, [COARSE], mutual_information)


def registered(fixed: MetaTensor, head: MetaTensor, to_head: Affine, ignored: MetaTensor) -> Registration:
    """Return the registration that begins with an affine right to a few millimeters, made exact and checked."""
    for _ in range(LAST_STEPS):
        even = evened(fixed, head, to_head, ignored)
        to_head = align(solid(fixed), solid(even), to_head, [FINE], mutual_information, ignored, inside_template())
    return checked(fixed, evened(fixed, head, to_head, ignored), to_head, CORRELATION_AT_LEAST, ignored)


def checked(
    fixed: MetaTensor, head: MetaTensor, to_head: Affine, least_correlation: float, ignored: MetaTensor | None = None
) -> Registration:
    """Return a registration from the affine that takes the template's millimeters to the head's.

    Args:
        fixed: the template.
        head: what was registered.
        to_head: the result.
        least_correlation: what a good one reaches.
        ignored: what does not count in the head, 0/1 on its grid.

    Raises:
        UserError: when it cannot be right by the volume ratio or the correlation.
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
    """Return the brain of MNI152 as `brain_alone` shows brains."""
    t1, mask = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    image = MetaTensor(torch.from_numpy(np.asarray(t1.dataobj, dtype=np.float32))[None], affine=torch.from_numpy(t1.affine))
    return brain_alone(image, torch.from_numpy(np.asarray(mask.dataobj) > 0)[None])


@cache
def inside_template() -> MetaTensor:
    """Return where the template's brain is, 0/1 bytes."""
    return MetaTensor((template().as_tensor() > 0).byte(), affine=template().affine)


def brain_alone(image: MetaTensor, brain: torch.Tensor) -> MetaTensor:
    """Return a brain in RAS at 2 mm, white matter 1 and all else 0, with a border of nothing.

    The mask grows by a voxel first: where it cuts off cortex, more is lost than is won where it leaves out the meninges.
    """
    mask = brain.as_subclass(torch.Tensor)
    air, white = brain_scale(image, mask)
    levels = ((image.as_tensor().float() - air) / (white - air)).clamp(0, BRIGHTEST)
    keys = ("levels", "mask")
    upright = Compose(
        [
            Orientationd(keys, axcodes="RAS", labels=None),
            CropForegroundd(keys, source_key="mask", margin=4, allow_smaller=True),
        ]
    )
    both = upright({"levels": MetaTensor(levels, affine=image.affine), "mask": MetaTensor(mask.float(), affine=image.affine)})
    head, cut = (at_two_mm(both[key]) for key in keys)
    inside = grown(MetaTensor(cut.as_tensor() > 0.5, affine=cut.affine), MASK_RIM_VOXELS)
    alone = MetaTensor(head.as_tensor() * inside.as_tensor(), affine=head.affine)
    return cast(MetaTensor, BorderPad(BORDER_VOXELS)(alone))


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


def volume_mm3(image: MetaTensor) -> float:
    """Return the volume of what is not dark in a brain alone."""
    return float((image.as_tensor() > BRIGHTEST / 4).sum()) * float(image.pixdim.prod())


def values_at(image: MetaTensor, points_mm: NDArray[np.floating]) -> torch.Tensor:
    """Return an image `(1, X, Y, Z)` at `(N, 3)` points, trilinearly, 0 beyond its edge: `(N,)`."""
    voxels = torch.from_numpy(apply_affine(np.linalg.inv(image.affine.numpy()), points_mm)).float()
    where = (2 * voxels / (torch.tensor(image.shape[1:]) - 1) - 1).flip(-1)
    return F.grid_sample(image.as_tensor()[None], where[None, None, None], align_corners=True).flatten()


def grown(mask: MetaTensor, voxels: int) -> MetaTensor:
    """Return a mask `(1, X, Y, Z)` with all voxels that are up to so many steps away, 0/1 bytes."""
    wider = ndimage.binary_dilation(mask.as_tensor()[0].numpy(), iterations=voxels)
    return MetaTensor(torch.from_numpy(wider.astype(np.uint8))[None], affine=mask.affine)


def solid(image: MetaTensor) -> MetaTensor:
    """Return by how much a brain alone `(1, X, Y, Z)` is brighter than fluid, white matter 1."""
    return MetaTensor(((image.as_tensor() - FLUID_LEVEL) / (1 - FLUID_LEVEL)).clamp(min=0), affine=image.affine)


def placed(image: MetaTensor, to_image: Affine) -> MetaTensor:
    """Return an image as it is, but with the millimeters of another, from which an affine `(4, 4)` takes to its own."""
    return MetaTensor(image.as_tensor(), affine=torch.linalg.inv(torch.from_numpy(to_image)) @ image.affine)


def evened(fixed: MetaTensor, moving: MetaTensor, to_moving: Affine, ignored: MetaTensor) -> MetaTensor:
    """Return a brain without its bias field, as far as it can be seen against another that lies nearly in place.

    The field is the ratio of both, each smoothed by `EVENED_MM`, where both are tissue. Unlike N4 it does not depend on how
    the brain was cut out.

    Args:
        fixed: brain alone `(1, X, Y, Z)` that is even.
        moving: brain alone `(1, x, y, z)` with a field.
        to_moving: affine from the millimeters of the first to those of the second.
        ignored: what does not count in the second, 0/1 on its grid.
    """
    looked_at = MetaTensor(1 - ignored.as_tensor(), affine=ignored.affine)
    there, counted = (resampled(placed(image, to_moving), fixed).as_tensor() for image in (moving, looked_at))
    tissue = (counted > 0.9) & (fixed.as_tensor() > TISSUE_LEVELS[0]) & (there > TISSUE_LEVELS[1])
    sums = [thinned(MetaTensor(image * tissue, affine=fixed.affine)) for image in (there, fixed.as_tensor())]
    width = EVENED_MM / VOXEL_MM / SEARCH_VOXEL
    here, expected = (ndimage.gaussian_filter(image.as_tensor()[0].numpy(), width) for image in sums)
    unknown = expected <= LEAST_TISSUE * expected.max()
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    ratio = torch.from_numpy((here / np.where(unknown, 1, expected))[tuple(nearest)])[None]
    coarse = MetaTensor(ratio, affine=torch.from_numpy(to_moving) @ sums[0].affine)
    field = resampled(coarse, moving, padding_mode="border").as_tensor().clamp(min=0.1)
    return MetaTensor((moving.as_tensor() / field).clamp(max=BRIGHTEST), affine=moving.affine)


def overlap(fixed: MetaTensor, moving: MetaTensor, to_moving: Affine, ignored: MetaTensor | None = None) -> float:
    """Return the correlation of two images, smoothed by 4 mm, where the fixed one is not dark and the other not ignored."""
    there = resampled(placed(moving, to_moving), fixed)
    one, other = (smoothed(image) for image in (fixed, there))
    inside = fixed.as_tensor() > BRIGHTEST / 4
    if ignored is not None:
        inside &= resampled(placed(ignored, to_moving), fixed).as_tensor() < 0.5
    return float(torch.corrcoef(torch.stack([one[inside], other[inside]]))[0, 1])


def smoothed(image: MetaTensor) -> torch.Tensor:
    """Return an image `(1, X, Y, Z)` at 2 mm smoothed by 4 mm; SciPy takes a quarter of MONAI's time."""
    width = COARSE.smoothing_mm / VOXEL_MM
    return torch.from_numpy(ndimage.gaussian_filter(image.as_tensor()[0].numpy(), width, mode="constant"))[None]
