"""Reading of masks that a person drew in any program, as labels on the grid of the scan.

Programs store one drawing in many ways: 0/1, 0/255 or floats; labels 1, 2, …; the axes of the scan in another order; the drawn
part of the grid alone (3D Slicer); or a grid of their own. A mask of another scan is refused when its grid lies elsewhere.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.config import PathLike
from monai.data import MetaTensor
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray

from strokelesion.transforms.components import components
from strokelesion.transforms.decision import likely_classes
from strokelesion.transforms.geometry import is_oriented, match_grid, resampled
from strokelesion.transforms.masks import MAIN, SUB, binarize_mask
from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.sample_error import SampleError, source_of

# Lesion whose class the drawing does not say.
UNKNOWN = 3
# A file with more whole numbers is no map of segments.
MOST_SEGMENTS = 64
# Labels that were stored with a scale differ from whole numbers by less.
ROUNDING = 1e-3
# The smaller of the grids of mask and scan lies in the other one, up to this share of its points.
LEAST_SHARED = 0.9
# Least share of the lesion voxels inside the scan.
LEAST_INSIDE = 0.99
POINTS = 12
OF_OTHER_SCAN = "Check that the mask is of this scan. If it is, resample it to the grid of the scan with nearest neighbors."


def read_drawn(path: PathLike, image: MetaTensor) -> MetaTensor:
    """Return a drawn mask as labels `(1, X, Y, Z)` on the grid of its scan: 1 main, 2 sub, 3 lesion of unknown class.

    Args:
        path: File in any format that scans may have.
        image: Scan `(1, X, Y, Z)` with its affine.

    Raises:
        SampleError: The file cannot be read, has values of no mask, or lies elsewhere than the scan.
    """
    return move_to_grid(image, as_labels(load_volume(path)))


def as_labels(drawn: MetaTensor) -> MetaTensor:
    """Return a drawing `(1, X, Y, Z)` as labels, see `read_drawn`.

    1. Two values are background and lesion, see `binarize_mask`. The values 1 and 2 are main and sub-lesion; 1 alone is main
       only in a `_dseg` file. Several other whole numbers are segments, all of them lesion.
    2. Segments of 3D Slicer whose names contain `sub` or `main` have these classes.
    """
    values = drawn.as_tensor()
    found = torch.unique(values[values != 0])
    try:
        mask = binarize_mask(drawn, allow_empty=True).as_subclass(torch.Tensor)
    except SampleError:
        if not are_segments(found):
            raise
        mask = (values > 0).to(torch.uint8)
    whole = {round(float(value)) for value in found} if are_segments(found) else set()
    says_class = SUB in whole or "_dseg." in source_of(drawn)
    classes = {value: value for value in whole} if says_class and whole <= {MAIN, SUB} else {}
    labels = mask * UNKNOWN
    for value, of_value in {**classes, **classes_by_name(drawn.meta)}.items():
        labels[(values - value).abs() < ROUNDING] = of_value
    return MetaTensor(labels, meta=drawn.meta)


def are_segments(found: torch.Tensor) -> bool:
    """Return whether the values of a mask other than 0 `(N,)` are a few whole positive numbers."""
    is_whole = (found - found.round()).abs() < ROUNDING
    return 0 < len(found) <= MOST_SEGMENTS and bool((is_whole & (found > 0)).all())


def classes_by_name(meta: Mapping[Any, Any]) -> dict[int, int]:
    """Return the class of each segment of 3D Slicer, by its value, whose name contains `sub` or `main`."""
    names = {key.removesuffix("_Name"): str(text).lower() for key, text in meta.items() if str(key).endswith("_Name")}
    values = {segment: int(meta[f"{segment}_LabelValue"]) for segment in names if f"{segment}_LabelValue" in meta}
    known = {value: SUB if "sub" in names[one] else MAIN if "main" in names[one] else 0 for one, value in values.items()}
    return {value: of_value for value, of_value in known.items() if of_value}


def move_to_grid(image: MetaTensor, labels: MetaTensor) -> MetaTensor:
    """Return labels `(1, X, Y, Z)` on the grid of an image: voxels are moved if the grid is the same, else the nearest count.

    Raises:
        SampleError: The labels lie elsewhere.
    """
    try:
        return match_grid(image, labels)
    except SampleError:
        if not (is_oriented(image) and is_oriented(labels)):
            raise
    if why := find_displacement(image, labels):
        raise SampleError(source_of(labels), f"{why} {source_of(image)}; expected a mask drawn on it", OF_OTHER_SCAN)
    return MetaTensor(resampled(labels, image, mode="nearest").as_tensor().to(torch.uint8), affine=image.affine)


def find_displacement(image: MetaTensor, labels: MetaTensor) -> str:
    """Return in words how the grid of labels `(1, x, y, z)` contradicts that of an image; "" if it does not."""
    shapes, affines = zip(*((grid.shape[1:], grid.affine.numpy()) for grid in (image, labels)), strict=True)
    edges_mm = [np.sort(voxel_sizes(affine)) for affine in affines]
    if sorted(shapes[0]) == sorted(shapes[1]) and np.allclose(edges_mm[0], edges_mm[1], rtol=1e-2):
        corners = [points_of(shape, affine, 2) for shape, affine in zip(shapes, affines, strict=True)]
        apart_mm = np.linalg.norm(corners[0][:, None] - corners[1], axis=2).min(axis=1).max()
        return f"has the size of another grid {apart_mm:.1f} mm from that of" if apart_mm > edges_mm[0][0] / 2 else ""
    shares = [share_inside(points_of(shapes[one], affines[one], POINTS), shapes[1 - one], affines[1 - one]) for one in (0, 1)]
    if max(shares) < LEAST_SHARED:
        return f"covers only {max(shares):.0%} of the field of view of"
    lesion = apply_affine(affines[1], np.argwhere(labels.as_tensor()[0].numpy() > 0))
    inside = share_inside(lesion, shapes[0], affines[0]) if len(lesion) else 1.0
    return f"has only {inside:.0%} of its lesion inside" if inside < LEAST_INSIDE else ""


def points_of(shape: torch.Size, affine: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return evenly spaced points `(count^3, 3)` of a grid in mm, its corners among them."""
    points: NDArray[np.float64] = apply_affine(affine, [*itertools.product(*(np.linspace(0, n - 1, count) for n in shape))])
    return points


