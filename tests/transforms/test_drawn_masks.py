"""Masks that a person drew: what their values mean, and how they come to the grid of the scan."""

import nibabel as nib
import numpy as np
import pytest
import torch
from atlas import grid
from monai.data import MetaTensor

from strokelesion.transforms.drawn_masks import UNKNOWN, as_labels, as_most, as_shares, complete_classes, read_drawn
from strokelesion.transforms.sample_error import SampleError

SHAPE, AFFINE = grid("LPS", (23, 29, 19), (8.0, 7.0, 9.0), 20)
GRID = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.from_numpy(AFFINE))


@pytest.fixture
def drawn():
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 5:12, 6:9], labels[15:17, 20:22, 3:5] = 1, 2
    return labels


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ([0, 1], "mask", [0, UNKNOWN]),
        ([0, 255], "mask", [0, UNKNOWN]),
        ([0, 0.99999, 0.00001], "mask", [0, UNKNOWN, 0]),
        ([0, 254, 1, 2, 255], "mask", [0, UNKNOWN, 0, 0, UNKNOWN]),  # noise of ATLAS R1.x
        ([0, 1], "dseg", [0, 1]),
        ([0, 1, 2], "mask", [0, 1, 2]),
        ([0, 2], "mask", [0, 2]),
        ([0, 1.00002, 1.99996], "mask", [0, 1, 2]),
        ([0, 1, 3], "mask", [0, UNKNOWN, UNKNOWN]),
        ([0, 5, 9, 12], "mask", [0, UNKNOWN, UNKNOWN, UNKNOWN]),
        ([0, 0], "mask", [0, 0]),
    ],
)
def test_values_mean_lesions_and_their_classes(values, name, expected):
    meta = {"filename_or_obj": f"sub-01_{name}.nii.gz"}
    volume = MetaTensor(torch.tensor(values).float().reshape(1, 1, 1, -1), meta=meta)
    assert as_labels(volume).flatten().tolist() == expected


@pytest.mark.parametrize("values", [[0, 0.3, 0.8], [0, -1, 1], [0, float("nan"), 1], [0, *range(1, 99)]])
def test_values_of_no_mask_are_refused(values):
    with pytest.raises(SampleError):
        as_labels(MetaTensor(torch.tensor(values).float().reshape(1, 1, 1, -1)))


@pytest.mark.parametrize("axes", [[[0, 1], [1, 1], [2, 1]], [[0, -1], [1, -1], [2, 1]], [[2, 1], [0, -1], [1, 1]]])
@pytest.mark.parametrize("box", [(slice(None),) * 3, (slice(3, 20), slice(2, 25), slice(1, 12))], ids=["whole", "part"])
def test_each_voxel_of_an_oblique_scan_comes_back(drawn, tmp_path, axes, box):
    affine = AFFINE @ nib.affines.from_matvec(np.eye(3), [part.start or 0 for part in box])
    nib.save(nib.Nifti1Image(drawn[box], affine).as_reoriented(np.array(axes)), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_drawn(tmp_path / "mask.nii.gz", GRID)[0].numpy(), drawn)


def test_a_file_without_an_affine_of_the_same_shape_is_read_and_one_of_another_refused(drawn, tmp_path):
    for number, values in enumerate((drawn, drawn[1:])):
        image = nib.Nifti1Image(values, None)
        nib.save(image, tmp_path / f"{number}.nii")
    no_codes = {"qform_code": 0, "sform_code": 0}
    bare = MetaTensor(torch.zeros(1, *SHAPE), affine=nib.load(tmp_path / "0.nii").affine, meta=no_codes)
    np.testing.assert_array_equal(read_drawn(tmp_path / "0.nii", bare)[0].numpy(), drawn)
    with pytest.raises(SampleError, match="has no affine"):
        read_drawn(tmp_path / "1.nii", bare)


def test_an_unknown_class_is_that_of_most_of_the_lesion_and_a_known_one_stays(drawn):
    mask = torch.from_numpy(np.where(drawn > 0, UNKNOWN, 0).astype(np.uint8))[None]
    mask[0, 20, 3, 3:5] = UNKNOWN  # a lesion of its own
    mask[0, 4, 5, 6] = 2
    automatic = torch.from_numpy(drawn)[None].clone()
    automatic[0, 15:17, 20:22, 4] = 1
    automatic[0, 15, 20, 4] = 0
    completed = complete_classes(mask, automatic)[0]
    expected = drawn.copy()
    expected[20, 3, 3:5], expected[4, 5, 6] = 1, 2
    np.testing.assert_array_equal(completed.numpy(), expected)


def test_shares_of_labels_are_labels_again(drawn):
    labels = torch.from_numpy(drawn)[None]
    shares = as_shares(labels, torch.from_numpy(AFFINE))
    assert shares.sum(dim=0).unique().tolist() == [1.0]
    assert torch.equal(as_most(shares), labels)
    assert not as_most(0.49 * shares).any()
