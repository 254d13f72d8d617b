"""FreeSurfer's numbers become tissues; what is no segmentation is refused."""

import pytest
import torch
from monai.data import MetaTensor

from strokelesion.networks import UserError
from strokelesion.transforms.synthesis.tissue_paint import t1_priors
from strokelesion.transforms.synthesis.tissues import FREESURFER, LabelTissuesd, Tissue, is_brain, is_fluid, is_inside_skull

# From FreeSurferColorLUT.txt: number, name there, tissue here.
KNOWN = [
    (0, "Unknown", Tissue.AIR),
    (2, "Left-Cerebral-White-Matter", Tissue.WHITE),
    (42, "Right-Cerebral-Cortex", Tissue.CORTEX),
    (1035, "ctx-lh-insula", Tissue.CORTEX),
    (12175, "ctx_rh_Vis_unk", Tissue.CORTEX),
    (53, "Right-Hippocampus", Tissue.HIPPOCAMPUS),
    (16, "Brain-Stem", Tissue.STEM),
    (77, "WM-hypointensities", Tissue.HYPOINTENSE),
    (43, "Right-Lateral-Ventricle", Tissue.VENTRICLE),
    (24, "CSF", Tissue.CSF),
    (515, "bone (SynthSeg)", Tissue.BONE),
    (19999, "nothing", Tissue.UNKNOWN),
]


def labels_of(values, **options):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    return {"labels": MetaTensor(torch.tensor(values, **options).reshape(1, 1, 2, -1), affine=affine)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int16])
def test_freesurfer_numbers_become_tissues_in_bytes_with_their_affine(dtype):
    sample = labels_of([number for number, _, _ in KNOWN], dtype=dtype)
    labeled = LabelTissuesd("labels")(sample)["labels"]
    assert labeled.flatten().tolist() == [int(tissue) for _, _, tissue in KNOWN]
    assert labeled.dtype == torch.uint8
    assert torch.equal(labeled.affine, sample["labels"].affine)
    assert sample["labels"].flatten().tolist() == [number for number, _, _ in KNOWN]
    assert torch.equal(LabelTissuesd("labels")({"labels": sample["labels"].as_tensor()})["labels"], labeled)  # without affine


def test_no_number_stands_for_two_tissues():
    numbers = [number for group in FREESURFER.values() for number in group]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([2, -1], "run from -1 to 2; expected FreeSurfer's"),
        ([2, 20000], "run from 2 to 20000"),
        ([2.0, 0.5], "whole numbers"),
        ([3, 42], "no white matter"),
        ([0, 1], "no white matter"),
    ],
)
def test_what_is_no_segmentation_of_a_brain_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        LabelTissuesd("labels")(labels_of(values))


def test_brain_lies_inside_the_skull_and_fluid_in_it():
    every = torch.tensor(list(Tissue))
    brain, inside, fluid = (
        {Tissue(int(code)) for code in every[where(every)]} for where in (is_brain, is_inside_skull, is_fluid)
    )
    assert inside - brain == {Tissue.CSF}
    assert fluid == {Tissue.CSF, Tissue.VENTRICLE}
    assert brain & fluid == {Tissue.VENTRICLE}
    assert {Tissue.WHITE, Tissue.STEM, Tissue.CHOROID} < brain
    assert not inside & {Tissue.AIR, Tissue.BONE, Tissue.SKIN, Tissue.UNKNOWN}


def test_the_installed_intensities_are_those_of_a_t1_and_say_where_they_come_from():
    table = t1_priors()
    assert list(table.index) == [tissue.name for tissue in Tissue if tissue != Tissue.AIR]
    mean = table["mean"]
    assert mean["WHITE"] == pytest.approx(1, abs=0.03)
    assert mean["CSF"] < mean["CHOROID"] < mean["CORTEX"] < mean["THALAMUS"] < mean["WHITE"]
    assert mean["BONE"] < mean["CORTEX"] < mean["MARROW"]
    assert (table["sd_within"] > 0).all()
    assert table["source"].str.match("measured on|chosen by hand|as VENTRICLE").all()
