"""Pictures of scans: sides, front, slice, outlines, and pixels of the right shape."""

import io

import numpy as np
import pytest
from PIL import Image

from strokelesion.pipeline.pictures import COLORS, lesion_panel, marked_png

SHAPE = (20, 30, 8)


@pytest.fixture
def scan():
    """A head in RAS, bright at the right front; main lesion left and front in slice 5, sub-lesion right and back there."""
    image = np.ones(SHAPE, dtype=np.float32)
    image[15:, 25:] = 2.0
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[2:7, 20:26, 5] = 1
    label[14:18, 3:6, 5] = 2
    label[9, 9, 2] = 1
    return image, label


def where(panel, color):
    rows, columns = np.nonzero((panel == color).all(axis=-1))
    return {"rows": (rows.min(), rows.max()), "columns": (columns.min(), columns.max())}


def test_left_is_left_front_is_up_and_the_slice_is_that_with_most_lesion(scan):
    image, label = scan
    pred = np.zeros_like(label)
    pred[2:7, 20:26, 5] = 2
    panel = lesion_panel(image, label, pred)
    assert panel.shape == (30, 60, 3)
    t1, truth, prediction = np.split(panel, 3, axis=1)
    assert (t1[:5, 15:] == 255).all()  # right front: on the right, at the top
    assert (t1[5:] == 127).all()
    assert where(truth, COLORS[1]) == {"rows": (4, 9), "columns": (2, 6)}
    assert where(truth, COLORS[2]) == {"rows": (24, 26), "columns": (14, 17)}
    assert where(prediction, COLORS[2]) == where(truth, COLORS[1])
    assert (truth[6, 4] == 127).all()  # outlined, not filled


@pytest.mark.parametrize(("pixel_mm", "size"), [((1.0, 1.0), (60, 30)), ((2.0, 1.0), (120, 30)), ((1.0, 1.5), (60, 45))])
def test_pixels_are_square_and_the_left_is_marked(pixel_mm, size, scan):
    image, label = scan
    picture = Image.open(io.BytesIO(marked_png(lesion_panel(image * 0, label * 0, label * 0), pixel_mm)))
    assert picture.size == size
    columns = np.nonzero(np.asarray(picture).any(axis=(0, 2)))[0]
    assert len(columns) > 0
    assert columns.max() < size[0] / 3  # the mark is all there is, and it is on the left
