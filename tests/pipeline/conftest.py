"""A small scan with two lesions, and the results that it leaves, for tests of outputs."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from small_result import AFFINE, SHAPE, SHIFT

from strokelesion.pipeline.derivatives.result_names import name_scans
from strokelesion.pipeline.inference.results import Results
from strokelesion.transforms import DecideLesionsd
from strokelesion.transforms.registration import Registration


@pytest.fixture
def no_doubts(monkeypatch):
    """The boxes of these tests are no brains; `test_plausibility.py` judges images."""
    monkeypatch.setattr("strokelesion.pipeline.lesions.measuring.doubts_of_image", lambda *_: [])


@pytest.fixture
def item(tmp_path):
    path = tmp_path / "in/sub-01/ses-b/anat/sub-01_ses-b_T1w.nii"
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), path)
    return {"image": str(path)}


@pytest.fixture
def name(item, tmp_path):
    return name_scans([item], tmp_path)[0]


@pytest.fixture
def outcome():
    probability = torch.full((3, *SHAPE), 0.01)
    probability[0] = 0.98
    probability[:, 3:6, 4:7, 2:5] = torch.tensor([0.2, 0.7, 0.1])[:, None, None, None]
    probability[:, 9, 10, 8] = torch.tensor([0.4, 0.1, 0.5])
    affine = torch.from_numpy(AFFINE)
    brain = torch.ones(1, *SHAPE)
    return {
        "pred": MetaTensor(probability, affine=affine),
        "scan": MetaTensor(torch.rand(1, *SHAPE), affine=affine),
        "scan_brain": MetaTensor(brain, affine=affine),
    }


@pytest.fixture
def results(tmp_path):
    """Results whose registration is known."""

    def make(register=lambda *_: Registration(SHIFT, 0.9), weights="w", overwrite=False, **wanted):
        settings = {"weights": weights, "decision": {"threshold": 0.5}}
        return Results(str(tmp_path / "out"), settings, DecideLesionsd("pred"), register, wanted, overwrite)

    return make
