"""Crops keep the tissue or the brain with its margin, and all volumes on one grid; slices with brain are those of the mask."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from strokelesion.transforms import CropToBraind, CropToTissued, ExtractSlicesd

AFFINE = torch.diag(torch.tensor([2.0, 4.0, 5.0, 1.0], dtype=torch.float64))


@pytest.fixture
def sample():
    """A block of tissue with a smaller brain and a lesion, in voxels of 2 x 4 x 5 mm."""
    volumes = {key: MetaTensor(torch.zeros(1, 23, 17, 19), affine=AFFINE) for key in ("image", "label", "brain")}
    volumes["image"][0, 3:20, 2:15, 4:17] = 0.3 + torch.rand(17, 13, 13)
    volumes["image"][0, 0, 0, 0] = 0.09  # noise of air
    volumes["brain"][0, 8:12, 6:10, 9:12] = 1
    volumes["label"][0, 9, 7, 10] = 1
    return volumes


def crop_to(target, **options):
    return (CropToTissued if target == "image" else CropToBraind)(["image", "label", "absent"], target, **options)


@pytest.mark.parametrize(
    ("target", "options", "box"),
    [
        ("image", {}, np.s_[:, 3:20, 2:15, 4:17]),
        ("brain", {"margin_mm": 0}, np.s_[:, 8:12, 6:10, 9:12]),
        ("brain", {"margin_mm": 10}, np.s_[:, 3:17, 4:12, 7:14]),  # 5, 2 (2.5 is rounded to even) and 2 voxels
        ("brain", {"margin_mm": 500}, np.s_[:, 0:23, 0:17, 0:19]),
    ],
)
def test_crops_keep_what_they_are_named_after_and_go_back_to_the_whole_grid(sample, target, options, box):
    crop = crop_to(target, **options)
    out = crop(sample)
    for key in ("image", "label"):
        assert torch.equal(out[key].as_tensor(), sample[key].as_tensor()[box])
        starts = torch.tensor([part.start for part in box[1:]], dtype=torch.float64)
        assert torch.equal(out[key].affine[:3, 3], AFFINE[:3, :3] @ starts)
    whole = Invertd("label", transform=crop, orig_keys="image", nearest_interp=False)(out)["label"]
    assert torch.equal(whole.as_tensor(), sample["label"].as_tensor())


def test_slices_with_brain_are_those_of_the_mask():
    image, label, brain = torch.ones(1, 23, 27, 11) * torch.arange(11), torch.zeros(1, 23, 27, 11), torch.zeros(1, 23, 27, 11)
    brain[0, 11, 13, 4:8] = label[0, 5, 6, 2] = 1
    out = ExtractSlicesd(["image", "label"], (32, 40), "brain")({"image": image, "label": label, "brain": brain})
    assert out["image"].amax((1, 2, 3)).tolist() == [2, 4, 5, 6, 7]
