"""A mask of another program finds its scan by its name."""

import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.review.mask_names import match_masks

SCANS = {
    "sub-01_ses-1": ["/raw/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"],
    "sub-01_ses-1_run-2": ["/raw/sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz"],
    "sub-02_space-orig_desc-brain": ["/raw/sub-02/anat/sub-02_space-orig_desc-brain_T1w.nii.gz"],
    "sub-p7T1": ["/data/p7/T1.nii"],
    "sub-p8T1": ["/data/p8/T1.nii"],
    "sub-head1": ["/data/head1.mgz"],
    "sub-head12": ["/data/head12.mgz"],
    "sub-dicomP01": ["/data/dicom/series"],
}


@pytest.mark.parametrize(
    ("file", "scan"),
    [
        ("sub-01_ses-1_label-lesion_desc-manual_mask.nii.gz", "sub-01_ses-1"),
        ("sub-01_ses-1_run-2_seg-lesions_dseg.nii.gz", "sub-01_ses-1_run-2"),
        ("final/sub-01_ses-1_T1w.nii.gz", "sub-01_ses-1"),
        ("sub-01_ses-1_run-2_T1w edited.nrrd", "sub-01_ses-1_run-2"),
        ("sub-02_space-orig_label-lesion_mask.nii", "sub-02_space-orig_desc-brain"),
        ("p8/T1_lesion.nii.gz", "sub-p8T1"),
        ("sub-p7T1.seg.nrrd", "sub-p7T1"),
        ("head1-mask.mgz", "sub-head1"),
        ("head12.seg.nrrd", "sub-head12"),
        ("sub-dicomP01_corrected.nii.gz", "sub-dicomP01"),
    ],
)
def test_a_name_belongs_to_one_scan(tmp_path, file, scan):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    (tmp_path / "notes.txt").touch()
    assert match_masks(tmp_path, SCANS) == {scan: [tmp_path / file]}


@pytest.mark.parametrize(
    "file", ["sub-01_ses-1_run-3_mask.nii.gz", "sub-01_ses-1_space-MNI152NLin2009aSym_mask.nii", "T1_lesion.nii", "head123.mgz"]
)
def test_a_name_of_no_scan_or_of_several_is_refused(tmp_path, file):
    (tmp_path / file).touch()
    with pytest.raises(UserError, match="belong to no scan, or to several"):
        match_masks(tmp_path, SCANS)


def test_a_mask_has_its_classes_beside_it_and_the_scan_itself_is_no_mask(tmp_path):
    for file in ("sub-01_ses-1_dseg.nii.gz", "sub-01_ses-1_mask.nii.gz", "sub-01_ses-1_T1w.nii.gz"):
        (tmp_path / file).touch()
    scans = {"sub-01_ses-1": [str(tmp_path / "sub-01_ses-1_T1w.nii.gz")]}
    found = match_masks(tmp_path, scans)["sub-01_ses-1"]
    assert [path.name for path in found] == ["sub-01_ses-1_mask.nii.gz", "sub-01_ses-1_dseg.nii.gz"]
    with pytest.raises(UserError, match="which is no folder"):
        match_masks(tmp_path / "none", scans)
