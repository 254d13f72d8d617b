"""Slices in several planes: turned for training as they are cut for inference, and averaged voxel by voxel."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer

from strokelesion.networks.planes import PLANES, PlanesInferer, in_plane
from strokelesion.pipeline.training.slice_store import in_each_plane
from strokelesion.transforms import TurnToPlaned

SHAPE = (5, 6, 7)


def rows_of_slices(slices):
    """A network whose answer depends on where in its slice a pixel is: logits `(B, 2, H, W)` of slices `(B, 1, H, W)`."""
    height, width = slices.shape[-2:]
    where = torch.linspace(0, 1, height)[:, None] + torch.linspace(0, 10, width)
    return torch.cat([slices * where, slices + where], dim=1)


def by_slice(volume, network):
    """Each slice along the last axis through the network."""
    return SliceInferer(roi_size=list(volume.shape[2:4]), spatial_dim=2)(volume, network)


def inferer(*planes):
    return PlanesInferer(by_slice, planes)


@pytest.mark.parametrize("plane", PLANES)
def test_functions_see_the_slices_that_training_saw(plane):
    volume = torch.rand(1, *SHAPE)
    turned = TurnToPlaned(["image", "label"])({"image": MetaTensor(volume, affine=torch.eye(4)), "plane": plane})
    seen = []

    def look(there):
        seen.append(there)
        return there * 2

    assert torch.equal(in_plane(volume[None], look, plane), volume[None] * 2)
    assert torch.equal(seen[0][0], turned["image"].as_tensor())


def test_a_volume_that_names_no_plane_stays_as_it_is():
    volume = MetaTensor(torch.rand(1, *SHAPE), affine=torch.eye(4))
    assert torch.equal(TurnToPlaned("image")({"image": volume})["image"].as_tensor(), volume.as_tensor())


def test_probabilities_are_the_mean_of_what_each_plane_says():
    volume = torch.rand(2, 1, *SHAPE)
    expected = torch.zeros(2, 2, *SHAPE)
    for y in range(SHAPE[1]):
        expected[:, :, :, y] += rows_of_slices(volume[:, :, :, y]).softmax(dim=1) / 2
    for z in range(SHAPE[2]):
        expected[..., z] += rows_of_slices(volume[..., z]).softmax(dim=1) / 2
    found = inferer("axial", "coronal")(volume, rows_of_slices)
    torch.testing.assert_close(found.softmax(dim=1), expected)


def test_what_is_certain_in_all_planes_stays_so():
    found = inferer("axial", "coronal", "sagittal")(
        torch.ones(1, 1, *SHAPE), lambda slices: torch.cat([300 * slices, -slices], 1)
    )
    assert (found.softmax(dim=1)[:, 0] == 1).all()
    assert found.isfinite().all()


def test_one_plane_is_what_its_slices_say():
    volume = torch.rand(1, 1, *SHAPE)
    assert torch.equal(inferer("axial")(volume, rows_of_slices), by_slice(volume, rows_of_slices))
    sagittal = inferer("sagittal")(volume, rows_of_slices)
    rows = np.stack([rows_of_slices(volume[:, :, x]) for x in range(SHAPE[0])], axis=2)
    np.testing.assert_allclose(sagittal, rows, rtol=1e-6)


def test_records_come_once_in_each_plane_unless_they_name_one():
    records = [{"subject": "a"}, {"subject": "b", "plane": "sagittal"}]
    came = [(record["subject"], record["plane"]) for record in in_each_plane(records, ["axial", "coronal"])]
    assert came == [("a", "axial"), ("a", "coronal"), ("b", "sagittal")]
