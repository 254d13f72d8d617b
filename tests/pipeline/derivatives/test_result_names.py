"""Names of results: BIDS names keep their entities in BIDS's order, others become subjects, and nobody shares a name."""

import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import CLASSES_MAP, MASK, name_of, name_of_result, name_scans


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("bids/sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_label-lesion_mask.nii.gz"),
        (
            "bids/sub-01/ses-b/anat/sub-01_ses-b_acq-hires_run-2_T1w.nii",
            "sub-01/ses-b/anat/sub-01_ses-b_acq-hires_run-2_label-lesion_mask.nii.gz",
        ),
        ("sub-01_space-orig_desc-n4_T1w.nii.gz", "sub-01/anat/sub-01_space-orig_label-lesion_desc-n4_mask.nii.gz"),
        ("new/head 7.mha", "sub-newhead7/anat/sub-newhead7_label-lesion_mask.nii.gz"),
        ("head_T1w.nii.gz", "sub-head/anat/sub-head_label-lesion_mask.nii.gz"),
        ("new/T1.nii.gz", "sub-newT1/anat/sub-newT1_label-lesion_mask.nii.gz"),
        ("study/P001_3_t1-mprage", "sub-studyP0013t1mprage/anat/sub-studyP0013t1mprage_label-lesion_mask.nii.gz"),
        ("sub-01_sub-02_T1w.nii", "sub-sub01sub02/anat/sub-sub01sub02_label-lesion_mask.nii.gz"),
        ("…/ü.nii", "sub-scan/anat/sub-scan_label-lesion_mask.nii.gz"),
    ],
)
def test_where_the_mask_of_a_scan_lies(path, named):
    assert str(name_of(f"/data/{path}", "/data").path(MASK)) == named


def test_subject_session_and_space():
    name = name_of("/data/sub-01_ses-b_T1w.nii.gz", "/data")
    assert (name.subject, name.session, str(name)) == ("01", "b", "sub-01_ses-b")
    assert name_of("/data/x.nii", "/data").session == ""
    mni = name.path(f"space-MNI152NLin2009aSym_{MASK}")
    assert mni.name == "sub-01_ses-b_space-MNI152NLin2009aSym_label-lesion_mask.nii.gz"


@pytest.mark.parametrize("scan", ["sub-01_ses-b_T1w", "sub-01_acq-x_space-orig_res-1_desc-n4_T1w"])
def test_the_scan_of_a_result_is_known_from_its_name(scan):
    name = name_of(f"/data/{scan}.nii.gz", "/data")
    assert [name_of_result(name.path(file)) for file in (MASK, CLASSES_MAP)] == [name, name]
    if "res" in scan:
        assert name.path(CLASSES_MAP).name == "sub-01_acq-x_space-orig_seg-lesions_res-1_desc-n4_dseg.nii.gz"


def test_scans_that_would_share_a_name_are_refused_by_both_names():
    items = [{"image": "/data/a/1.nii"}, {"image": "/data/a-1.nii"}, {"image": ["x.dcm"], "name": "/data/b/P1_2_t1"}]
    with pytest.raises(UserError, match=r"1 scans have the names of others:\s+/data/a-1\.nii and /data/a/1\.nii: sub-a1"):
        name_scans(items, "/data")
    assert [str(name) for name in name_scans(items[1:], "/data")] == ["sub-a1", "sub-bP12t1"]
