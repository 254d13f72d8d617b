"""Tissues of heads that are labeled in part or not at all: fluid, gray, white and surroundings come where they are."""

import small_head as head
import torch
from monai.data import MetaTensor

from strokelesion.pipeline.synthesis.head_tissues import add_surroundings, classify, has_surroundings
from strokelesion.transforms.synthesis.tissues import Tissue, is_brain, is_inside_skull


def dice(first, second):
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def brain_only():
    tissues = head.tissues()
    return MetaTensor(tissues.as_tensor() * is_brain(tissues.as_tensor()), affine=tissues.affine)


def test_a_t1_falls_into_fluid_gray_white_and_ventricle():
    truth = head.tissues()
    found = classify(head.t1(), is_inside_skull(truth.as_tensor())).as_tensor()
    for tissue in (Tissue.WHITE, Tissue.VENTRICLE, Tissue.CSF):
        assert dice(found == tissue, truth.as_tensor() == tissue) > 0.9, tissue.name
    gray = (truth.as_tensor() == Tissue.CORTEX) | (truth.as_tensor() == Tissue.HIPPOCAMPUS)
    assert dice(found == Tissue.CORTEX, gray) > 0.9
    assert torch.equal(found > 0, is_inside_skull(truth.as_tensor()))


def test_gaps_of_a_labeled_brain_become_fluid_and_nothing_labeled_changes():
    labeled = brain_only()
    gap = head.ball((60.0, -18.0, 10.0), (30.0, 100.0, 2.0))[None]
    labeled[gap] = int(Tissue.AIR)
    whole = add_surroundings(labeled).as_tensor()
    was_brain = gap & is_brain(head.tissues().as_tensor())
    assert dice(whole == Tissue.CSF, was_brain) > 0.9
    assert torch.equal(whole[labeled.as_tensor() > 0], labeled.as_tensor()[labeled.as_tensor() > 0])
    assert not has_surroundings(whole)
    assert has_surroundings(head.tissues().as_tensor())


def test_around_a_labeled_brain_what_is_bright_becomes_unknown_but_no_noise_in_the_air():
    truth = head.tissues().as_tensor()
    whole = add_surroundings(brain_only(), head.t1(bright_share=0.01)).as_tensor()
    scalp = (truth == Tissue.SOFT) | (truth == Tissue.SKIN)
    assert dice((whole == Tissue.UNKNOWN) & (truth != Tissue.CSF), scalp) > 0.95
    assert ((whole == Tissue.UNKNOWN) & (truth == Tissue.AIR)).sum() < 0.01 * scalp.sum()
    assert (whole[truth == Tissue.BONE] == Tissue.AIR).float().mean() > 0.95
