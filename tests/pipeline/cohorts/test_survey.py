"""Each release is recognized from its tree, and what cannot be one honest cohort is refused with the files named."""

import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import ALMOST_ONE, RELEASES
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from strokelesion.pipeline.cohorts.layouts import LAYOUTS
from strokelesion.pipeline.cohorts.metadata import identifier
from strokelesion.pipeline.cohorts.records import LINK_COLUMNS, Record, link_persons
from strokelesion.pipeline.cohorts.survey import CohortError, read_cohort, survey_cohort


def one(folder, pattern):
    return sorted(folder.rglob(pattern))[0]


@pytest.mark.parametrize("release", RELEASES)
def test_each_release_is_recognized_with_all_its_files_on_one_grid_and_its_metadata(release_dir, release):
    folder = release_dir(release, subjects=5)
    records = read_cohort(folder)
    assert records == read_cohort(folder.parent) == read_cohort(f"{folder}/")
    assert {record["release"] for record in records} == {release.split()[0]}
    assert len({record["subject"] for record in records}) == 5
    # R2.0's first subject is called as R1.1 does, whether that lies beside it or not.
    names = {"sub-r001s001": "031768"} if release == "R2.0" else {}
    assert [record["person"] for record in records] == [names.get(r["subject"], r["subject"]) for r in records]
    for record in records:
        image, *masks = map(nib.load, (record["image"], record["main_mask"], *record.get("sub_masks", [])))
        for mask in masks:
            np.testing.assert_array_equal(mask.affine, image.affine)
            assert mask.shape == image.shape[:3]
        assert record["subject"].lstrip("0") in " ".join(map(str, record["metadata"].values()))
        assert {type(cell) for cell in record["metadata"].values()} <= {str, int, float}


@pytest.mark.parametrize(
    ("release", "scans"),
    [
        ("R1.1", ["Site1 031768 t01", "Site1 031768 t02", "Site2 031769 t02", "Site3 031770 t01"]),
        ("R1.2", ["c0003 c0003s0001 t01", "c0003 c0003s0001 t02", "c0004 c0004s0002 t02", "c0005 c0005s0003 t01"]),
        ("R2.0", ["R001 sub-r001s001 ses-1", "R002 sub-r002s002 ses-1", "R003 sub-r003s003 ses-1"]),
        ("R3.0", ["R001_center sub-r001s001 ses-1", "R002 sub-r002s002 ses-1", "R039_center sub-r039s003 ses-1"]),
        ("BIDS", ["north sub-01 ", "north sub-02 ses-a", "north sub-02 ses-b", "unknown sub-03 "]),
    ],
)
def test_records_are_sorted_with_their_sessions_and_the_site_of_the_folder_or_of_the_table(release_dir, release, scans):
    records = read_cohort(release_dir(release, subjects=3))
    assert [f"{record['site']} {record['subject']} {record['session']}" for record in records] == scans


@pytest.mark.parametrize(("release", "site"), [("R1.1", "Site1"), ("R1.2", "c0003"), ("R3.0", "R001")])
def test_the_folder_of_one_site_can_be_read_alone(release_dir, release, site):
    records = read_cohort(release_dir(release, subjects=4) / site)
    assert {record["subject"][-1] for record in records} == ({"8", "1"} if release == "R1.1" else {"1", "4"})


@pytest.mark.parametrize("release", ["R1.1", "R1.2", "R1.2 native"])
def test_main_mask_has_no_number_and_all_others_are_sub_masks(release_dir, release):
    folder = release_dir(release, subjects=3)
    space = "" if release == "R1.2 native" else "_stx"
    second = one(folder, f"*_LesionSmooth_2{space}.nii.gz")
    shutil.copy(second, str(second).replace("_2", "_11"))
    last = read_cohort(folder)[-1]
    assert last["main_mask"].endswith(f"_LesionSmooth{space}.nii.gz")
    names = {Path(path).name.split("LesionSmooth_")[1] for path in last["sub_masks"]}
    assert names == {f"{number}{space}.nii.gz" for number in (1, 2, 11)}
    assert "sub_masks" not in read_cohort(folder)[0]


def test_testing_scans_of_r20_are_skipped_with_one_line_and_hidden_files_without(release_dir, caplog):
    folder = release_dir("R2.0", subjects=3)
    table = one(folder, "*MetaData*")
    table.with_name(f"._{table.name}").write_bytes(b"\0\5\x16\7")
    with caplog.at_level(logging.INFO):
        records = read_cohort(folder)
    assert [record["image"] for record in read_cohort(folder / "Training")] == [record["image"] for record in records]
    assert len(caplog.records) == 1
    assert "Skipped" in caplog.text


