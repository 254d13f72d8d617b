"""The doctor: each fault gives its finding and no other, whole data sets give none, and training refuses what it says."""

import gzip
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import ALMOST_ONE, save_nifti, write_release
from checkout import ROOT
from configured import configured

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.layouts import read_cohort
from strokelesion.pipeline.doctor.checks import CHECKS, NOTE, STOPS, SUSPICIOUS
from strokelesion.pipeline.doctor.cohort_checks import side_in_table
from strokelesion.pipeline.doctor.examination import COLUMNS, as_text, diagnose, examine
from strokelesion.pipeline.doctor.scan import Training
from strokelesion.pipeline.runtime.errors import root, user_error
from strokelesion.pipeline.training.slice_store import prepare_scan
from strokelesion.transforms import Recipe


def trained_through(**options):
    """Return the transform that the bundle trains through, at the miniatures' voxel size."""
    return configured("resunet", "doctor", spacing_mm=8, **options).get_parsed_content("train::preprocessing")


@pytest.fixture(scope="module")
def transform():
    return trained_through()


def write_data_set(folder, release="BIDS", subjects=2):
    """Write a miniature without the hidden files that real releases have."""
    written = write_release(folder, release, subjects=subjects)
    for path in folder.rglob(".*"):
        path.unlink()
    return written


@pytest.fixture
def data_set(tmp_path):
    return partial(write_data_set, tmp_path / "data")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, transform):
    """From a release and a number of subjects to the findings in an undamaged miniature."""
    return cache(lambda *which: findings_of(write_data_set(tmp_path_factory.mktemp("healthy"), *which), transform))


def findings_of(folder, transform, **allowed):
    return diagnose(folder, Training(transform, **allowed))


def training_refuses(folder, transform):
    try:
        for record in read_cohort(folder):
            prepare_scan(record, transform)
    except UserError:
        return True
    return False


def one(folder, pattern):
    return sorted(folder.rglob(pattern))[0]


def t1_of(folder):
    return one(folder, "*_T1w.nii.gz")


def mask_of(folder):
    return one(folder, "sub-01*_mask.nii")


def rewrite(path, change, affine=None):
    """Write a volume anew, its values changed; returns the file."""
    image = nib.load(path)
    return save_nifti(path, np.asarray(change(image.get_fdata())), image.affine if affine is None else affine)


def of_t1(change):
    return lambda folder: [rewrite(t1_of(folder), lambda x: change(x).astype(np.float32))]


def of_mask(change):
    return lambda folder: [rewrite(mask_of(folder), change)]


def patched(path, start, content):
    """Write bytes into the header of an uncompressed or compressed NIfTI file."""
    image = nib.load(path)
    whole = image.to_bytes()
    whole = whole[:start] + content + whole[start + len(content) :]
    path.write_bytes(whole if path.suffix == ".nii" else gzip.compress(whole))
    return path


def cut_short(pattern, share):
    def damage(folder):
        path = one(folder, pattern)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        return [path]

    return damage


def affine_rows(*rows):
    return np.array(rows, dtype="<f4").tobytes()


def corner_only(mask):
    return (np.indices(mask.shape).max(axis=0) < 3).astype(np.uint8)


def noisy(mask):
    return (mask * 255 + np.roll(mask, 4, axis=0) * (1 - mask)).astype(np.uint8)


def without_codes(folder):
    return [patched(path, 252, bytes(4)) for path in (t1_of(folder), mask_of(folder))]


def disagreeing(folder):
    image = nib.load(t1_of(folder))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine + np.array([[0, 0, 0, 30]] + [[0] * 4] * 3), 1)
    t1_of(folder).write_bytes(gzip.compress(image.to_bytes()))
    return [t1_of(folder)]


def on_another_grid(folder):
    affine = nib.load(mask_of(folder)).affine + np.array([[0, 0, 0, 3.0]] + [[0] * 4] * 3)
    return [rewrite(mask_of(folder), np.uint8, affine)]


def of_another_shape(folder):
    return [rewrite(mask_of(folder), lambda mask: mask[:-1].astype(np.uint8))]


def large_sub_mask(folder):
    main = nib.load(one(folder, "031769_LesionSmooth_stx*")).get_fdata()
    return [rewrite(one(folder, "031769_LesionSmooth_1*"), lambda sub: ((sub > 0.5) | (main > 0.5)).astype(np.uint8))]


