"""Preparation of new scans: bias fields go, heads come to MNI's grid and back, and brains stay as bright as they were."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd, Orientationd, Spacingd
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from strokelesion.networks import UserError
from strokelesion.transforms import CorrectBiasd, PlaceInMNId, Recipe
from strokelesion.transforms.preparation import bias_field
from strokelesion.transforms.registration import Registration

SHAPE = (44, 52, 40)
AFFINE = torch.diag(torch.tensor([-4.0, 4.0, 4.0, 1.0], dtype=torch.float64))
AFFINE[:3, 3] = torch.tensor([90.0, -110.0, -70.0])


def axes():
    return torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, size) for size in SHAPE], indexing="ij"))


def brain():
    return ((axes() / torch.tensor([0.7, 0.8, 0.75])[:, None, None, None]).square().sum(0) < 1)[None]


def scan():
    """Layers of gray and white matter in a skull of air."""
    layers = torch.where((axes().norm(dim=0) * 9).int() % 2 == 0, 100.0, 70.0)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return MetaTensor((layers + noise)[None] * brain(), affine=AFFINE)


def test_a_bias_field_is_removed_in_the_brain_and_its_mean_stays():
    x, y, z = axes()
    field = torch.exp(0.3 * x - 0.25 * y * z + 0.2 * z)[None]
    image = scan()
    biased = {"image": image * field, "brain": brain()}
    corrected = CorrectBiasd("image")(biased)["image"]
    left = torch.log(corrected / image)[brain()]
    added = torch.log(field)[brain()]
    assert float(left.std()) < 0.3 * float(added.std())
    assert abs(float(left.mean() - added.mean())) < 0.05
    assert torch.equal(corrected.affine, image.affine)
    assert torch.equal(biased["image"], image * field)
    assert torch.isfinite(corrected).all()
    even = CorrectBiasd("image")({"image": image, "brain": brain()})["image"]
    assert float(torch.log(even / image)[brain()].std()) < 0.03


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_the_field_does_not_depend_on_the_unit_of_intensity(unit):
    """ITK's N4 takes values below 1 for nothing."""
    x, y, _ = axes()
    image = scan() * torch.exp(0.3 * x - 0.2 * y)[None]
    scaled = MetaTensor(image.as_tensor() * unit / 100, affine=AFFINE)
    np.testing.assert_allclose(bias_field(scaled, brain()), bias_field(image, brain()), atol=5e-3)


def test_outside_the_brain_the_field_goes_on_as_at_its_surface():
    x, _, _ = axes()
    field = bias_field(scan() * torch.exp(0.5 * x)[None], brain())
    inside = field[brain()]
    assert float(inside.min()) * 0.99 <= float(field.min())
    assert float(field.max()) <= float(inside.max()) * 1.01


def known():
    to_mni = np.eye(4)
    to_mni[:3, :3] = Rotation.from_euler("xyz", (20, -10, 15), degrees=True).as_matrix() * 1.1
    to_mni[:3, 3] = (5, -3, 8)
    return to_mni


def blob():
    """Something smooth that differs along the three axes."""
    widths = torch.tensor([3.0, 3.5, 2.5])[:, None, None, None]
    return MetaTensor(100 * torch.exp(-(axes() * widths).square().sum(0))[None], affine=AFFINE)


def test_a_head_is_brought_to_mni_space_and_what_is_predicted_there_back_to_its_own_grid():
    image = blob()
    place = PlaceInMNId("image", spacing_mm=(3, 3, 3), register=lambda *_: Registration(known(), 0.9))
    chain = Recipe([place, Orientationd("image", axcodes="RAS", labels=None), Spacingd("image", pixdim=3.0)])
    sample = chain({"image": image, "brain": brain()})
    there = sample["image"]
    assert there.shape == (1, 66, 78, 63)
    np.testing.assert_allclose(there.affine[:3, 3], [-98, -134, -72])
    center = apply_affine(known() @ AFFINE.numpy(), (np.array(SHAPE) - 1) / 2)
    weights = there.as_tensor()[0].clamp(min=20) - 20
    found = [float((weights * axis).sum() / weights.sum()) for axis in mesh_mm(there)]
    np.testing.assert_allclose(found, center, atol=0.5)
    assert_goes_back(chain, sample, image)
    assert torch.equal(image.affine, AFFINE)


def test_a_head_that_cannot_be_registered_stays_as_it_is_and_predictions_come_back_all_the_same(caplog):
    def refuse(*_):
        raise UserError("the registration failed")

    image, onward = blob(), [Orientationd("image", axcodes="RAS", labels=None), Spacingd("image", pixdim=3.0)]
    chain = Recipe([PlaceInMNId("image", register=refuse), *onward])
    sample = chain({"image": image, "brain": brain()})
    assert "the registration failed" in caplog.text
    assert sample["to_mni"].isnan().all()
    unplaced = Recipe(onward)({"image": image})["image"]
    assert torch.equal(sample["image"].as_tensor(), unplaced.as_tensor())
    assert torch.equal(sample["image"].affine, unplaced.affine)
    assert_goes_back(chain, sample, image)


def assert_goes_back(chain, sample, image):
    """Check that a prediction that shows the scan itself comes back to the scan's grid."""
    sample["pred"] = MetaTensor(sample["image"].as_tensor().clone(), affine=sample["image"].affine)
    back = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False)(sample)["pred"]
    assert back.shape == image.shape
    assert torch.equal(back.affine, AFFINE)
    assert float((back - image).abs().max()) < 4


def mesh_mm(image):
    voxels = np.stack(np.meshgrid(*map(np.arange, image.shape[1:]), indexing="ij"), axis=-1)
    return torch.from_numpy(np.moveaxis(apply_affine(image.affine.numpy(), voxels), -1, 0))
