"""What a scan shows at a glance: the same in every orientation and unit, defined for any shape."""

import numpy as np
import pytest
import torch
from atlas import HEAD_MM, MAIN_MM, grid
from hypothesis import assume, given
from hypothesis import strategies as st
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from scipy.ndimage import gaussian_filter

from strokelesion.pipeline.doctor.thumbnail import make_thumbnail
from strokelesion.transforms.intensity import tissue_scale
from strokelesion.transforms.reading import load_volume

SHAPE, VOXEL_MM = (49, 53, 47), (4.0, 4.0, 4.0)
FLUID, BRIGHT_FLUID, INFARCT, BRIGHT_INFARCT = 0.3, 2.0, 0.4, 1.6


def head(fluid=FLUID, lesion=INFARCT, lesion_at_mm=MAIN_MM):
    """A head of tissue 1 with spots of fluid and one lesion, shaded as by a coil; returns T1 and mask."""
    shape, affine = grid("RAS", SHAPE, VOXEL_MM)
    mm = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    inside, mask = (((mm - center) ** 2 / np.square(radii)).sum(-1) <= 1 for center, radii in (HEAD_MM, lesion_at_mm))
    rng = np.random.default_rng(0)
    spots = gaussian_filter(rng.normal(size=shape), 1.5)
    t1 = np.where(spots > np.quantile(spots, 0.9), fluid, 1) + rng.normal(0, 0.03, shape)
    t1 = np.where(mask, lesion, t1) * inside * np.exp(mm @ [0.004, 0.003, -0.002])
    return as_volume(t1, affine), as_volume(mask & inside, affine)


def as_volume(values, affine):
    return MetaTensor(torch.tensor(np.ascontiguousarray(values, dtype=np.float32))[None], affine=torch.as_tensor(affine))


def thumbnail_of(image, *masks):
    return make_thumbnail(image, masks, tissue_scale(image))


def test_a_thumbnail_is_the_same_in_every_orientation(oriented):
    first, *others = (
        thumbnail_of(load_volume(item["image"]), load_volume(item["main_mask"]))
        for name, item in oriented.items()
        if name != "oblique"
    )
    for other in others:
        np.testing.assert_allclose(other.image, first.image, atol=1e-4)
        np.testing.assert_allclose(other.masks, first.masks, atol=1e-4)


def test_the_unit_of_intensity_does_not_matter():
    image, mask = head()
    np.testing.assert_allclose(thumbnail_of(image, mask).image, thumbnail_of(image * 700, mask).image, rtol=1e-4, atol=1e-5)


def test_fluid_is_dark_or_bright_whatever_the_shading():
    assert thumbnail_of(*head()).fluid_skewness < -0.2
    assert thumbnail_of(*head(fluid=BRIGHT_FLUID)).fluid_skewness > 0.2
    assert thumbnail_of(*head(fluid=1)).fluid_skewness == 0


def test_lesions_are_darker_or_brighter_than_their_surroundings():
    assert thumbnail_of(*head()).lesion_brightness < 0.6
    assert thumbnail_of(*head(lesion=BRIGHT_INFARCT)).lesion_brightness > 1.2
    image, mask = head()
    assert thumbnail_of(image, torch.zeros_like(mask)).lesion_brightness == 0


def test_a_mask_is_outside_where_it_is_not_in_the_head():
    image, mask = head()
    corner = torch.zeros_like(mask)
    corner[:, :5, :5, :5] = 1
    assert thumbnail_of(image, mask, corner, torch.zeros_like(mask)).outside_shares == pytest.approx([0, 1, 0], abs=0.01)


def test_a_wide_lesion_that_opens_to_the_surface_is_mostly_inside():
    at_surface = ((50, -36, 22), (22, 26, 16))
    assert thumbnail_of(*head(lesion=0, lesion_at_mm=at_surface)).outside_shares[0] < 0.35


@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    voxel_mm=st.tuples(*[st.floats(0.1, 10)] * 3),
    seed=st.integers(0, 99),
)
def test_every_number_is_defined_for_any_shape(shape, voxel_mm, seed):
    rng = np.random.default_rng(seed)
    values = rng.gamma(1, 100, shape) * (rng.random(shape) > 0.3)
    assume(len(np.unique(values[values > 0])) > 1)
    affine = np.diag([*voxel_mm, 1.0])
    thumbnail = thumbnail_of(as_volume(values, affine), as_volume(rng.random(shape) > 0.5, affine))
    assert all(0 <= share <= 1 for share in thumbnail.outside_shares)
    assert -1 <= thumbnail.fluid_skewness <= 1
    assert np.isfinite(thumbnail.lesion_brightness)
