"""Images that were made of a scan, or are parts of it, are no scans beside it; alone they are."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.finding.scans import find_scans

# A scan, and what is left out beside it.
PROCESSED = {
    "SPM": "T1.nii c1T1.nii rc2T1.nii mwc1T1.nii u_rc1T1.nii y_T1.nii iy_T1.nii BiasField_T1.nii s8wT1.nii",
    "SPM in BIDS": "sub-01_T1w.nii.gz c1sub-01_T1w.nii wmsub-01_T1w.nii y_sub-01_T1w.nii",
    "CAT12": "T1.nii mri/p0T1.nii mri/mwp1T1.nii mri/wmT1.nii",
    "FSL": "T1.nii.gz T1_brain.nii.gz T1_brain_pve_0.nii.gz T1_fast_bias.nii.gz T1_to_MNI_lin.nii.gz T1_orig.nii.gz",
    "ANTs and HD-BET": "T1.nii.gz T1_BrainExtractionBrain.nii.gz T1_N4.nii.gz T1_bet.nii.gz",
    "dcm2niix": "5_T1.nii.gz 5_T1_ph.nii.gz 5_T1_real.nii.gz 5_T1_Crop_1.nii.gz 5_T1_ROI1.nii.gz",
    "dcm2niix of uneven slices": "5_T1_Eq_1.nii.gz 5_T1.nii.gz",
    "combined echoes": "sub-1_rec-RMS_T1w.nii sub-1_echo-1_T1w.nii sub-1_echo-2_T1w.nii",
    "echoes": "sub-1_acq-me_echo-1_T1w.nii sub-1_acq-me_echo-2_T1w.nii sub-1_acq-me_echo-10_T1w.nii",
}


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("names", PROCESSED.values(), ids=PROCESSED)
def test_what_belongs_to_a_scan_is_left_out_beside_it_and_taken_alone(tmp_path, names):
    scan, *others = names.split()
    write(tmp_path, scan, *others)
    found = find_scans(tmp_path)
    assert [item["image"] for item in found] == [str(tmp_path / scan)]
    assert sorted(path for path, _ in found.left_out) == sorted(str(tmp_path / other) for other in others)
    assert [item["image"] for item in find_scans(tmp_path / others[0])] == [str(tmp_path / others[0])]


def test_parts_of_a_complex_image_are_no_scans_even_if_they_are_named(tmp_path):
    write(tmp_path, *(f"sub-1_part-{part}_T1w.nii" for part in ("imag", "mag", "phase", "real")))
    found = find_scans(tmp_path)
    assert [Path(item["image"]).name for item in found] == ["sub-1_part-mag_T1w.nii"]
    assert [reason for _, reason in found.left_out] == ["not the magnitude"] * 3
    with pytest.raises(UserError, match="not the magnitude"):
        find_scans(tmp_path / "sub-1_part-real_T1w.nii")


@pytest.mark.parametrize(
    "names",
    ["T1.nii 2T1.nii", "P01_T1.nii P02_T1.nii", "1.nii s1.nii", "T1.nii T1_fast.nii", "T1_e1.nii T1_e2.nii", "T1.nii T1_2.nii"],
)
def test_names_that_are_only_alike_are_scans(tmp_path, names):
    write(tmp_path, *names.split())
    assert len(find_scans(tmp_path)) == 2


def test_echoes_of_dcm2niix_are_known_by_their_sidecars(tmp_path):
    write(tmp_path, "T1_e1.nii", "T1_e2.nii")
    for echo in (1, 2):
        (tmp_path / f"T1_e{echo}.json").write_text(json.dumps({"EchoNumber": echo, "EchoTime": 0.002 * echo}))
    found = find_scans(tmp_path)
    assert [Path(item["image"]).name for item in found] == ["T1_e1.nii"]
    assert found.left_out == [(str(tmp_path / "T1_e2.nii"), "a later echo; T1_e1.nii is taken")]


def test_a_packed_and_an_unpacked_file_of_one_scan_are_taken_once(tmp_path):
    nib.save(nib.Nifti1Image(np.arange(504, dtype=np.int16).reshape(7, 8, 9), np.eye(4)), tmp_path / "T1.nii")
    content = (tmp_path / "T1.nii").read_bytes()
    (tmp_path / "T1.nii.gz").write_bytes(gzip.compress(content))
    found = find_scans(tmp_path)
    assert [item["image"] for item in found] == [str(tmp_path / "T1.nii")]
    assert found.left_out == [(str(tmp_path / "T1.nii.gz"), "the same as T1.nii")]
    (tmp_path / "T1.nii.gz").write_bytes(gzip.compress(content[:-1] + b"\7"))
    with pytest.raises(UserError, match="would write the same mask"):
        find_scans(tmp_path)