def test_standard_space_wins_over_native_space_and_this_is_logged(release_dir, caplog):
    standard = read_cohort(release_dir("R1.2", subjects=3))
    folder = release_dir("R1.2 native", subjects=3)
    with caplog.at_level(logging.INFO):
        assert read_cohort(folder) == standard
    assert "skipped 4 scans" in caplog.text


def test_a_training_scan_without_mask_is_refused_even_below_a_folder_named_testing(release_dir, tmp_path):
    folder = tmp_path / "Testing" / "ATLAS_2"
    shutil.copytree(release_dir("R2.0", subjects=3), folder)
    one(folder, "*_mask.nii.gz").unlink()
    with pytest.raises(CohortError, match=r"1 T1w scans without .*\n.*Training"):
        read_cohort(folder)


def test_metadata_of_r11_meets_the_scan_in_spite_of_its_integers_and_spaces(release_dir):
    records = read_cohort(release_dir("R1.1", subjects=3))
    rows = [(r["metadata"]["INDI Subject ID"], r["metadata"]["Session"], r["session"]) for r in records]
    assert rows == [(31768, "t01", "t01"), (31768, "t02", "t02"), (31769, "t02", "t02"), (31770, "t01", "t01")]
    assert "Notes" not in records[0]["metadata"], "empty cells are left out"


def test_a_table_with_a_header_only_and_a_missing_table_leave_no_metadata(release_dir):
    folder = release_dir("R3.0", subjects=3)
    first, second, third = sorted(folder.rglob("*_metadata.csv"))
    first.write_text("ATLAS2_DATASET,SESSION_ID,DAYS_POST_STROKE,CHRONICITY,SITE\n")
    second.unlink()
    third.write_text(f"SITE,SESSION_ID\nSOOP,{third.name.removesuffix('_metadata.csv')}\n", encoding="utf-8-sig")
    records = read_cohort(folder)
    assert ["metadata" in record for record in records] == [False, False, True]
    assert [record["site"] for record in records] == ["R001", "R002", "SOOP"]


def test_bids_masks_are_found_among_the_derivatives_but_brain_masks_and_preprocessed_scans_are_none(release_dir, tmp_path):
    folder = tmp_path / "derivatives" / "mine"
    shutil.copytree(release_dir("BIDS", subjects=2), folder)
    records = read_cohort(folder)
    assert ["derivatives/lesions" in record["main_mask"] for record in records] == [False, True, True]
    assert all(record["session"] in record["main_mask"] for record in records)
    preprocessed = folder / "derivatives" / "fmriprep" / "sub-01" / "anat"
    preprocessed.mkdir(parents=True)
    for name in ("sub-01_desc-preproc_T1w.nii.gz", "sub-01_desc-brain_mask.nii.gz"):
        (preprocessed / name).touch()
    assert read_cohort(folder) == records


def as_bids(folder, *names, table=None):
    """Write an empty BIDS data set: files of `names`, and a T1 for each of their subjects."""
    for name in names:
        path = folder / name
        subject = path.name.split("_")[0]
        for file in (path, folder / subject / "anat" / f"{subject}_T1w.nii.gz"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    if table is not None:
        (folder / "participants.tsv").write_text(table)
    return folder


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["sub-01_label-lesion_roi", "sub-01_desc-ribbon_mask", "sub-01_mod-T1w_defacemask"], "sub-01_label-lesion_roi"),
        (["sub-01_T2w_desc-lesion_mask", "sub-01_desc-lesion_mask"], "sub-01_desc-lesion_mask"),
        (["sub-01_space-MNI_label-L_mask", "sub-01_label-L_mask"], "sub-01_label-L_mask"),
        (["sub-01_T2w_desc-lesion_mask"], "sub-01_T2w_desc-lesion_mask"),
    ],
)
def test_of_several_masks_the_lesion_on_t1_is_taken_and_the_others_are_left_out_by_name(tmp_path, caplog, names, chosen):
    folder = as_bids(tmp_path, *(f"derivatives/masks/sub-01/anat/{name}.nii.gz" for name in names))
    with caplog.at_level(logging.INFO):
        (record,) = read_cohort(folder)
    assert Path(record["main_mask"]).name == f"{chosen}.nii.gz"
    left_out = [Path(path).name.removesuffix(".nii.gz") for path in survey_cohort(folder).left_out]
    assert left_out == sorted({*names} - {chosen})
    assert not left_out or f"Left out {len(left_out)} masks" in caplog.text