def share_inside(points_mm: NDArray[np.float64], shape: torch.Size, affine: NDArray[Any]) -> float:
    """Return the share of points `(N, 3)` that lie in voxels of a grid."""
    voxels = np.rint(apply_affine(np.linalg.inv(affine), points_mm))
    return float(((voxels >= 0) & (voxels < np.array(shape))).all(axis=1).mean())


def complete_classes(labels: torch.Tensor, automatic: torch.Tensor) -> torch.Tensor:
    """Return labels `(1, X, Y, Z)` without `UNKNOWN`: such voxels get the class that most of their lesion has, or else main.

    A lesion is a 26-connected component. A voxel whose class is unknown counts with that of the automatic map.

    Args:
        labels: Labels as `read_drawn` returns them.
        automatic: Automatic map of the classes on the same grid.
    """
    drawn, known = (volume.as_subclass(torch.Tensor)[0].numpy() for volume in (labels, automatic))
    hints, mask = np.where(drawn == UNKNOWN, known, drawn), drawn > 0
    numbers, sizes = components(mask)
    votes = torch.from_numpy(np.stack([hints[mask] == one for one in (MAIN, SUB)]))
    of_lesions = likely_classes(votes, numbers[mask], len(sizes))[numbers]
    return torch.from_numpy(np.where(drawn == UNKNOWN, of_lesions, drawn).astype(np.uint8))[None]


def as_shares(labels: torch.Tensor, affine: torch.Tensor) -> MetaTensor:
    """Return labels `(1, X, Y, Z)` as shares of background, main and sub `(3, X, Y, Z)`, to be resampled."""
    return MetaTensor(torch.cat([labels == one for one in (0, MAIN, SUB)]).float(), affine=affine)


def as_most(shares: MetaTensor) -> torch.Tensor:
    """Return resampled shares `(3, X, Y, Z)` as labels `(1, X, Y, Z)`: lesion where it takes at least one half."""
    lesions = shares.as_subclass(torch.Tensor)[1:]
    classes = 1 + lesions.argmax(dim=0, keepdim=True).to(torch.uint8)
    return classes * (lesions.sum(dim=0, keepdim=True) >= 0.5).to(torch.uint8)
