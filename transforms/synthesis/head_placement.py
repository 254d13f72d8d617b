"""Loading of lesions, and placement of head and lesions in a synthetic scan: one random deformation maps both onto one grid."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from monai.transforms.utils import create_rotate, create_scale, create_shear, create_translate

from strokelesion.transforms.geometry import MNI_EXTENT_MM, MNI_FIRST_MM, bounding_box, sample_at
from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.synthesis.fields import generator_of, plain, smooth_noise

# The search for the bounding box of a lesion tests every n-th voxel.
STRIDE = 4


def canvas_affine(extent_mm: Sequence[float], spacing_mm: float) -> torch.Tensor:
    """Return the affine of a RAS grid, centered on the grid of `MNI_SPACE` along x and y, with the same top along z."""
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    surplus = np.subtract(extent_mm, MNI_EXTENT_MM)
    affine[:3, 3] = np.subtract(MNI_FIRST_MM, surplus * np.array([0.5, 0.5, 1.0])) + (spacing_mm - 1) / 2
    return torch.from_numpy(affine)


class LoadLesionsd(MapTransform):
    """Load the lesion masks of a record: read `path` of each item of `lesions` and write its `mask` `(1, x, y, z)`."""

    version = 1

    def __init__(self) -> None:
        super().__init__(("lesions",))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the loaded masks."""
        return {**data, "lesions": [{**lesion, "mask": load_volume(lesion["path"])} for lesion in data["lesions"]]}


