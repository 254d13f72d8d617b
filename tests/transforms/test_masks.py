"""Mask files to label maps: the codings of ATLAS, fusion, main and sub, and what is refused."""

import numpy as np
import pytest
import torch
from atlas import save_nifti
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from monai.data import MetaTensor
from monai.transforms import Compose

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.transforms import BinarizeMasksd, FuseSubmasksd, LabelLesionsd, LoadMasksd, LoadScand
from strokelesion.transforms.masks import binarize_mask, divide_components

UNIT = (2**32 - 1) / 2**32
CODINGS = {"0.99999": [1], "254.99999": [255], "noisy": [253, 254, 255]}
KEYS = ["image", "main_mask", "sub_masks"]
MASKS = [
    LoadScand("image"),
    LoadMasksd(KEYS[1:], allow_missing_keys=True),
    BinarizeMasksd(KEYS[1:], allow_missing_keys=True),
    FuseSubmasksd("sub_masks", allow_missing_keys=True),
]


def volume(values):
    return MetaTensor(torch.as_tensor(np.asarray(values)), affine=torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(truth=npst.arrays(bool, (7, 8, 9)), seed=st.integers(0, 999))
def test_every_coding_of_atlas_is_binarized_exactly(coding, dtype, truth, seed):
    truth[3, 4, 5] = True
    rng = np.random.default_rng(seed)
    k = rng.choice(CODINGS[coding], truth.shape) * truth
    if coding == "noisy":
        k = np.where(truth, k, rng.choice([0, 1, 2], truth.shape))
    mask = binarize_mask(torch.tensor((k * UNIT).astype(dtype)))
    assert mask.dtype == torch.uint8
    assert np.array_equal(mask.numpy().astype(bool), truth)


@given(mask=npst.arrays(np.uint8, (7, 8, 9), elements=st.integers(0, 1)), scale=st.floats(1e-3, 1e6))
def test_binarizing_does_not_depend_on_scale_and_twice_is_once(mask, scale):
    mask[0, 0, 0] = 1
    once = binarize_mask(torch.tensor(mask * scale))
    assert torch.equal(once, torch.tensor(mask))
    assert torch.equal(binarize_mask(once), once)


@pytest.mark.parametrize(
    ("values", "words", "option", "accepted"),
    [
        ([0.0, 0.0, 0.0], r"zero everywhere.*--allow_empty true", "allow_empty", [0, 0, 0]),
        ([0.0, 0.3, 0.7, 1.0], r"not two-valued: 2 voxels.*--allow_gray true", "allow_gray", [0, 0, 1, 1]),
    ],
)
def test_empty_and_gray_masks_are_refused_unless_told_otherwise(values, words, option, accepted):
    with pytest.raises(UserError, match=words):
        binarize_mask(torch.tensor(values))
    assert binarize_mask(torch.tensor(values), **{option: True}).tolist() == accepted


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_impossible_values_are_refused(bad):
    with pytest.raises(UserError, match="below zero, NaN or infinite"):
        binarize_mask(torch.tensor([0.0, bad, 1.0]), allow_gray=True)


def test_each_channel_is_binarized_by_its_own_maximum():
    truth = np.random.default_rng(0).random((2, 7, 8, 9)) > 0.5
    coded = truth * np.array([UNIT, 255 * UNIT]).reshape(2, 1, 1, 1)
    assert np.array_equal(BinarizeMasksd("m")({"m": volume(coded)})["m"].numpy(), truth)


def test_main_wins_where_masks_overlap_and_fusion_is_the_union():
    main, first, second = np.zeros((3, 1, 4, 5, 6), dtype=np.uint8)
    main[0, 0], first[0, :2, 0], second[0, 3, 4] = 1, 1, 1
    sample = {"image": volume(main), "main_mask": volume(main), "sub_masks": volume(np.concatenate([first, second]))}
    label = LabelLesionsd()(FuseSubmasksd("sub_masks")(sample))["label"].numpy()
    assert set(sample) == {"image", "main_mask", "sub_masks"}
    assert np.array_equal(label, np.where(main, 1, np.where(first | second, 2, 0)))


def test_components_on_request_make_the_largest_main_and_the_rest_sub():
    mask = torch.zeros(1, 9, 8, 7, dtype=torch.uint8)
    mask[0, 1:4, 1:4, 1:4] = 1
    mask[0, 4, 4, 4] = 1  # touches at a corner: 26-connected, the same lesion
    mask[0, 7, 6, 5] = 1
    label = divide_components(mask)
    assert (label == 1).sum() == 28
    assert (label == 2).nonzero().tolist() == [[0, 7, 6, 5]]


def test_components_are_not_divided_where_sub_masks_exist():
    mask = torch.zeros(1, 9, 8, 7, dtype=torch.uint8)
    mask[0, 0, 0, 0] = mask[0, 5, 5, 5] = 1
    sub = torch.zeros_like(mask)
    sub[0, 8, 7, 6] = 1
    sample = {"image": volume(mask), "main_mask": volume(mask), "sub_masks": volume(sub)}
    label = LabelLesionsd(divide="components")(sample)["label"]
    assert (label == 1).sum() == 2
    assert (label == 2).sum() == 1


@pytest.mark.parametrize("stored", ["LAS", "LPS", "PSR", "PSL"])
def test_masks_whose_axes_run_another_way_give_the_label_map_of_their_scan(oriented, stored):
    to_label = Compose([*MASKS, LabelLesionsd()])
    expected = to_label(oriented["RAS"])["label"]
    label = to_label({**oriented[stored], "image": oriented["RAS"]["image"]})["label"]
    assert torch.equal(label.as_tensor(), expected.as_tensor())
    assert set(label.unique().tolist()) == {0, 1, 2}
    torch.testing.assert_close(label.affine, expected.affine, rtol=0, atol=0)


def test_masks_of_one_scan_are_channels_and_must_be_on_one_grid(tmp_path):
    files = [
        save_nifti(tmp_path / f"{name}.nii", np.full((4, 5, 6), value), np.eye(4))
        for name, value in {"a": 1.0, "b": 2.0}.items()
    ]
    loaded = LoadMasksd("m")({"m": list(map(str, files))})["m"]
    assert loaded.shape == (2, 4, 5, 6)
    assert loaded.mean(dim=(1, 2, 3)).tolist() == [1, 2]
    files.append(save_nifti(tmp_path / "c.nii", np.ones((4, 5, 7)), np.eye(4)))
    with pytest.raises(UserError, match=r"c\.nii .*not on the grid of .*a\.nii"):
        LoadMasksd("m")({"m": list(map(str, files))})


def test_unknown_divisions_and_keys_are_refused():
    with pytest.raises(UserError, match="masks, components"):
        LabelLesionsd(divide="largest")
    with pytest.raises(UserError, match="expected two"):
        LabelLesionsd(keys="main_mask")


@pytest.mark.parametrize("release", ["R1.1", "R1.2", "R2.0", "R2.1", "R3.0", "BIDS"])
def test_every_release_goes_from_folder_to_label_map(release_dir, release):
    records = read_cohort(release_dir(release))
    to_label = Compose([*MASKS, LabelLesionsd(divide="components")])
    for record in records:
        sample = to_label(record)
        assert sample["label"].shape == sample["image"].shape
        assert torch.unique(sample["label"]).tolist() in ([0, 1, 2], [0, 1])
        # The miniature's lesions are dark in a bright head.
        assert sample["image"][sample["label"] > 0].max() < sample["image"].max() / 2
