"""A scan of noise with two lesions, as its page is written from it."""

import numpy as np
import torch
from monai.data import MetaTensor

from strokelesion.pipeline.lesions.lesion_table import SegmentedScan

SHAPE = (44, 52, 40)
AFFINE = np.array([[-2.0, 0, 0, 40], [0, 2, 0, -50], [0, 0, 2, -30], [0, 0, 0, 1]])


def drawn(affine=AFFINE):
    """A main lesion on the patient's right, around voxel (11.5, 24.5, 17.5), and a sub-lesion around (31.5, 11.5, 29)."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[8:16, 20:30, 14:22] = 1  # the first axis runs to the left
    labels[30:34, 10:14, 28:31] = 2
    image = torch.rand((1, *SHAPE), generator=torch.Generator().manual_seed(0)) * 50 + 100
    image[0][torch.from_numpy(labels) > 0] = 20
    probability = np.where(labels > 0, 0.9, 0.1)
    return MetaTensor(image, affine=torch.from_numpy(affine)), SegmentedScan(labels, probability, 100.0, affine, np.eye(4))