def test_a_scan_with_masks_of_other_things_alone_is_refused_with_their_names(tmp_path):
    folder = as_bids(
        tmp_path, "sub-01/anat/sub-01_mod-T1w_defacemask.nii.gz", "derivatives/x/sub-02/anat/sub-02_desc-ribbon_mask.nii.gz"
    )
    with pytest.raises(CohortError, match="2 T1w scans without a main lesion mask") as error:
        read_cohort(folder)
    assert "2 masks that are the only ones of their scan and do not say that they show the lesion" in str(error.value)
    assert str(folder / "sub-01/anat/sub-01_mod-T1w_defacemask.nii.gz") in str(error.value)
    assert "label-lesion" in str(error.value)


def test_masks_of_two_raters_are_refused_by_name(tmp_path):
    names = [f"derivatives/masks/sub-01/anat/sub-01_label-L_desc-rater{number}_mask.nii.gz" for number in (1, 2)]
    with pytest.raises(CohortError, match=r"2 T1w scans or main masks share their session") as error:
        read_cohort(as_bids(tmp_path, *names))
    assert all(name in str(error.value) for name in names)


TWO = [f"sub-0{number}/anat/sub-0{number}_label-lesion_mask.nii.gz" for number in (1, 2)]


def test_a_table_in_which_no_row_names_a_scan_is_refused_with_its_columns(tmp_path):
    folder = as_bids(tmp_path, *TWO, table="code\tsite\nA7\tnorth\nA8\tsouth\n")
    with pytest.raises(CohortError, match=r"1 tables in which no row names a scan") as error:
        read_cohort(folder)
    assert "its first columns are code, site" in str(error.value)


def test_scans_that_a_table_misses_and_a_missing_column_of_sites_are_said_with_the_consequence(tmp_path, caplog):
    records = read_cohort(as_bids(tmp_path, *TWO, table="participant_id\tage\n1\t50\n"))
    assert ["metadata" in record for record in records] == [True, False]
    assert {record["site"] for record in records} == {"unknown"}
    assert "1 tables without a column of sites" in caplog.text
    assert "All scans count as of one site" in caplog.text
    assert "1 scans without a row in the table:\n  " + records[1]["image"] in caplog.text


def test_two_links_to_one_scan_are_one_scan(tmp_path):
    folder = as_bids(tmp_path / "data", *TWO)
    scan = folder / "sub-01/anat/sub-01_T1w.nii.gz"
    scan.with_name("sub-01_run-1_T1w.nii.gz").symlink_to(scan)
    assert len(read_cohort(folder)) == 2


def test_symbolic_links_are_followed_and_not_resolved(release_dir, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    for site in release_dir("R1.1", subjects=2).glob("Site*"):
        (folder / site.name).symlink_to(site, target_is_directory=True)
    linked = tmp_path / "linked"
    linked.symlink_to(folder, target_is_directory=True)
    images = [record["image"] for record in read_cohort(linked)]
    assert len(images) == 3
    assert all(image.startswith(f"{linked}/Site") for image in images)


def test_an_unknown_tree_is_answered_with_the_known_layouts_and_what_was_found(tmp_path):
    (tmp_path / "patient_7.nii.gz").touch()
    with pytest.raises(CohortError, match="nowhere is not a folder"):
        read_cohort(tmp_path / "nowhere")
    with pytest.raises(CohortError) as error:
        read_cohort(tmp_path)
    for text in [*(layout.example for layout in LAYOUTS), "patient_7.nii.gz", str(tmp_path)]:
        assert text in str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.release)
def test_the_example_of_each_layout_is_a_t1_of_that_layout(tmp_path, layout):
    scan = tmp_path / layout.example
    scan.parent.mkdir(parents=True)
    scan.touch()
    with pytest.raises(CohortError, match="1 T1w scans without a main lesion mask"):
        read_cohort(tmp_path)


def test_missing_masks_and_missing_scans_come_in_one_message_with_a_count(release_dir):
    folder = release_dir("R2.0", subjects=24)
    masks = sorted(folder.rglob("*_mask.nii.gz"))
    scans = sorted((folder / "Training").rglob("sub-*_T1w.nii.gz"))
    for path in [*masks[:12], *scans[12:14]]:
        path.unlink()
    with pytest.raises(CohortError) as error:
        read_cohort(folder)
    message = str(error.value)
    assert "12 T1w scans without a main lesion mask" in message
    assert "… and 2 more" in message
    assert masks[9].name.split("_")[0] in message
    assert masks[10].name.split("_")[0] not in message
    assert "2 lesion masks without a T1w scan" in message
    assert str(masks[12]) in message


