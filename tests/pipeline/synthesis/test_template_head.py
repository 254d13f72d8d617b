"""The template head: a whole brain of plausible proportions, in closed layers of fluid, skull and scalp."""

import pytest
import torch
from scipy.ndimage import label

from strokelesion.pipeline.synthesis.procedural_lesions import parenchyma
from strokelesion.pipeline.synthesis.template_head import template_head
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_brain

# MNI152 is larger than an average brain.
BRAIN_ML, VENTRICLES_ML = 1700, 30


@pytest.fixture(scope="module")
def codes():
    return template_head()[0].as_tensor()


def test_brain_has_its_volume_and_is_where_that_of_mni152_is(codes):
    assert template_head().shape == (1, 197, 233, 189)
    assert float(is_brain(codes).sum()) / 1000 == pytest.approx(BRAIN_ML, rel=0.15)
    assert float((codes == Tissue.VENTRICLE).sum()) / 1000 == pytest.approx(VENTRICLES_ML, rel=0.6)
    mni = torch.from_numpy(parenchyma()[0])
    assert 2 * (is_brain(codes) & mni).sum() / (is_brain(codes).sum() + mni.sum()) > 0.9


def test_skull_and_scalp_surround_the_brain_without_a_gap(codes):
    for layer in ((Tissue.BONE,), (Tissue.SOFT, Tissue.SKIN)):
        regions, _ = label(~any_of(codes, layer))
        assert regions[98, 134, 72] != regions[0, 0, -1]
