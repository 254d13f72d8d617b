"""Fill lesions with mirrored tissue, for programs that measure surfaces and volumes and expect a brain without lesions.

Source: Nachev et al., "Enantiomorphic normalization of focally lesioned brains", NeuroImage 39 (2008),
doi:10.1016/j.neuroimage.2007.10.002.
"""

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from nilearn.datasets import load_mni152_brain_mask
from numpy.typing import NDArray
from scipy import ndimage

from strokelesion.networks import UserError
from strokelesion.transforms.alignment import Affine, Level, align, mutual_information
from strokelesion.transforms.geometry import distances_mm, resampled, spread_from
from strokelesion.transforms.registration import LESION_RIM_VOXELS, at_two_mm, grown

# Levels of the registration of the scan and its mirror image.
LEVELS = (Level(2, 4.0), Level(1, 1.0), Level(1, 1.0))
# Outside the lesion, the filling fades out over this distance: masks often end inside the partial volume of the lesion.
BORDER_MM = 3.0
# Standard deviation of the Gaussian over which mirrored tissue gets the brightness of its surroundings.
EVENED_MM = 20.0
# Weight of the whole brain in that brightness, where 1 is a place in healthy tissue: it counts deep in large lesions.
GLOBAL_WEIGHT = 0.02
# Largest share of a lesion whose mirrored place is lesion too, or outside the scan.
LARGEST_BILATERAL = 0.1


def fill_lesions(image: MetaTensor, lesions: torch.Tensor, to_mni: Affine | None) -> MetaTensor:
    """Return a T1 with the lesions replaced by mirrored tissue; voxels further than `BORDER_MM` from a lesion are unchanged.

    1. Mirror the scan at the middle plane of MNI space, and register it to the scan without the lesions (`find_mirror`).
    2. Multiply it by the local ratio of brightness of the scan and the mirrored scan in healthy tissue (`brightness_ratio`).
    3. Blend: the weight is 1 in the lesion and falls linearly to 0 at `BORDER_MM`.

    A few voxels whose mirrored place is lesion too get the nearest mirrored voxel that is not.

    Args:
        image: T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity; air is about 0.
        lesions: Mask of all lesions `(1, X, Y, Z)`.
        to_mni: Affine from the scan's millimeters to those of MNI space; None if there is no registration.

    Raises:
        UserError: If there is no registration, or if more than `LARGEST_BILATERAL` of the lesions cannot be mirrored.
    """
    if to_mni is None:
        raise UserError("the lesions cannot be filled without the middle plane of the brain; expected a registration to MNI.")
    lesion = lesions.as_subclass(torch.Tensor)[0] > 0
    if not lesion.any():
        return MetaTensor(image.as_tensor().clone(), affine=image.affine)
    spacing_mm = voxel_sizes(image.affine.numpy())
    distance_mm = distances_mm(lesion, spacing_mm.tolist())
    is_healthy = MetaTensor((distance_mm > BORDER_MM)[None].float(), affine=image.affine)
    brain = brain_of_template(image, to_mni)
    mirror = find_mirror(image, lesion[None], brain, to_mni)
    there, healthy_there, free_there = resample_mirrored(image, is_healthy, lesion, mirror)
    require_other_side(lesion, free_there)
    tissue = (brain[0] * is_healthy.as_tensor()[0] * healthy_there).numpy()
    ratio = brightness_ratio(image.as_tensor()[0].numpy(), there.numpy(), tissue, spacing_mm)
    filling = torch.from_numpy(spread_from(free_there.numpy(), there.numpy() * ratio))
    weight = (1 - distance_mm / BORDER_MM).clamp(min=0).float()
    # A voxel with weight 0 keeps its bits, also where the filling is not finite.
    values = image.as_tensor()[0]
    filled = torch.where(weight > 0, values + weight * (filling - values), values)
    return MetaTensor(filled[None], affine=image.affine)


def brain_of_template(image: MetaTensor, to_mni: Affine) -> torch.Tensor:
    """Return the brain mask of the MNI template on the grid of a scan, `(1, X, Y, Z)`, 0 or 1."""
    mask: Any = load_mni152_brain_mask(resolution=1)
    affine = torch.from_numpy(np.linalg.inv(to_mni) @ mask.affine)
    placed = MetaTensor(torch.from_numpy(np.asarray(mask.dataobj, dtype=np.float32))[None], affine=affine)
    return (resampled(placed, image).as_tensor() > 0.5).float()