@pytest.mark.parametrize(
    ("file", "rival"),
    [
        ("sub-01_label-lesion_mask.nii", "sub-01_label-lesion_desc-second_mask.nii"),
        ("sub-01_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz"),
    ],
)
def test_rival_files_of_one_session_are_refused_by_name(release_dir, file, rival):
    folder = release_dir("BIDS", subjects=2)
    shutil.copy(one(folder, file), one(folder, file).with_name(rival))
    with pytest.raises(CohortError, match="2 T1w scans or main masks share their session") as error:
        read_cohort(folder)
    assert file in str(error.value)
    assert rival in str(error.value)


def rename_columns(table):
    pd.read_excel(table).rename(columns=lambda name: name.replace("Subject ID", "Subject")).to_excel(table, index=False)


@pytest.mark.parametrize("damage", [Path.unlink, rename_columns])
def test_without_a_table_that_links_persons_two_releases_are_refused(release_dir, damage):
    folder = release_dir("R1.1", subjects=3).parent
    damage(one(release_dir("R2.0", subjects=3), "*.xlsx"))
    with pytest.raises(CohortError, match="may be in two releases"):
        read_cohort(folder)


@pytest.mark.parametrize("pair", [("R1.1", "R1.2"), ("R2.1", "R1.2"), ("R1.1", "R3.0")])
def test_two_releases_of_which_no_table_says_who_is_who_are_refused(release_dir, pair):
    folder, _ = (release_dir(release, subjects=2).parent for release in pair)
    with pytest.raises(CohortError, match=r"[456] scans of persons who may be in two releases") as error:
        read_cohort(folder)
    assert "--dataset_dir" in str(error.value)


def test_numbers_of_subjects_have_six_digits_whether_a_table_holds_them_as_number_or_as_text():
    assert [identifier(cell) for cell in (31768, "31768", "031768", "c0003s0001", "sub-1_ses-1")] == [
        "031768",
        "031768",
        "031768",
        "c0003s0001",
        "sub-1ses-1",
    ]


@pytest.mark.parametrize(("first", "subject"), [("R1.1", "031768"), ("R1.2", "c0003s0001")])
def test_a_person_whom_the_table_links_over_two_releases_bears_one_name(release_dir, caplog, first, subject):
    release_dir(first, subjects=3)
    with caplog.at_level(logging.INFO):
        records = read_cohort(release_dir("R2.0", subjects=3).parent)
    # Two sessions of R1.x, and the one scan of R2.0 linked to it by a column whose gaps make it floats.
    assert [record["subject"] for record in records if record["person"] == "031768"] == [subject, subject, "sub-r001s001"]
    assert "6 subjects are 5 persons" in caplog.text


@pytest.mark.parametrize("pair", [("R2.0", "R3.0"), ("R2.1", "R3.0")])
def test_later_releases_call_the_same_person_by_the_same_name(release_dir, pair):
    folder, _ = (release_dir(release, subjects=2).parent for release in pair)
    records = read_cohort(folder)
    releases = {person: [r["release"] for r in records if r["person"] == person] for person in {r["person"] for r in records}}
    assert sorted(releases.values()) == [list(pair)] * 2


@given(st.lists(st.sets(st.integers(0, 15), min_size=1, max_size=3), max_size=25), st.randoms())
def test_scans_connected_by_shared_names_are_one_person_in_any_order(names, random):
    def record(subject, *linked):
        row = {column: f"{number:06d}t01" for column, number in zip(LINK_COLUMNS, linked, strict=False)}
        name = f"{subject:06d}"
        return Record(image="", main_mask="", subject=name, person=name, session="", site="", release="R2.0", metadata={**row})

    records = [record(*scan) for scan in names]
    graph = np.zeros((16, 16), dtype=bool)
    for scan in names:
        graph[np.ix_(list(scan), list(scan))] = True
    component = connected_components(graph, directed=False)[1]
    expected = {f"{i:06d}": f"{np.flatnonzero(component == component[i])[0]:06d}" for i in range(16)}
    random.shuffle(records)
    assert [r["person"] for r in link_persons(records)] == [expected[r["subject"]] for r in records]
    assert all(r["person"] == r["subject"] for r in records), "what came is left as it was"


def test_miniature_masks_hold_the_integer_trap(release_dir):
    values = [
        np.unique(nib.load(record["main_mask"]).get_fdata()) / ALMOST_ONE
        for record in read_cohort(release_dir("R1.1", subjects=3))
    ]
    assert [set(np.round(levels)) for levels in values[1:]] == [{0, 1}, {0, 255}, {0, 1, 2, 253, 254, 255}]
    assert values[0].astype(int).max() == 1
    assert (values[0] * ALMOST_ONE).astype(int).max() == 0
