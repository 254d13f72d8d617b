"""Names of files: which masks show a lesion, and on which image they were drawn."""

import pytest

from strokelesion.pipeline.cohorts.layouts import drawn_elsewhere, identify_file, names_lesion

# fmt: off
LESIONS = [
    "label-L_mask", "label-lesion_mask", "label-lesion_roi", "T1w_label-lesion_roi", "label-L_desc-rater1_mask",
    "desc-T1lesion_mask", "space-orig_label-lesion_desc-T1lesion_mask", "acq-tfl3_run-3_T2w_desc-lesion_mask",
    "space-T1w_desc-lesion_dseg", "lesion", "lesion_mask", "LESION_MASK", "manual-lesion_mask",
    "desc-manualLesion_mask", "label-stroke_mask", "desc-infarct_mask", "lesion_seg", "stroke",
    "desc-stroke_mask", "lesionmask", "roi",
    "T1w_roi",
]
OTHERS = [
    "mod-T1w_defacemask", "defacemask", "mask", "desc-brain_mask", "desc-ribbon_mask", "label-WM_mask",
    "label-GM_desc-lesion_mask", "dseg", "desc-aparcaseg_dseg", "label-brain_mask",
    "acq-lesion_desc-brain_mask", "task-lesion_mask", "label-lesion_probseg", "label-CSF_probseg",
    "desc-nonlesion_mask", "no_lesion_mask", "desc-perilesion_mask", "desc-contralesional_mask", "label-lesionfree_mask",
    "label-cerebellum_roi", "motor_roi", "atlas-AAL_roi", "desc-motor_roi", "desc-second_mask", "acq-stroke_mask",
]
# fmt: on


@pytest.mark.parametrize("name", LESIONS)
@pytest.mark.parametrize("folder", ["", "ses-1/anat/", "derivatives/manual/sub-01/anat/"])
def test_a_lesion_mask_is_recognized_by_what_its_name_says(name, folder):
    assert names_lesion(name)
    layout, kind, groups = identify_file(f"study/{folder}sub-01_ses-1_{name}.nii.gz")
    assert (layout.release, kind, groups["subject"], groups["session"]) == ("BIDS", "mask", "sub-01", "ses-1")


@pytest.mark.parametrize("name", OTHERS)
def test_a_mask_of_something_else_is_not_taken_for_a_lesion(name):
    assert not names_lesion(name)
    _, kind, _ = identify_file(f"study/derivatives/x/sub-01/anat/sub-01_{name}.nii.gz")
    assert kind == "other"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("study/sub-01/anat/sub-01_T1w.nii.gz", "t1"),
        ("study/sub-01/anat/sub-01_desc-lesionfilled_T1w.nii.gz", "t1"),
        ("sourcedata/sub-01/anat/sub-01_T1w.nii.gz", "t1"),
        ("study/participants.tsv", "table"),
        ("study/participants.csv", "table"),
        ("study/sourcedata/sub-01/anat/sub-01_T1w.nii.gz", None),
        ("study/derivatives/fmriprep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz", None),
        ("study/derivatives/fmriprep/participants.tsv", None),
        ("study/sub-01/anat/sub-01_T2w.nii.gz", None),
        ("study/sub-01/anat/sub-01_label-lesion_mask.mgz", "mask"),
        ("study/derivatives/sub-01/anat/sub-01_space-orig_seg-lesions_desc-x_dseg.nii.gz", None),
    ],
)
def test_scans_and_tables_are_raw_and_masks_are_anywhere(path, kind):
    assert (identify_file(path) or (None, None, None))[1] == kind


@pytest.mark.parametrize(
    ("mask", "is_elsewhere"),
    [
        ("anat/sub-01_label-lesion_mask.nii.gz", False),
        ("anat/sub-01_T1w_label-lesion_roi.nii.gz", False),
        ("anat/sub-01_space-T1w_label-lesion_mask.nii.gz", False),
        ("anat/sub-01_space-orig_label-L_desc-T1lesion_mask.nii.gz", False),
        ("anat/sub-01_T2w_desc-lesion_mask.nii.gz", True),
        ("anat/sub-01_FLAIR_label-lesion_mask.nii.gz", True),
        ("anat/sub-01_acq-FLAIR_label-lesion_mask.nii.gz", True),
        ("anat/sub-01_desc-T2lesion_mask.nii.gz", True),
        ("anat/sub-01_desc-T1lesion_mask.nii.gz", False),
        ("dwi/sub-01_label-lesion_mask.nii.gz", True),
        ("anat/sub-01_space-MNI152NLin2009cAsym_label-lesion_mask.nii.gz", True),
    ],
)
def test_a_name_says_on_which_image_a_mask_was_drawn(mask, is_elsewhere):
    assert drawn_elsewhere(mask, "anat/sub-01_T1w.nii.gz") == is_elsewhere


def test_a_mask_in_the_space_of_its_scan_was_drawn_on_it():
    space = "anat/sub-01_space-MNI152NLin2009cAsym"
    assert not drawn_elsewhere(f"{space}_label-lesion_mask.nii.gz", f"{space}_T1w.nii.gz")
