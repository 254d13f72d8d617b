"""Registration of brains to MNI space: known affines are found again, whatever the turn, or refused."""

from functools import cache

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy.spatial.transform import Rotation

from strokelesion.networks import UserError
from strokelesion.transforms import registration
from strokelesion.transforms.alignment import center_mm
from strokelesion.transforms.registration import register_brain

THINNED = 3
ERROR_MM = 2.0


@cache
def template_parts():
    t1, mask = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    thin = (slice(None, None, THINNED),) * 3
    parts = [torch.from_numpy(np.asarray(part.dataobj, dtype=np.float32)[thin]) for part in (t1, mask)]
    return *parts, t1.affine @ np.diag([THINNED] * 3 + [1.0])


def head(to_mni):
    """The template at 3 mm as a head of 60 units of intensity, from where `to_mni` leads to MNI space, and its brain."""
    image, mask, grid = template_parts()
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) * 4
    affine = torch.from_numpy(np.linalg.inv(to_mni) @ grid)
    return MetaTensor((60 * image + noise)[None], affine=affine), (mask > 0)[None]


def known(degrees, scales, shear, shift_mm):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scales)
    matrix[0, 1] += shear
    matrix[:3, 3] = shift_mm
    return matrix


def error_mm(found, to_mni, image, brain):
    points_mm = apply_affine(image.affine.numpy(), np.argwhere(brain[0].numpy())[::50])
    return np.linalg.norm(apply_affine(found, points_mm) - apply_affine(to_mni, points_mm), axis=1)


def assert_found(to_mni, image, brain, lesions=None, **options):
    found = register_brain(image, brain, lesions, **options)
    assert error_mm(found.to_mni, to_mni, image, brain).max() < ERROR_MM
    assert found.correlation > 0.85


@pytest.mark.parametrize(
    "pose",
    [
        ((28, -20, 25), (1.1, 0.9, 1.15), 0.1, (40, -30, 20)),
        ((-30, 25, -28), (0.85, 1.05, 0.9), -0.1, (-35, 40, -40)),
    ],
)
def test_turned_scaled_sheared_and_shifted_brains_are_brought_back(pose):
    assert_found(known(*pose), *head(known(*pose)))


@pytest.mark.parametrize(
    ("pose", "box"),
    [
        (((10, 5, -8), (1.1, 1.1, 1.1), 0, (10, 0, -10)), np.s_[0, 15:25, 35:45, 25:35]),
        # Half a hemisphere: what is left of the brain has its center elsewhere.
        (((20, -15, 18), (1.05, 0.95, 1.1), 0, (20, 10, -10)), np.s_[0, 34:, 20:60, 20:]),
    ],
)
def test_an_infarct_that_is_not_looked_at_does_not_pull(pose, box):
    image, brain = head(known(*pose))
    infarct = torch.zeros_like(brain)
    infarct[box] = brain[box]
    filled = MetaTensor(torch.where(infarct, 7.0, image.as_tensor()), affine=image.affine)
    assert_found(known(*pose), filled, brain, infarct)


def test_what_is_known_to_some_millimeters_is_not_searched_for_but_made_exact(monkeypatch):
    monkeypatch.setattr(registration, "poses", lambda *_: iter(()))
    to_mni = known((25, -20, 15), (1.1, 0.95, 1.05), 0.05, (30, -20, 10))
    image, brain = head(to_mni)
    start = known((2, -2, 1), (1.02, 0.99, 1), 0, (2, -2, 3)) @ to_mni
    assert error_mm(start, to_mni, image, brain).mean() > 3
    assert_found(to_mni, image, brain, start=start)


def test_what_fails_the_check_is_tried_again_from_other_poses():
    to_mni = known((10, 0, 5), (1.1, 1.1, 1.1), 0, (5, 0, 0))
    image, brain = head(to_mni)
    upside_down = np.diag([1.0, -1.0, -1.0, 1.0]) @ to_mni
    assert_found(to_mni, image, brain, start=upside_down)


def test_a_bias_field_does_not_pull():
    to_mni = known((5, -8, 10), (1.1, 1.0, 1.05), 0.05, (5, 10, -10))
    image, brain = head(to_mni)
    x, y, z = (torch.linspace(-1, 1, size) for size in image.shape[1:])
    field = torch.exp(0.4 * x[:, None, None] + 0.3 * y[None, :, None] ** 2 - 0.2 * z)
    assert_found(to_mni, MetaTensor(image.as_tensor() * field, affine=image.affine), brain)


def test_what_is_no_brain_is_refused():
    image, brain = head(np.eye(4))
    shuffled = image.as_tensor().flatten()[torch.randperm(image.numel(), generator=torch.Generator().manual_seed(0))]
    noise = MetaTensor(shuffled.reshape(image.shape), affine=image.affine)
    with pytest.raises(UserError, match="registration to MNI space failed"):
        register_brain(noise, brain)


def test_a_brain_that_does_not_come_to_lie_on_the_template_is_refused(monkeypatch):
    monkeypatch.setattr(registration, "align", lambda *_: np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(UserError, match=r"volume ratio 0\.1.*expected 0\.5 to 3\.2"):
        register_brain(*head(np.eye(4)))


def test_a_center_of_mass_is_in_millimeters():
    image = MetaTensor(
        torch.zeros(1, 7, 8, 9), affine=torch.tensor([[0, 2.0, 0, 5], [3, 0, 0, -4], [0, 0, 1, 9], [0, 0, 0, 1]])
    )
    image[0, 2, 5, 6] = 3.0
    np.testing.assert_allclose(center_mm(image), [15, 2, 15])
