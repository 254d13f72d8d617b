"""Registration to MNI space finds a known affine again, and does not pass off a failure as a success."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from strokelesion.networks import UserError
from strokelesion.pipeline.synthesis import head_registration
from strokelesion.pipeline.synthesis.head_registration import register_to_mni
from strokelesion.transforms.synthesis.tissues import Tissue

ERROR_MM = 3.0


def to_mni(degrees=(12.0, -7.0, 5.0), scales=(1.1, 1.2, 1.0), shift_mm=(14.0, -25.0, 9.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scales)
    matrix[:3, 3] = shift_mm
    return matrix


def head(matrix):
    """The template's tissues at 4 mm, in a head from where `matrix` leads to MNI space; stored with oblique axes."""
    image = head_registration.template()
    thin = image[0, ::2, ::2, ::2].as_tensor()
    codes = (thin > 0.3) * int(Tissue.CORTEX)
    codes[thin > 0.8] = int(Tissue.WHITE)
    affine = torch.from_numpy(np.linalg.inv(matrix)) @ image.affine @ torch.diag(torch.tensor([2.0, 2, 2, 1]).double())
    return MetaTensor(codes.to(torch.uint8)[None], affine=affine)


def brain_mm(tissues):
    return apply_affine(tissues.affine.numpy(), np.argwhere(tissues[0].numpy() > 0))


def test_a_head_turned_scaled_and_shifted_is_brought_back(monkeypatch):
    """The first level of the recipe comes near enough; the second, which takes longer, only refines that."""
    monkeypatch.setattr(head_registration, "LEVELS", head_registration.LEVELS[:1])
    tissues = head(to_mni())
    found = register_to_mni(tissues)
    points_mm = brain_mm(tissues)
    away_mm = np.linalg.norm(apply_affine(found, points_mm) - apply_affine(to_mni(), points_mm), axis=1)
    moved_mm = np.linalg.norm(points_mm - apply_affine(to_mni(), points_mm), axis=1)
    assert moved_mm.mean() > 20
    assert away_mm.mean() < ERROR_MM


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.diag([1.0, 1.0, -1.0, 1.0]), r"correlation 0\.[0-5].*upright"),
        (np.diag([2.0, 2.0, 2.0, 1.0]), r"volume ratio 0\.13.*expected 0\.5 to 3\.2"),
    ],
)
def test_a_head_that_does_not_come_to_lie_on_the_template_is_refused(monkeypatch, wrong, message):
    monkeypatch.setattr(head_registration, "align", lambda *_: wrong)
    with pytest.raises(UserError, match=message):
        register_to_mni(head(np.eye(4)))


def test_fluid_is_no_brain_to_the_registration():
    codes = torch.zeros(1, 9, 10, 11, dtype=torch.uint8)
    codes[:, :3], codes[:, 3:6], codes[:, 6:] = int(Tissue.VENTRICLE), int(Tissue.CSF), int(Tissue.BONE)
    assert not head_registration.t1_like(MetaTensor(codes, affine=torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])))).any()
