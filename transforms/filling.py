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
from scipy import ndimage

from strokelesion.networks import UserError
from strokelesion.transforms.alignment import Affine, Level, align
from strokelesion.transforms.geometry import distances_mm, resampled, spread_from
from strokelesion.transforms.registration import LESION_RIM_VOXELS, at_two_mm, grown

# Levels of the registration of the scan and its mirror image.
LEVELS = (Level(4, 4.0), Level(2, 1.0), Level(2, 1.0))
# Outside the lesion, the filling fades out over this distance: masks often end inside the partial volume of the lesion.
BORDER_MM = 3.0
# Standard deviation of the Gaussian over which mirrored tissue gets the brightness of its surroundings.
EVENED_MM = 20.0
# Weight of the whole brain in that brightness, where 1 is a place in healthy tissue: it counts deep in large lesions.
GLOBAL_WEIGHT = 0.02
# Largest share of a lesion whose mirrored place is lesion too, or outside the scan.
LARGEST_BILATERAL = 0.25


def fill_lesions(image: MetaTensor, lesions: torch.Tensor, to_mni: Affine | None) -> MetaTensor:
    """Return a T1 with the lesions replaced by mirrored tissue; voxels further than `BORDER_MM` from a lesion are unchanged.

    1. Mirror the scan at the middle plane of MNI space, and register it to the scan without the lesions (`find_mirror`).
    2. Multiply it by the local ratio of brightness of the scan and the mirrored scan in healthy tissue (`brightness_ratio`).
    3. Blend: the weight is 1 in the lesion and falls linearly to 0 at `BORDER_MM`.

    Voxels whose mirrored place is lesion too get the nearest mirrored voxel that is not.

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
    small, ignored, tissue = at_search_grid(image, lesion[None], to_mni)
    mirror = find_mirror(small, ignored, tissue, to_mni)
    there, is_free = mirrored(MetaTensor(torch.cat([image.as_tensor().float(), (~lesion)[None]]), affine=image.affine), mirror)
    require_other_side(lesion, is_free > 0.99)
    ratio = resampled(brightness_ratio(small, tissue, mirror), image, padding_mode="border").as_tensor()[0]
    filling = torch.from_numpy(spread_from((is_free > 0.99).numpy(), (there * ratio).numpy()))
    weight = (1 - distances_mm(lesion, voxel_sizes(image.affine.numpy()).tolist()) / BORDER_MM).clamp(min=0).float()
    # A voxel with weight 0 keeps its bits.
    values = image.as_tensor()[0]
    filled = torch.where(weight > 0, values + weight * (filling - values), values)
    return MetaTensor(filled[None], affine=image.affine)


def at_search_grid(image: MetaTensor, lesion: torch.Tensor, to_mni: Affine) -> tuple[MetaTensor, MetaTensor, MetaTensor]:
    """Return a scan at 2 mm with its lesion and a rim around it, and the rest of its brain, as masks of 0/1 bytes."""
    small = at_two_mm(MetaTensor(image.as_tensor().float(), affine=image.affine))
    unseen = resampled(MetaTensor(lesion.float(), affine=image.affine), small).as_tensor()
    ignored = grown(MetaTensor((unseen > 0.1).byte(), affine=small.affine), LESION_RIM_VOXELS)
    is_tissue = (brain_of_template(small, to_mni) > 0) & (ignored.as_tensor() == 0)
    return small, ignored, MetaTensor(is_tissue.byte(), affine=small.affine)


def brain_of_template(image: MetaTensor, to_mni: Affine) -> torch.Tensor:
    """Return the brain mask of the MNI template on the grid of a scan, `(1, X, Y, Z)`, 0 or 1."""
    mask: Any = load_mni152_brain_mask(resolution=1)
    affine = torch.from_numpy(np.linalg.inv(to_mni) @ mask.affine)
    placed = MetaTensor(torch.from_numpy(np.asarray(mask.dataobj, dtype=np.float32))[None], affine=affine)
    return (resampled(placed, image).as_tensor() > 0.5).float()


def find_mirror(image: MetaTensor, ignored: MetaTensor, tissue: MetaTensor, to_mni: Affine) -> Affine:
    """Return the affine `(4, 4)` in the scan's millimeters from each place to its mirrored place.

    It starts with x to -x of MNI space. The mutual information of the scan and its mirror image in healthy tissue is then
    maximized over 12 parameters. Both sides are made equally bright before each level.

    Args:
        image: Scan `(1, X, Y, Z)` at 2 mm.
        ignored: Mask of the lesion, which is ignored on both sides.
        tissue: Mask of the brain without it.
        to_mni: Affine from the scan's millimeters to those of MNI space.
    """
    mirror: Affine = np.linalg.inv(to_mni) @ np.diag([-1.0, 1.0, 1.0, 1.0]) @ to_mni
    for level in LEVELS:
        # Each side takes half of the difference.
        half = brightness_ratio(image, tissue, mirror).as_tensor().clamp(0.1, 10).sqrt()
        even = MetaTensor(image.as_tensor() / half, affine=image.affine)
        mirror = align(even, even, mirror, level, ignored, tissue)
    return mirror


def mirrored(image: MetaTensor, mirror: Affine) -> torch.Tensor:
    """Return the values of an image `(C, X, Y, Z)` at the mirrored place of each voxel; 0 outside the image."""
    placed = MetaTensor(image.as_tensor(), affine=torch.from_numpy(np.linalg.inv(mirror)) @ image.affine)
    return resampled(placed, image).as_tensor()


def require_other_side(lesion: torch.Tensor, free_there: torch.Tensor) -> None:
    """Raise UserError if too much of a lesion `(X, Y, Z)` has lesion, or nothing, at its mirrored place."""
    share = 1 - float(free_there[lesion].float().mean())
    if share > LARGEST_BILATERAL:
        raise UserError(
            f"the lesions cannot be filled from the other side: {share:.0%} of them have lesion, or the edge of the scan, at "
            f"the mirrored place; allowed are {LARGEST_BILATERAL:.0%}. Give the next program the mask instead."
        )


def brightness_ratio(image: MetaTensor, tissue: MetaTensor, mirror: Affine) -> MetaTensor:
    """Return by how much a scan is brighter than its mirror image around each voxel, in healthy tissue, `(1, X, Y, Z)`.

    Formula: (G(v t) + w m(v)) / (G(u t) + w m(u)), with v and u the scan and its mirror image, t where both are healthy tissue
    (0 or 1), G a Gaussian of `EVENED_MM`, w `GLOBAL_WEIGHT`, and m the mean over the tissue.
    """
    both = torch.cat([image.as_tensor(), tissue.as_tensor().float()])
    there, its = mirrored(MetaTensor(both, affine=image.affine), mirror)
    healthy = (both[1] * (its > 0.99)).numpy()
    width = EVENED_MM / voxel_sizes(image.affine.numpy())
    here, other = (
        ndimage.gaussian_filter(one * healthy, width, mode="constant", truncate=3.0)
        + GLOBAL_WEIGHT * (one * healthy).sum() / max(healthy.sum(), 1)
        for one in (both[0].numpy(), there.numpy())
    )
    return MetaTensor(torch.from_numpy(here / np.where(other > 0, other, 1))[None], affine=image.affine)
