"""The pretrained models find the brain and the lesion of a synthetic head."""

import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from checkout import BUNDLES, ROOT
from lesion_network import dice
from phantom_scan import phantom_scan

from strokelesion.pipeline.models.application import PretrainedBrainExtractor

LESION_DICE, BRAIN_DICE = 0.7, 0.95
VOXEL_MM = 2.0
# A default command in a fresh process, which then names the modules of ITK that it loaded; they take seconds.
SEGMENT = """
import sys
from strokelesion.pipeline.console.command_line import main
main(["segment", "sub-01_T1w.nii.gz", "masks", "--device", "cpu"])
print([name for name in sys.modules if name.startswith("itk.") and name.endswith("Python")])
"""


@pytest.fixture(scope="module")
def head():
    return phantom_scan(VOXEL_MM)


def test_the_lesion_model_finds_the_lesion_and_from_python_it_finds_the_same(head, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nib.save(nib.Nifti1Image(head["image"][0].numpy(), head["image"].affine.numpy()), "sub-01_T1w.nii.gz")
    ended = subprocess.run([sys.executable, "-c", SEGMENT], stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    mask = nib.load("masks/sub-01/anat/sub-01_label-lesion_mask.nii.gz")
    assert dice(mask.get_fdata() > 0, head["lesions"][0].numpy() > 0) >= LESION_DICE

    capsys.readouterr()
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/new_scans.md").read_text(), flags=re.DOTALL)
    names = {}
    exec(example, names)
    found = nib.load("mask.nii.gz")
    np.testing.assert_array_equal(found.dataobj, mask.dataobj)
    assert found.header == mask.header
    volumes = pd.read_csv("masks/volumes.tsv", sep="\t")
    assert names["result"].volumes["total_ml"] == pytest.approx(volumes["total_ml"][0], abs=1e-3)
    assert names["result"].lesions["hemisphere"].tolist() == pd.read_csv("masks/lesions.tsv", sep="\t")["hemisphere"].tolist()
    assert "right" in capsys.readouterr().out


def test_the_brain_model_finds_the_brain(head):
    weights = (BUNDLES / "weights" / f"{name}.safetensors" for name in ("brain", "surface"))
    extract = PretrainedBrainExtractor(*weights, device="cpu")
    assert dice(extract(head["image"]), head["brain"].as_tensor() > 0) >= BRAIN_DICE
