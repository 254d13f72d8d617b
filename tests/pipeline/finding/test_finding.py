"""Which files of a folder are scans in the layouts that people have, and what is said of the others."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.finding.candidates import MOST_LABELS
from strokelesion.pipeline.finding.scans import find_scans
from strokelesion.pipeline.lesions.plausibility import doubts_of_item

SHAPE = (9, 7, 8)


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_values(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values, np.float32), np.eye(4)), path)


def names_in(folder, scans="", take="t1w"):
    """Return the paths of the scans of a folder, and reasons by path of what is left out, both below the folder."""
    found = find_scans(folder / scans, take=take)
    taken = [Path(item["image"]).relative_to(folder).as_posix() for item in found]
    return taken, {Path(path).relative_to(folder).as_posix(): reason for path, reason in found.left_out}


def test_derivatives_and_sources_are_passed_over_unless_they_are_named(tmp_path):
    write(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sourcedata/sub-01/anat/sub-01_acq-raw_T1w.nii.gz", ".git/x_T1w.nii.gz")
    write(
        tmp_path, "derivatives/fmriprep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz", "masks/sub-01/anat/sub-01_desc-x_T1w.nii"
    )
    for derived in ("derivatives/fmriprep", "masks"):
        about = tmp_path / derived / "dataset_description.json"
        about.write_text(json.dumps({"DatasetType": "derivative"}))
    taken, left_out = names_in(tmp_path)
    assert taken == ["sub-01/anat/sub-01_T1w.nii.gz"]
    assert set(left_out) == {"derivatives", "sourcedata", "masks"}
    assert all("name it to take them" in reason for reason in left_out.values())
    for named in ("derivatives", "derivatives/fmriprep"):
        assert len(names_in(tmp_path, named)[0]) == 1


def test_all_takes_what_has_another_name_beside_t1w(tmp_path):
    write(tmp_path, "sub-1_T1w.nii.gz", "anatomy.nii.gz", "anatomy_mask.nii.gz")
    assert names_in(tmp_path)[0] == ["sub-1_T1w.nii.gz"]
    taken, left_out = names_in(tmp_path, take="all")
    assert taken == ["anatomy.nii.gz", "sub-1_T1w.nii.gz"]
    assert left_out == {"anatomy_mask.nii.gz": "a mask or map by its name"}


def test_freesurfer_subjects_give_one_t1_each(tmp_path):
    write(tmp_path, *(f"s1/mri/{name}.mgz" for name in ("T1", "orig", "aseg", "ribbon", "orig/001")), "s1/surf/lh.white")
    write(tmp_path, "s2/mri/orig.mgz", "s2/mri/aparc+aseg.mgz", "fsaverage/mri/T1.mgz")
    taken, left_out = names_in(tmp_path)
    assert taken == ["s1/mri/T1.mgz", "s2/mri/orig.mgz"]
    assert left_out["s1/mri"] == "other images of a FreeSurfer subject; T1.mgz is taken"
    assert "template" in left_out["fsaverage"]


def test_nnunet_gives_the_first_channel_of_its_images(tmp_path):
    write(tmp_path, *(f"images{part}/case_01_{channel}.nii.gz" for part in ("Tr", "Ts") for channel in ("0000", "0001")))
    write(tmp_path, "labelsTr/case_01.nii.gz", "dataset.json")
    taken, left_out = names_in(tmp_path)
    assert taken == ["imagesTr/case_01_0000.nii.gz", "imagesTs/case_01_0000.nii.gz"]
    assert left_out["labelsTr"] == "holds label maps of nnU-Net; name it to take them"
    assert left_out["imagesTr/case_01_0001.nii.gz"] == "a channel of nnU-Net other than the first"


def test_links_are_followed_once_and_without_loops(tmp_path):
    write(tmp_path, "store/sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "project").mkdir()
    os.symlink(tmp_path / "store/sub-01", tmp_path / "project/sub-01")
    os.symlink(tmp_path / "project", tmp_path / "project/loop")
    assert names_in(tmp_path, "project")[0] == ["project/sub-01/anat/sub-01_T1w.nii.gz"]
    assert len(names_in(tmp_path)[0]) == 1


def test_every_bids_entity_makes_a_scan_of_its_own_and_other_contrasts_are_left_out(tmp_path):
    entities = ("run-1", "run-2", "ce-gadolinium", "acq-highres", "rec-norm")
    write(tmp_path, *(f"sub-01/anat/sub-01_{entity}_T1w.nii.gz" for entity in entities), "sub-01/anat/sub-01_T2w.nii.gz")
    write(tmp_path, "sub-01/anat/sub-01_part-phase_T1w.nii.gz")
    taken, left_out = names_in(tmp_path)
    assert len(taken) == len(entities)
    assert sorted(left_out.values()) == [
        "its name does not end with _T1w, and others do; --take all takes it",
        "not the magnitude",
    ]


def test_a_subject_whose_only_t1_is_an_mp2rage_is_taken_beside_those_with_a_t1w(tmp_path):
    write(tmp_path, *(f"sub-01/anat/sub-01_{suffix}.nii.gz" for suffix in ("T1w", "UNIT1")), "sub-02/anat/sub-02_UNIT1.nii.gz")
    taken, left_out = names_in(tmp_path)
    assert taken == ["sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_UNIT1.nii.gz"]
    assert list(left_out) == ["sub-01/anat/sub-01_UNIT1.nii.gz"]


def test_suffixes_that_are_read_and_others_that_are_mentioned(tmp_path):
    others = ["P1.zip", "P2.tar.gz", "e.nii.bz2", "f.img", "g/h.mnc", "i.nii.gz.part", "j.nii.gz.crdownload", "k.nii.gpg"]
    write(tmp_path, "a.mgh", "b.NII", "c.nhdr", "d.HDR", "d.IMG", "notes.txt", *others)
    (tmp_path / "folder.nii").mkdir()
    taken, left_out = names_in(tmp_path)
    assert taken == ["a.mgh", "b.NII", "c.nhdr", "d.HDR"]
    assert sorted(left_out) == others
    assert left_out["P2.tar.gz"] == "an archive; unpack it to take the scans in it"
    with pytest.raises(UserError, match=r"P1\.zip: an archive; unpack it"):
        find_scans(tmp_path / "P1.zip")


@pytest.mark.parametrize(
    ("name", "values", "is_scan"),
    [
        ("Lesion-001_T1.nii.gz", np.arange(np.prod(SHAPE)), True),
        ("p01_post-lesion.nii.gz", np.arange(np.prod(SHAPE)), True),
        ("p01_lesion.nii.gz", np.arange(np.prod(SHAPE)) % 2, False),
        ("p01_lesion.nii.gz", np.arange(np.prod(SHAPE)) % MOST_LABELS, False),
        ("p01_lesion_map.nii.gz", np.linspace(0, 1, np.prod(SHAPE)), False),
        ("p01_mask.nii.gz", np.arange(np.prod(SHAPE)), False),
    ],
)
def test_a_name_with_lesion_is_decided_by_its_values(tmp_path, name, values, is_scan):
    write_values(tmp_path / "p02.nii.gz", np.arange(np.prod(SHAPE)).reshape(SHAPE))
    write_values(tmp_path / name, values.reshape(SHAPE))
    taken, left_out = names_in(tmp_path)
    assert taken == sorted(["p02.nii.gz", *([name] if is_scan else [])])
    assert set(left_out) == set() if is_scan else {name}
    assert not is_scan or "named like a mask" in "".join(doubts_of_item({"image": str(tmp_path / name)}))


def test_a_lesion_beside_its_scan_is_a_mask_by_its_name(tmp_path):
    write_values(tmp_path / "T1_lesion.nii.gz", np.arange(np.prod(SHAPE)).reshape(SHAPE))
    write(tmp_path, "T1.nii.gz")
    assert names_in(tmp_path) == (["T1.nii.gz"], {"T1_lesion.nii.gz": "a mask or map by its name"})


def test_a_glob_may_name_folders(tmp_path):
    write(tmp_path, "p1/T1.nii.gz", "p2/T1.nii.gz", "q/T1.nii.gz")
    assert names_in(tmp_path, "p*")[0] == ["p1/T1.nii.gz", "p2/T1.nii.gz"]


def test_a_folder_of_no_scans_says_what_it_holds(tmp_path):
    write(tmp_path, "derivatives/sub-01_T1w.nii.gz", "x_mask.nii.gz")
    with pytest.raises(UserError, match=r"found no scan(?s:.*)2 files or folders are left out(?s:.*)x_mask\.nii\.gz: a mask"):
        find_scans(tmp_path)


def test_of_an_atlas_release_only_the_t1s_are_taken(phantom_dir):
    found = find_scans(phantom_dir)
    assert [item["image"] for item in found] == sorted(map(str, phantom_dir.rglob("*t1w*")))
    assert {Path(path).name.split("_")[1] for path, _ in found.left_out} == {"LesionSmooth"}