def mirrored(*files):
    for path in files:
        data = nib.load(path).get_fdata()[::-1]
        rewrite(path, lambda _, data=data: data)
    return [files[0]]


def mirrored_r11(folder):
    return mirrored(one(folder, "031770_t1w*"), *folder.rglob("031770_Lesion*"))


def mirrored_bids(folder):
    return mirrored(t1_of(folder), mask_of(folder))


def twin(folder):
    first, second = sorted(folder.rglob("sub-02*_T1w.nii.gz"))
    shutil.copy(first, second)
    return [second]


def removed(pattern, named):
    def damage(folder):
        one(folder, pattern).unlink()
        return [one(folder, named)]

    return damage


def rival(folder):
    first = mask_of(folder)
    return [first, Path(shutil.copy(first, first.with_name("sub-01_desc-second_mask.nii")))]


def of_table(change):
    def damage(folder):
        path = folder / "participants.tsv"
        path.write_text(change(path.read_text()))
        return [path]

    return damage


def without_row(folder):
    of_table(lambda text: "\n".join(text.splitlines()[:-1]) + "\n")(folder)
    return sorted(folder.rglob("sub-02*_T1w.nii.gz"))


def hidden(folder):
    (folder / "sub-01" / "._rubbish").mkdir()
    (folder / "sub-01" / "._rubbish" / "sub-09_T1w.nii.gz").touch()
    return [folder / "sub-01" / "._rubbish"]


def known_bad(folder):
    one(folder, "*.xlsx").unlink()
    for old in sorted(folder.rglob("*r001s001*"), reverse=True):
        old.rename(old.with_name(old.name.replace("r001s001", "r009s003")))
    return [one(folder, "*r009s003*_mask.nii.gz")]


def bright_lesions(t1):
    return np.where(t1 > 0, 150 - t1, 0)


class Fault(NamedTuple):
    how_bad: str
    says: str
    make: Callable[[Path], list[Path]]
    release: str = "BIDS"
    subjects: int = 2


