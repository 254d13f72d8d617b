"""Affine registration of two images: optimization of 12 parameters for their mutual information, from coarse to fine."""

from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize

from strokelesion.transforms.geometry import sample_at

HISTOGRAM_BINS = 32
# Each parameter moves the voxels of a brain by about this much per unit, so that all parameters have the same scale.
UNIT_MM = 10.0
# The search ends when a step changes the mutual information by less than this share.
LEAST_GAIN = 1e-6

Affine = NDArray[np.floating]


class Level(NamedTuple):
    """One step of a registration from coarse to fine.

    Attributes:
        stride: Factor n of the subsampling; every n-th voxel of the fixed image along each axis is used.
        smoothing_mm: Standard deviation of the Gaussian that smooths both images first.
    """

    stride: int
    smoothing_mm: float


def align(
    fixed: MetaTensor,
    moving: MetaTensor,
    start: Affine,
    level: Level,
    ignored: MetaTensor | None = None,
    looked_at: MetaTensor | None = None,
) -> Affine:
    """Return the affine `(4, 4)` from the millimeters of one image to those of another that maximizes mutual information.

    Args:
        fixed: Image `(1, X, Y, Z)` with its affine.
        moving: Image `(1, x, y, z)` with its affine, to which the result maps.
        start: Initial affine.
        level: Sampling and smoothing.
        ignored: Mask of the moving image that is ignored, 0/1 on its grid, as it lies at the start.
        looked_at: Mask of the fixed image to which the comparison is limited, 0/1 on its grid.

    Source: Mattes et al., IEEE Trans Med Imaging 22 (2003), with linear instead of cubic windows.
    """
    voxels = sampled_voxels(fixed, level.stride, looked_at)
    if ignored is not None and ignored.any():
        started_mm = as_points(apply_affine(start @ fixed.affine.numpy(), voxels))
        voxels = voxels[sample_at(ignored, ignored.affine, started_mm, "nearest").flatten().numpy() == 0]
    points_mm = apply_affine(fixed.affine.numpy(), voxels)
    middle_mm, started_mm = points_mm.mean(axis=0), as_points(apply_affine(start, points_mm))
    scale_mm = float(np.sqrt(((points_mm - middle_mm) ** 2).sum(axis=1).mean()))
    near = as_points(np.column_stack([(points_mm - middle_mm) / scale_mm, np.ones(len(points_mm))]))
    expected = in_bins(smooth(fixed, level.smoothing_mm).as_tensor()[0][tuple(voxels.T)])
    image = smooth(moving, level.smoothing_mm)

    def loss(parameters: NDArray[np.floating]) -> tuple[float, NDArray[np.floating]]:
        change = torch.from_numpy(parameters).float().requires_grad_()
        found = sample_at(image, image.affine, started_mm + UNIT_MM * near @ change.reshape(3, 4).T).flatten()
        value = -mutual_information(in_bins(found), expected)
        return value.item(), torch.autograd.grad(value, change)[0].double().numpy()

    # SciPy's optimizer, because those of torch load its compiler.
    best = minimize(loss, np.zeros(12), jac=True, method="L-BFGS-B", options={"ftol": LEAST_GAIN}).x.reshape(3, 4) * UNIT_MM
    change = np.zeros((4, 4))
    change[:3, :3] = best[:, :3] / scale_mm
    change[:3, 3] = best[:, 3] - change[:3, :3] @ middle_mm
    return np.asarray(start + change)


def as_points(places: NDArray[np.floating]) -> torch.Tensor:
    """Return points `(N, D)` as `sample_at` takes them, `(1, 1, N, D)` in single precision."""
    return torch.from_numpy(places).float()[None, None]


def sampled_voxels(image: MetaTensor, stride: int, looked_at: MetaTensor | None) -> NDArray[np.intp]:
    """Return every n-th voxel `(N, 3)` of an image along each axis, of those only that a mask keeps."""
    axes = [np.arange(stride // 2, size, stride) for size in image.shape[1:]]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return voxels if looked_at is None else voxels[looked_at.as_tensor().numpy()[0][tuple(voxels.T)] > 0]


def smooth(image: MetaTensor, width_mm: float) -> MetaTensor:
    """Return an image `(C, X, Y, Z)` smoothed by a Gaussian, with zeros beyond its borders."""
    widths = width_mm / voxel_sizes(image.affine.numpy())
    values = ndimage.gaussian_filter(image.as_tensor().numpy(), [0, *widths], mode="constant")
    return MetaTensor(torch.from_numpy(values), affine=image.affine)


def in_bins(values: torch.Tensor) -> torch.Tensor:
    """Return the shares of values `(N)` in the bins of a histogram `(N, bins)`; each value lies between two bins."""
    low, high = values.detach().aminmax()
    place = (values - low) / (high - low).clamp(min=1e-6) * (HISTOGRAM_BINS - 1)
    return (1 - (place[:, None] - torch.arange(HISTOGRAM_BINS)).abs()).clamp(min=0)


def mutual_information(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the mutual information of two images from the shares `(N, bins)` of their voxels, in nats."""
    joint = one.T @ other / len(one) + 1e-12
    alone = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0)
    return (joint * (joint / alone).log()).sum()


def center_mm(image: MetaTensor) -> NDArray[np.floating]:
    """Return the center of mass of an image `(1, X, Y, Z)`, in its millimeters."""
    weights = image.as_tensor()[0].double()
    along = [torch.einsum(f"xyz->{axis}", weights) / weights.sum() for axis in "xyz"]
    voxel = [float(share @ torch.arange(len(share)).double()) for share in along]
    center: NDArray[np.floating] = apply_affine(image.affine.numpy(), voxel)
    return center
