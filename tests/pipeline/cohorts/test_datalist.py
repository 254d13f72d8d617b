"""Every release is recognized from its tree, and what cannot be one honest cohort is refused with the files named."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import ALMOST_ONE, RELEASES
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from strokelesion.pipeline.cohorts.layouts import LAYOUTS, Layout
from strokelesion.pipeline.cohorts.metadata import identifier
from strokelesion.pipeline.cohorts.records import LINK_COLUMNS, Record, link_persons
from strokelesion.pipeline.cohorts.survey import CohortError, read_cohort

ReleaseDir = Callable[..., Path]


def load(path: str) -> nib.Nifti1Image:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def one(folder: Path, pattern: str) -> Path:
    return sorted(folder.rglob(pattern))[0]


@pytest.mark.parametrize("release", RELEASES)
def test_each_release_is_recognized_and_every_file_exists(release_dir: ReleaseDir, release: str) -> None:
    records = read_cohort(release_dir(release, subjects=5))
    assert {record["release"] for record in records} == {release.split()[0]}
    assert len({record["subject"] for record in records}) == 5
    for record in records:
        files = [record["image"], record["main_mask"], *record.get("sub_masks", [])]
        assert all(os.path.isabs(path) and os.path.isfile(path) for path in files)
        assert not any(os.path.basename(path).startswith(".") for path in files)


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_reads_the_same_from_its_folder_and_from_the_one_above(release_dir: ReleaseDir, release: str) -> None:
    folder = release_dir(release, subjects=3)
    assert read_cohort(folder) == read_cohort(folder.parent) == read_cohort(str(folder) + "/")


@pytest.mark.parametrize(("release", "site"), [("R1.1", "Site1"), ("R1.2", "c0003"), ("R3.0", "R001")])
def test_the_folder_of_one_site_can_be_read_alone(release_dir: ReleaseDir, release: str, site: str) -> None:
    records = read_cohort(release_dir(release, subjects=4) / site)
    assert {record["subject"][-1] for record in records} == ({"8", "1"} if release == "R1.1" else {"1", "4"})


@pytest.mark.parametrize("release", ["R1.1", "R1.2", "R2.0"])
def test_hidden_twins_of_tables_are_skipped(release_dir: ReleaseDir, release: str) -> None:
    folder = release_dir(release, subjects=2)
    records = read_cohort(folder)
    table = one(folder, "*ATLAS_*ata*elease*" if release != "R2.0" else "*MetaData*")
    table.with_name(f"._{table.name}").write_bytes(b"\0\5\x16\7")
    assert read_cohort(folder) == records


def test_training_folder_of_r20_reads_as_the_release_without_its_table(release_dir: ReleaseDir) -> None:
    folder = release_dir("R2.0", subjects=3)
    images = [record["image"] for record in read_cohort(folder / "Training")]
    assert images == [record["image"] for record in read_cohort(folder)]


@pytest.mark.parametrize("release", RELEASES)
def test_t1_and_masks_of_a_record_lie_on_one_grid(release_dir: ReleaseDir, release: str) -> None:
    for record in read_cohort(release_dir(release, subjects=5)):
        image = load(record["image"])
        for path in [record["main_mask"], *record.get("sub_masks", [])]:
            mask = load(path)
            np.testing.assert_array_equal(mask.affine, image.affine)
            assert mask.shape == image.shape[:3]
            assert np.count_nonzero(mask.get_fdata() > 0.5 * mask.get_fdata().max()) > 0


def test_records_are_sorted_and_sessions_stay_with_their_subject(release_dir: ReleaseDir) -> None:
    records = read_cohort(release_dir("R1.1", subjects=4))
    scans = [(record["subject"], record["session"]) for record in records]
    assert scans == [("031768", "t01"), ("031768", "t02"), ("031769", "t02"), ("031770", "t01"), ("031771", "t01")]


@pytest.mark.parametrize("release", ["R1.1", "R1.2", "R1.2 native"])
def test_main_mask_has_no_number_and_all_others_are_sub_masks(release_dir: ReleaseDir, release: str) -> None:
    folder = release_dir(release, subjects=3)
    space = "" if release == "R1.2 native" else "_stx"
    second = one(folder, f"*_LesionSmooth_2{space}.nii.gz")
    shutil.copy(second, str(second).replace("_2", "_11"))
    last = read_cohort(folder)[-1]
    assert last["main_mask"].endswith(f"_LesionSmooth{space}.nii.gz")
    names = {Path(path).name.split("LesionSmooth_")[1] for path in last["sub_masks"]}
    assert names == {f"{number}{space}.nii.gz" for number in (1, 2, 11)}
    assert "sub_masks" not in read_cohort(folder)[0]


def test_standard_space_wins_over_native_space_and_this_is_logged(
    release_dir: ReleaseDir, caplog: pytest.LogCaptureFixture
) -> None:
    standard = read_cohort(release_dir("R1.2", subjects=3))
    folder = release_dir("R1.2 native", subjects=3)
    with caplog.at_level(logging.INFO):
        assert read_cohort(folder) == standard
    assert "skipped 4 scans" in caplog.text


def test_testing_scans_of_r20_are_skipped_with_one_line(release_dir: ReleaseDir, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        records = read_cohort(release_dir("R2.0", subjects=3))
    assert all("/Training/" in record["image"] for record in records)
    assert len(caplog.records) == 1
    assert "Testing" in caplog.text


def test_a_training_scan_without_mask_is_refused_even_below_a_folder_named_testing(
    release_dir: ReleaseDir, tmp_path: Path
) -> None:
    folder = tmp_path / "Testing" / "ATLAS_2"
    shutil.copytree(release_dir("R2.0", subjects=3), folder)
    one(folder, "*_mask.nii.gz").unlink()
    with pytest.raises(CohortError, match=r"1 T1w scans without .*\n.*Training"):
        read_cohort(folder)


def test_metadata_of_r11_meets_the_scan_in_spite_of_its_integers_and_spaces(release_dir: ReleaseDir) -> None:
    records = read_cohort(release_dir("R1.1", subjects=3))
    rows = [(r["metadata"]["INDI Subject ID"], r["metadata"]["Session"], r["session"]) for r in records]
    assert rows == [(31768, "t01", "t01"), (31768, "t02", "t02"), (31769, "t02", "t02"), (31770, "t01", "t01")]
    assert "Notes" not in records[0]["metadata"], "empty cells are left out"


@pytest.mark.parametrize("release", RELEASES)
def test_every_scan_of_a_miniature_has_its_metadata_row(release_dir: ReleaseDir, release: str) -> None:
    for record in read_cohort(release_dir(release, subjects=4)):
        cells = " ".join(map(str, record["metadata"].values()))
        assert record["subject"].lstrip("0") in cells


def test_cells_are_plain_python_values(release_dir: ReleaseDir) -> None:
    for release in ("R1.1", "R3.0"):
        for record in read_cohort(release_dir(release, subjects=3)):
            assert {type(cell) for cell in record["metadata"].values()} <= {str, int, float}


def test_a_table_with_a_header_only_and_a_missing_table_leave_no_metadata(release_dir: ReleaseDir) -> None:
    folder = release_dir("R3.0", subjects=3)
    first, second, third = sorted(folder.rglob("*_metadata.csv"))
    first.write_text("ATLAS2_DATASET,SESSION_ID,DAYS_POST_STROKE,CHRONICITY,SITE\n")
    second.unlink()
    third.write_text(f"SITE,SESSION_ID\nSOOP,{third.name.removesuffix('_metadata.csv')}\n", encoding="utf-8-sig")
    records = read_cohort(folder)
    assert ["metadata" in record for record in records] == [False, False, True]
    assert [record["site"] for record in records] == ["R001", "R002", "SOOP"]


@pytest.mark.parametrize(
    ("release", "sites"),
    [
        ("R1.1", ["Site1", "Site1", "Site2", "Site3"]),
        ("R1.2", ["c0003", "c0003", "c0004", "c0005"]),
        ("R2.0", ["R001", "R002", "R003"]),
        ("R3.0", ["R001_center", "R002", "R039_center"]),
        ("BIDS", ["north", "north", "north", "unknown"]),
    ],
)
def test_site_comes_from_the_folder_or_from_the_table(release_dir: ReleaseDir, release: str, sites: list[str]) -> None:
    assert [record["site"] for record in read_cohort(release_dir(release, subjects=3))] == sites


def test_bids_masks_are_found_beside_the_scan_and_among_the_derivatives(release_dir: ReleaseDir) -> None:
    records = read_cohort(release_dir("BIDS", subjects=2))
    assert [(record["subject"], record["session"]) for record in records] == [
        ("sub-01", ""),
        ("sub-02", "ses-a"),
        ("sub-02", "ses-b"),
    ]
    assert ["derivatives" in record["main_mask"] for record in records] == [False, True, True]
    assert all(record["session"] in record["main_mask"] for record in records)


def test_scans_and_brain_masks_among_the_derivatives_are_no_rivals(release_dir: ReleaseDir) -> None:
    folder = release_dir("BIDS", subjects=2)
    records = read_cohort(folder)
    preprocessed = folder / "derivatives" / "fmriprep" / "sub-01" / "anat"
    preprocessed.mkdir(parents=True)
    for name in ("sub-01_desc-preproc_T1w.nii.gz", "sub-01_desc-brain_mask.nii.gz"):
        (preprocessed / name).touch()
    assert read_cohort(folder) == records


def test_a_data_set_below_a_folder_named_derivatives_is_still_read(release_dir: ReleaseDir, tmp_path: Path) -> None:
    folder = tmp_path / "derivatives" / "mine"
    shutil.copytree(release_dir("BIDS", subjects=2), folder)
    assert len(read_cohort(folder)) == 3


def test_symbolic_links_are_followed_and_not_resolved(release_dir: ReleaseDir, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    for site in release_dir("R1.1", subjects=2).glob("Site*"):
        (folder / site.name).symlink_to(site, target_is_directory=True)
    linked = tmp_path / "linked"
    linked.symlink_to(folder, target_is_directory=True)
    images = [record["image"] for record in read_cohort(linked)]
    assert len(images) == 3
    assert all(image.startswith(f"{linked}/Site") for image in images)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"nowhere is not a folder"):
        read_cohort(tmp_path / "nowhere")


def test_an_unknown_tree_is_answered_with_the_known_layouts_and_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "patient_7.nii.gz").touch()
    with pytest.raises(CohortError) as error:
        read_cohort(tmp_path)
    for text in [*(layout.example for layout in LAYOUTS), "patient_7.nii.gz", str(tmp_path)]:
        assert text in str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.release)
def test_the_example_of_each_layout_is_a_t1_of_that_layout(tmp_path: Path, layout: Layout) -> None:
    scan = tmp_path / layout.example
    scan.parent.mkdir(parents=True)
    scan.touch()
    with pytest.raises(CohortError, match="1 T1w scans without a main lesion mask"):
        read_cohort(tmp_path)


def test_missing_masks_and_missing_scans_come_in_one_message_with_a_count(release_dir: ReleaseDir) -> None:
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


def test_a_sub_mask_alone_is_no_main_mask(release_dir: ReleaseDir) -> None:
    folder = release_dir("R1.1", subjects=3)
    one(folder, "031770_LesionSmooth_stx.nii.gz").unlink()
    with pytest.raises(CohortError, match=r"1 T1w scans without a main lesion mask:\n  .*031770_t1w"):
        read_cohort(folder)


@pytest.mark.parametrize(
    ("file", "rival"),
    [
        ("sub-01_label-lesion_mask.nii", "sub-01_desc-second_mask.nii"),
        ("sub-01_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz"),
    ],
)
def test_rival_files_of_one_session_are_refused_by_name(release_dir: ReleaseDir, file: str, rival: str) -> None:
    folder = release_dir("BIDS", subjects=2)
    shutil.copy(one(folder, file), one(folder, file).with_name(rival))
    with pytest.raises(CohortError, match="2 T1w scans or main masks share their session") as error:
        read_cohort(folder)
    assert file in str(error.value)
    assert rival in str(error.value)


@pytest.mark.parametrize("pair", [("R1.1", "R1.2"), ("R2.1", "R1.2"), ("R1.1", "R3.0")])
def test_two_releases_of_which_no_table_says_who_is_who_are_refused(release_dir: ReleaseDir, pair: tuple[str, str]) -> None:
    folder, _ = (release_dir(release, subjects=2).parent for release in pair)
    with pytest.raises(CohortError, match=r"[456] scans of persons who may be in two releases") as error:
        read_cohort(folder)
    assert "--dataset_dir" in str(error.value)


def test_without_the_linking_table_the_releases_cannot_be_told_apart(release_dir: ReleaseDir) -> None:
    folder = release_dir("R1.2", subjects=3).parent
    one(release_dir("R2.0", subjects=3), "*.xlsx").unlink()
    shutil.rmtree(one(folder, "c0003"))
    with pytest.raises(CohortError, match="may be in two releases"):
        read_cohort(folder)


def test_a_table_that_links_nobody_tells_nobody_apart(release_dir: ReleaseDir) -> None:
    """Its columns were renamed."""
    folder = release_dir("R1.1", subjects=3).parent
    path = one(release_dir("R2.0", subjects=3), "*.xlsx")
    pd.read_excel(path).rename(columns=lambda name: name.replace("Subject ID", "Subject")).to_excel(path, index=False)
    with pytest.raises(CohortError, match="may be in two releases"):
        read_cohort(folder)


def test_numbers_of_subjects_have_six_digits_whether_a_table_holds_them_as_number_or_as_text() -> None:
    assert [identifier(cell) for cell in (31768, "31768", "031768", "c0003s0001", "sub-1_ses-1")] == [
        "031768",
        "031768",
        "031768",
        "c0003s0001",
        "sub-1ses-1",
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_the_persons_of_one_release_are_its_subjects(release_dir: ReleaseDir, release: str) -> None:
    records = read_cohort(release_dir(release, subjects=3))
    # R2.0's first subject is called as R1.1 does, whether that lies beside it or not.
    names = {"sub-r001s001": "031768"} if release == "R2.0" else {}
    assert [record["person"] for record in records] == [names.get(r["subject"], r["subject"]) for r in records]


@pytest.mark.parametrize(("first", "subject"), [("R1.1", "031768"), ("R1.2", "c0003s0001")])
def test_a_person_whom_the_table_links_over_two_releases_bears_one_name(
    release_dir: ReleaseDir, caplog: pytest.LogCaptureFixture, first: str, subject: str
) -> None:
    release_dir(first, subjects=3)
    with caplog.at_level(logging.INFO):
        records = read_cohort(release_dir("R2.0", subjects=3).parent)
    # Two sessions of R1.x, and the one scan of R2.0 linked to it by a column whose gaps make it floats.
    assert [record["subject"] for record in records if record["person"] == "031768"] == [subject, subject, "sub-r001s001"]
    assert "6 subjects are 5 persons" in caplog.text


@pytest.mark.parametrize("pair", [("R2.0", "R3.0"), ("R2.1", "R3.0")])
def test_later_releases_call_the_same_person_by_the_same_name(release_dir: ReleaseDir, pair: tuple[str, str]) -> None:
    folder, _ = (release_dir(release, subjects=2).parent for release in pair)
    records = read_cohort(folder)
    releases = {person: [r["release"] for r in records if r["person"] == person] for person in {r["person"] for r in records}}
    assert sorted(releases.values()) == [list(pair)] * 2


@given(st.lists(st.sets(st.integers(0, 15), min_size=1, max_size=3), max_size=25), st.randoms())
def test_scans_connected_by_shared_names_are_one_person_in_any_order(names: list[set[int]], random: Random) -> None:
    def record(subject: int, *linked: int) -> Record:
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


def test_miniature_masks_hold_the_integer_trap(release_dir: ReleaseDir) -> None:
    values = [
        np.unique(load(record["main_mask"]).get_fdata()) / ALMOST_ONE for record in read_cohort(release_dir("R1.1", subjects=3))
    ]
    assert [set(np.round(levels)) for levels in values[1:]] == [{0, 1}, {0, 255}, {0, 1, 2, 253, 254, 255}]
    assert values[0].astype(int).max() == 1
    assert (values[0] * ALMOST_ONE).astype(int).max() == 0