def find_mirror(image: MetaTensor, lesion: torch.Tensor, brain: torch.Tensor, to_mni: Affine) -> Affine:
    """Return the affine `(4, 4)` in the scan's millimeters from each place to its mirrored place.

    It starts with x to -x of MNI space. The mutual information of the scan and its mirror image in the brain is then maximized
    over 12 parameters at 2 mm, without the lesion and its mirror image. Both sides are made equally bright before each level.
    """
    small = at_two_mm(MetaTensor(image.as_tensor().float(), affine=image.affine))
    masks = MetaTensor(torch.cat([lesion.float(), brain]), affine=image.affine)
    unseen, inside = resampled(masks, small).as_tensor()[:, None]
    ignored = grown(MetaTensor((unseen > 0.1).byte(), affine=small.affine), LESION_RIM_VOXELS)
    looked_at = MetaTensor(((inside > 0.5) & (ignored.as_tensor() == 0)).byte(), affine=small.affine)
    mirror: Affine = np.linalg.inv(to_mni) @ np.diag([-1.0, 1.0, 1.0, 1.0]) @ to_mni
    for level in LEVELS:
        even = made_even(small, looked_at, mirror)
        mirror = align(even, even, mirror, [level], mutual_information, ignored, looked_at)
    return mirror


def made_even(image: MetaTensor, tissue: MetaTensor, mirror: Affine) -> MetaTensor:
    """Return a scan `(1, X, Y, Z)` whose two sides are equally bright in a mask of tissue, 0 or 1; see `brightness_ratio`."""
    both = MetaTensor(torch.cat([image.as_tensor(), tissue.as_tensor().float()]), affine=image.affine)
    placed = MetaTensor(both.as_tensor(), affine=torch.from_numpy(np.linalg.inv(mirror)) @ image.affine)
    (here, mine), (there, its) = (one.numpy() for one in (both.as_tensor(), resampled(placed, image).as_tensor()))
    ratio = brightness_ratio(here, there, mine * (its > 0.99), voxel_sizes(image.affine.numpy()))
    # Each side takes half of the difference.
    return MetaTensor(image.as_tensor() / torch.from_numpy(ratio).clamp(0.1, 10)[None].sqrt(), affine=image.affine)


def resample_mirrored(
    image: MetaTensor, is_healthy: MetaTensor, lesion: torch.Tensor, mirror: Affine
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mirrored scan, and where it is healthy and where it is no lesion, each `(X, Y, Z)`."""
    both = torch.cat([image.as_tensor().float(), is_healthy.as_tensor(), (~lesion)[None].float()])
    placed = MetaTensor(both, affine=torch.from_numpy(np.linalg.inv(mirror)) @ image.affine)
    there, healthy, free = resampled(placed, image).as_tensor()
    return there, (healthy > 0.99).float(), free > 0.99


def require_other_side(lesion: torch.Tensor, free_there: torch.Tensor) -> None:
    """Raise UserError if too much of a lesion `(X, Y, Z)` has lesion, or nothing, at its mirrored place."""
    share = 1 - float(free_there[lesion].float().mean())
    if share > LARGEST_BILATERAL:
        raise UserError(
            f"the lesions cannot be filled from the other side: {share:.0%} of them have lesion, or the edge of the scan, at "
            f"the mirrored place; allowed are {LARGEST_BILATERAL:.0%}. Give the next program the mask instead."
        )


def brightness_ratio(
    values: NDArray[Any], there: NDArray[Any], tissue: NDArray[Any], spacing_mm: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return by how much a scan is brighter than its mirror image around each voxel, in healthy tissue, `(X, Y, Z)`.

    Formula: (G(v t) + w m(v)) / (G(u t) + w m(u)), with v and u the scan and its mirror image, t the healthy tissue (0 or 1), G
    a Gaussian of `EVENED_MM`, w `GLOBAL_WEIGHT`, and m the mean over the tissue.
    """
    count = max(tissue.sum(), 1)
    here, other = (
        ndimage.gaussian_filter(one * tissue, EVENED_MM / spacing_mm, mode="constant", truncate=3.0)
        + GLOBAL_WEIGHT * (one * tissue).sum() / count
        for one in (values, there)
    )
    ratio: NDArray[np.floating] = here / np.where(other > 0, other, 1)
    return ratio
