"""A small scan with two lesions, and what surrounds it: grid, registration and stand-ins of a brain network and an atlas."""

import numpy as np

from strokelesion.pipeline.lesions.lesion_table import Atlas
from strokelesion.pipeline.lesions.roi_loads import Roi

SHAPE = (12, 14, 10)
AFFINE = np.diag([-4.0, 5.0, 6.0, 1.0])
SHIFT = np.eye(4)
SHIFT[:3, 3] = (30, -40, 0)
ATLAS = Atlas(np.ones((3, 3, 3), dtype=np.int64), np.diag([400.0, 400, 400, 1]), {1: "all"})


def is_bright(scan):
    return scan > 0.5


def roi(corner, size):
    """Return an ROI of whole voxels of the scan, which are 0.12 ml, from its first voxel and its size in voxels."""
    voxels = np.argwhere(np.ones(size)) + corner
    return Roi("box", voxels @ AFFINE[:3, :3] + SHIFT[:3, 3], np.ones(len(voxels)), 0.12)