class RandPlaceHeadd(Randomizable, MapTransform):
    """Draw a deformation and resample a head and its lesions with it, on the grid of the synthetic scan.

    1. Affine about the center: rotation, scaling per axis, shear and shift. Half of the heads are flipped left to right.
    2. Elastic: normal displacements on a grid with a spacing of `elastic_scale_mm`.
    3. Lesions get an additional elastic deformation, so that no two scans contain the same mask.

    Reads `tissues` `(1, x, y, z)`, optionally `image` on the same grid, and `lesions`, a list of items with `mask`
    `(1, x, y, z)`, `scale` (about the mask's center) and `flip`. All affines map to MNI millimeters. Writes `tissues`,
    `image` and `lesions` `(1, X, Y, Z)`. `lesions` is a map of lesion numbers: 1 for the first mask, 2 for the second...

    Args:
        spacing_mm: Voxel size of the synthetic scan.
        extent_mm: Extent of the synthetic scan along each axis.
        rotation_deg, scaling, shear, shift_mm: Largest rotation, relative scaling, shear and shift.
        elastic_mm, elastic_scale_mm: Standard deviation and grid spacing of the displacements.
        lesion_elastic_mm: Standard deviation of the additional displacements of lesions, on a grid with a spacing of 15 mm.
        device: Device of this and all later transforms.
    """

    version = 1

    def __init__(
        self,
        spacing_mm: float = 1.0,
        extent_mm: Sequence[float] = MNI_EXTENT_MM,
        rotation_deg: float = 12.0,
        scaling: float = 0.1,
        shear: float = 0.05,
        shift_mm: float = 8.0,
        elastic_mm: float = 2.5,
        elastic_scale_mm: float = 32.0,
        lesion_elastic_mm: float = 2.0,
        device: str | torch.device = "cpu",
    ) -> None:
        MapTransform.__init__(self, ("tissues", "image"), allow_missing_keys=True)
        self.spacing_mm = spacing_mm
        self.shape = tuple(round(extent / spacing_mm) for extent in extent_mm)
        self.affine = canvas_affine(extent_mm, spacing_mm)
        self.rotation_deg, self.scaling, self.shear, self.shift_mm = rotation_deg, scaling, shear, shift_mm
        self.elastic_mm, self.elastic_scale_mm, self.lesion_elastic_mm = elastic_mm, elastic_scale_mm, lesion_elastic_mm
        self.device = torch.device(device)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample on the grid of the synthetic scan."""
        sample = dict(data)
        points_mm = self.deformed_points()
        head_mm = points_mm * torch.tensor([float(self.R.choice([-1, 1])), 1.0, 1.0], device=self.device)
        for key in self.key_iterator(sample):
            mode = "nearest" if key == "tissues" else "bilinear"
            values = sample_at(sample[key], sample[key].affine, head_mm, mode)
            sample[key] = MetaTensor(values.byte() if key == "tissues" else values, affine=self.affine)
        sample["lesions"] = MetaTensor(self.lesion_map(sample.get("lesions", []), points_mm), affine=self.affine)
        return sample

    def random_affine(self) -> np.ndarray[Any, Any]:
        """Return a random affine `(4, 4)` about the center of the MNI grid, in millimeters."""
        center = np.add(MNI_FIRST_MM, np.array(MNI_EXTENT_MM) / 2)
        angles = np.deg2rad(self.R.uniform(-self.rotation_deg, self.rotation_deg, 3))
        common = self.R.uniform(-self.scaling, self.scaling)
        factors = 1 + common + self.R.uniform(-self.scaling / 2, self.scaling / 2, 3)
        parts = [
            create_translate(3, (center + self.R.uniform(-self.shift_mm, self.shift_mm, 3)).tolist()),
            create_rotate(3, angles.tolist()),
            create_shear(3, self.R.uniform(-self.shear, self.shear, 6).tolist()),
            create_scale(3, factors.tolist()),
            create_translate(3, (-center).tolist()),
        ]
        return np.asarray(np.linalg.multi_dot([np.asarray(part) for part in parts]))

    def deformed_points(self) -> torch.Tensor:
        """Return the point in MNI space `(X, Y, Z, 3)` at which each voxel is sampled."""
        matrix = (torch.from_numpy(self.random_affine()) @ self.affine).float().to(self.device)
        axes = [torch.arange(size, device=self.device).float() for size in self.shape]
        i, j, k = axes[0][:, None, None, None], axes[1][None, :, None, None], axes[2][None, None, :, None]
        points = i * matrix[:3, 0] + j * matrix[:3, 1] + k * matrix[:3, 2] + matrix[:3, 3]
        return points + self.displacement(self.elastic_mm, self.elastic_scale_mm)

    def displacement(self, strength_mm: float, scale_mm: float) -> torch.Tensor:
        """Return a smooth random displacement `(X, Y, Z, 3)`."""
        field = smooth_noise(self.shape, self.spacing_mm, scale_mm, generator_of(self.R), channels=3, device=self.device)
        return (strength_mm * field).permute(1, 2, 3, 0)

    def lesion_map(self, lesions: Sequence[Mapping[str, Any]], points_mm: torch.Tensor) -> torch.Tensor:
        """Return the map of lesion numbers `(1, X, Y, Z)`. Where two lesions overlap, the lower number is kept."""
        numbers = torch.zeros(1, *self.shape, dtype=torch.uint8, device=self.device)
        if lesions:
            points_mm = points_mm + self.displacement(self.lesion_elastic_mm, 15.0)
        for number, lesion in enumerate(lesions, start=1):
            mask, affine = scaled(lesion)
            box = box_around(mask, affine, points_mm)
            if box is None:
                continue
            inside = sample_at(mask, affine, points_mm[box]) >= 0.5
            part = numbers[(slice(None), *box)]
            part[inside & (part == 0)] = number
        return numbers


def scaled(lesion: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a lesion's mask `(1, x, y, z)`, cropped to its bounding box, and its affine with scaling and flip."""
    values = plain(lesion["mask"])
    mask = (values > 0.5 * values.max()).float()  # files may hold 0 and 255, with rounding noise
    affine = plain(lesion["mask"].affine).double()
    box = bounding_box(mask[0], margin=2)
    center = affine[:3, :3] @ mask[0].nonzero().double().mean(0) + affine[:3, 3]
    moved = affine.clone()
    moved[:3, 3] += affine[:3, :3] @ torch.tensor([side.start for side in box]).double()
    change = torch.eye(4, dtype=torch.float64)
    change[:3, :3] *= lesion["scale"]
    change[:3, 3] = center * (1 - lesion["scale"])
    mirror = torch.diag(torch.tensor([-1.0 if lesion["flip"] else 1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    return mask[:, *box], mirror @ change @ moved


def box_around(mask: torch.Tensor, affine: torch.Tensor, points_mm: torch.Tensor) -> tuple[slice, ...] | None:
    """Return the box of voxels whose points lie inside the volume of a mask, or None if there are none."""
    corners = torch.cartesian_prod(*(torch.tensor([0.0, size - 1.0]) for size in mask.shape[1:])).double()
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    low, high = ((edge + rim).float().to(points_mm.device) for edge, rim in ((world.amin(0), -STRIDE), (world.amax(0), STRIDE)))
    coarse = points_mm[::STRIDE, ::STRIDE, ::STRIDE]
    where = ((coarse >= low) & (coarse <= high)).all(-1).nonzero()
    if not len(where):
        return None
    spans = zip((where.amin(0) * STRIDE).tolist(), (where.amax(0) * STRIDE).tolist(), strict=True)
    return tuple(slice(max(0, first - STRIDE), last + STRIDE + 1) for first, last in spans)