NAN, INF = (lambda x, bad=bad: np.where(np.indices(x.shape).sum(0) == 30, bad, x) for bad in (np.nan, np.inf))
SINGULAR = affine_rows([8, 0, 0, 0], [0, 8, 0, 0], [0, 8, 0, 0])
FAULTS = {
    "truncated T1": Fault(STOPS, "cannot be read", cut_short("sub-01*_T1w.nii.gz", 0.7)),
    "truncated mask": Fault(STOPS, "cannot be read", cut_short("sub-01*_mask.nii", 0.7)),
    "empty file": Fault(STOPS, "cannot be read", cut_short("sub-01*_T1w.nii.gz", 0)),
    "NaN": Fault(STOPS, "NaN or infinite", of_t1(NAN)),
    "infinity": Fault(STOPS, "NaN or infinite", of_t1(INF)),
    "NaN in mask": Fault(STOPS, "NaN or infinite", of_mask(NAN)),
    "constant": Fault(STOPS, "constant", of_t1(np.ones_like)),
    "z-score": Fault(STOPS, "negative intensities", of_t1(lambda x: x - x.mean())),
    "two volumes": Fault(STOPS, "one 3D volume", of_t1(lambda x: np.stack([x, x], axis=-1))),
    "two volumes of a mask": Fault(STOPS, "one 3D volume", of_mask(lambda x: np.stack([x, x], axis=-1))),
    "shifted mask": Fault(STOPS, "not on the grid", on_another_grid),
    "smaller mask": Fault(STOPS, "not on the grid", of_another_shape),
    "singular": Fault(STOPS, "its voxels have edges of", lambda folder: [patched(t1_of(folder), 280, SINGULAR)]),
    "micrometers": Fault(
        STOPS, "its voxels have edges of", lambda folder: [rewrite(t1_of(folder), np.float32, np.diag([8e3, 8e3, 8e3, 1.0]))]
    ),
    "empty mask": Fault(STOPS, "zero everywhere", of_mask(np.zeros_like)),
    "gray mask": Fault(STOPS, "not two-valued", of_mask(lambda x: x + 0.5 * np.roll(x, 4, axis=0) * (1 - x))),
    "no mask": Fault(STOPS, "without a main lesion mask", removed("sub-01*_mask.nii", "sub-01*_T1w*")),
    "no T1": Fault(STOPS, "without a T1w scan", removed("sub-01*_T1w.nii.gz", "sub-01*_mask.nii")),
    "rivals": Fault(STOPS, "shares its session", rival),
    "damaged table": Fault(STOPS, "cannot be read as a table", of_table(lambda text: "")),
    "no affine": Fault(SUSPICIOUS, "has no affine", without_codes),
    "two affines": Fault(SUSPICIOUS, "a corner is read 30.0 mm from", disagreeing),
    "corner mask": Fault(SUSPICIOUS, "outside the head by 100%", of_mask(corner_only)),
    "large sub-mask": Fault(SUSPICIOUS, "more than the", large_sub_mask, "R1.1", 3),
    "bright lesions": Fault(SUSPICIOUS, "probably a T2 or FLAIR", of_t1(bright_lesions)),
    "mirrored against its table": Fault(SUSPICIOUS, "on the left, and the table says right", mirrored_r11, "R1.1", 4),
    "mirrored against its site": Fault(SUSPICIOUS, "lopsided the other way", mirrored_bids, "BIDS", 5),
    "same image": Fault(SUSPICIOUS, "same voxels as", twin),
    "known bad label": Fault(SUSPICIOUS, "known to be wrong", known_bad, "R2.0"),
    "row twice": Fault(SUSPICIOUS, "is one of 2 that name sub-01", of_table(lambda text: text + "sub-01\t50\tnorth\n")),
    "row without files": Fault(NOTE, "row 4 names sub-77", of_table(lambda text: text + "sub-77\t50\tnorth\n")),
    "files without row": Fault(NOTE, "has no row", without_row),
    "space": Fault(NOTE, "spaces around 1 name", of_table(lambda text: text.replace("sub-01", " sub-01"))),
    "hidden": Fault(NOTE, "is hidden", hidden),
    "0.99999": Fault(NOTE, "holds 0.9999999998 for 1", of_mask(lambda mask: mask * ALMOST_ONE)),
    "noise": Fault(NOTE, "just above 0", of_mask(noisy)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_its_finding_and_no_other_and_training_agrees(name, data_set, healthy, transform):
    fault = FAULTS[name]
    folder = data_set(fault.release, fault.subjects)
    before = healthy(fault.release, fault.subjects)
    files = {str(path.relative_to(folder)) for path in fault.make(folder)}
    after = findings_of(folder, transform)
    new = after[~after.apply(tuple, axis=1).isin(before.apply(tuple, axis=1))] if len(before) else after
    assert set(new["file"]) == files
    assert set(new["how bad"]) == {fault.how_bad}
    assert len(set(new["check"])) == 1
    assert new["what is wrong"].str.contains(fault.says, regex=False).all()
    assert new["what to do"].str.endswith(".").all()
    assert training_refuses(folder, transform) == (fault.how_bad == STOPS)


@pytest.mark.parametrize(("release", "subjects"), [("BIDS", 5), ("R2.0", 3), ("R3.0", 6)])
def test_a_clean_data_set_has_no_finding(release, subjects, healthy):
    findings = healthy(release, subjects)
    # R3.0's sixth mask is 0.99999 by design; R2.0's Testing scans have rows, and their files are there.
    assert set(findings["what is wrong"]) <= {"holds 0.9999999998 for 1"}
    assert len(findings) == (release == "R3.0")


def test_the_known_oddities_of_r11_are_notes(data_set, transform):
    findings = findings_of(data_set("R1.1", 6), transform)
    assert set(findings["how bad"]) == {NOTE}
    assert len(set(findings["check"])) == 3


def test_a_phantom_has_nothing_suspicious(phantom_dir, transform):
    findings = findings_of(phantom_dir, transform)
    assert set(findings["how bad"]) <= {NOTE}


def test_allowed_masks_are_notes_and_training_takes_them(data_set):
    folder = data_set()
    FAULTS["empty mask"].make(folder)
    lenient = trained_through(allow_empty=True)
    findings = findings_of(folder, lenient, allow_empty=True)
    assert findings["how bad"].tolist() == [NOTE]
    assert "zero everywhere" in findings["what is wrong"][0]
    assert not training_refuses(folder, lenient)


def test_all_faults_of_a_scan_are_found_at_once_the_worst_first(data_set, transform):
    folder = data_set()
    for name in ("NaN", "empty mask", "hidden", "row without files"):
        FAULTS[name].make(folder)
    findings = findings_of(folder, transform)
    assert findings["how bad"].tolist() == [STOPS, STOPS, NOTE, NOTE]


def test_files_of_incomplete_scans_are_looked_at_too(data_set, transform):
    folder = data_set()
    FAULTS["NaN"].make(folder)
    FAULTS["no mask"].make(folder)
    assert len(findings_of(folder, transform)) == 2


def test_persons_in_two_releases_stop_training_or_are_noted(data_set, transform):
    folder = data_set("R1.1", 2).parent
    data_set("R2.0", 2)
    linked = findings_of(folder, transform).query("check == 'persons in several releases'")
    assert linked["how bad"].tolist() == [NOTE]
    assert linked["what is wrong"].tolist() == ["shows 031768, who is also in R1.1"]
    one(folder, "*.xlsx").unlink()
    assert findings_of(folder, transform)["what is wrong"].str.contains("may be in two releases").sum() == 5


def refuse(error):
    def raising(sample):
        raise error

    return Recipe([raising])


def test_whatever_else_stops_training_is_found_by_training_itself(data_set):
    findings = findings_of(data_set(), refuse(UserError("lesion voxels lie outside the window")))
    assert findings["how bad"].tolist() == [STOPS] * 3
    assert findings["what is wrong"].str.contains("lie outside the window").all()


def test_a_fault_of_the_program_is_no_finding(data_set):
    """It ends the doctor with its traceback and names the scan."""
    with pytest.raises(RuntimeError) as error:
        findings_of(data_set(), refuse(KeyError("brain")))
    assert user_error(error.value) is None
    assert isinstance(root(error.value), KeyError)
    assert any(note.startswith("while preparing ") and "_T1w.nii.gz" in note for note in error.value.__notes__)


def test_the_command_writes_the_table_and_ends_with_status_1_where_training_would_stop(run_command, data_set, tmp_path, capsys):
    folder = data_set()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run_command("doctor", "resunet", dataset_dir=str(folder), run_dir=str(tmp_path / "run"), spacing_mm=8)
    assert "Nothing found." in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "run/doctor.csv").columns.tolist() == COLUMNS
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    (file,) = FAULTS["empty mask"].make(folder)
    with pytest.raises(SystemExit) as ended:
        run_command("doctor", "unet", dataset_dir=str(folder), doctor_csv=str(tmp_path / "mine.csv"), spacing_mm=8)
    assert ended.value.code == 1
    (row,) = pd.read_csv(tmp_path / "mine.csv").to_dict("records")
    assert row["file"] == str(file.relative_to(folder))
    assert row["how bad"] == STOPS
    shown = capsys.readouterr().out
    assert "is zero everywhere" in shown
    assert "1 findings" in shown


def test_suspicions_and_notes_leave_the_status_alone(data_set, transform, tmp_path):
    folder = data_set()
    FAULTS["corner mask"].make(folder)
    FAULTS["hidden"].make(folder)
    examine(folder, transform, tmp_path / "doctor.csv")
    assert pd.read_csv(tmp_path / "doctor.csv")["how bad"].tolist() == [SUSPICIOUS, NOTE]


def test_many_findings_of_one_check_are_printed_in_part_and_written_whole():
    rows = [(f"{number}.nii", "is hidden", NOTE, "Remove it.", "hidden files") for number in range(13)]
    text = as_text(pd.DataFrame(rows, columns=COLUMNS))
    assert "9.nii" in text
    assert "10.nii" not in text
    assert "… and 3 more: hidden files" in text


@pytest.mark.parametrize(
    ("row", "side"),
    [
        ({"Primary Stroke Location Hemisphere": "Left", "# Strokes RH Cortical": 1}, "left"),
        ({"Primary Stroke Location Hemisphere": "Brainstem"}, ""),
        ({"# Strokes LH Cortical": 0, "# Strokes RH subcortical": 2}, "right"),
        ({"# Lesions LH Subcortical": 1, "# Lesions RH Subcortical": 1}, ""),
        ({}, ""),
    ],
)
def test_the_side_of_a_lesion_in_a_table(row, side):
    assert side_in_table(row) == side


def test_the_documentation_lists_every_check():
    text = (ROOT / "docs/data.md").read_text()
    for check in CHECKS:
        assert f"| {check.finds} | {check.how_bad} |" in text
