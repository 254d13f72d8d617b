"""The doctor: each fault gives its issue and no other, whole data sets give none, and training refuses what it says."""

import gzip
import re
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
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.doctor.checks import CHECKS, NOTE, STOPS, SUSPICIOUS
from strokelesion.pipeline.doctor.examination import COLUMNS, diagnose, examine, format_issues
from strokelesion.pipeline.doctor.scan import Training
from strokelesion.pipeline.runtime.errors import root, user_error
from strokelesion.pipeline.training.slice_store import prepare_scan
from strokelesion.transforms import Recipe
from strokelesion.transforms.sample_error import SampleError

T1, MASK = "sub-01*_T1w.nii.gz", "sub-01*_mask.nii"


@cache
def training_transform(**options):
    """Return the transform that the bundle trains through, at the miniatures' voxel size."""
    return configured("resunet", "doctor", spacing_mm=8, **options).get_parsed_content("train::preprocessing")


def write_data_set(folder, release="BIDS", subjects=2):
    """Write a miniature without the hidden files and brain masks that real releases have."""
    written = write_release(folder, release, subjects=subjects)
    for path in [*folder.rglob(".*"), *folder.rglob("*_desc-brain_mask*")]:
        path.unlink()
    return written


@pytest.fixture
def data_set(tmp_path):
    return partial(write_data_set, tmp_path / "data")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """From a release and a number of subjects to the issues in an undamaged miniature."""
    return cache(lambda *which: issues_of(write_data_set(tmp_path_factory.mktemp("healthy"), *which)))


def issues_of(folder, transform=None, **allowed):
    return diagnose(folder, Training(transform or training_transform(**allowed), **allowed))


def training_refuses(folder, **allowed):
    try:
        for record in read_cohort(folder):
            prepare_scan(record, training_transform(**allowed))
    except UserError:
        return True
    return False


def one(folder, pattern):
    return sorted(folder.rglob(pattern))[0]


def rewrite(path, change, affine=None):
    """Write a volume anew, its values changed; returns the file."""
    image = nib.load(path)
    return save_nifti(path, np.asarray(change(image.get_fdata())), image.affine if affine is None else affine)


def changed(pattern, change, affine=None):
    def damage(folder):
        return [rewrite(one(folder, pattern), lambda x: change(x).astype(np.float32 if pattern == T1 else float), affine)]

    return damage


def patched(path, start, content):
    """Write bytes into the header of an uncompressed or compressed NIfTI file."""
    image = nib.load(path)
    whole = image.to_bytes()
    whole = whole[:start] + content + whole[start + len(content) :]
    path.write_bytes(whole if path.suffix == ".nii" else gzip.compress(whole))
    return path


def cut_short(pattern):
    def damage(folder):
        path = one(folder, pattern)
        path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
        return [path]

    return damage


def beside(mask):
    """Return a copy of a mask, shifted, without the voxels of the mask itself."""
    return np.roll(mask, 4, axis=0) * (1 - mask)


def disagreeing(folder):
    image = nib.load(one(folder, T1))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine + np.eye(4, k=3) * 30, 1)
    one(folder, T1).write_bytes(gzip.compress(image.to_bytes()))
    return [one(folder, T1)]


def large_sub_mask(folder):
    main = nib.load(one(folder, "031769_LesionSmooth_stx*")).get_fdata()
    return [rewrite(one(folder, "031769_LesionSmooth_1*"), lambda sub: ((sub > 0.5) | (main > 0.5)).astype(np.uint8))]


def twin(folder):
    first, second = sorted(folder.rglob("sub-02*_T1w.nii.gz"))
    shutil.copy(first, second)
    return [second]


def removed(pattern, named):
    def damage(folder):
        one(folder, pattern).unlink()
        return [one(folder, named)]

    return damage


def second_mask(name):
    def damage(folder):
        return [Path(shutil.copy(one(folder, MASK), one(folder, MASK).with_name(name)))]

    return damage


def rival(folder):
    return [one(folder, MASK), *second_mask("sub-01_label-lesion_desc-second_mask.nii")(folder)]


def renamed_mask(name):
    def damage(folder):
        return [one(folder, T1), one(folder, MASK).rename(one(folder, MASK).with_name(name))]

    return damage


def bright_lesion(folder):
    """The scan is inverted; without fluid to judge it by, only the mask is suspicious."""
    changed(T1, lambda t1: np.where(t1 > 0, 150 - t1, 0))(folder)
    return [one(folder, MASK)]


def of_table(change):
    def damage(folder):
        path = folder / "participants.tsv"
        path.write_text(change(path.read_text()))
        return [path]

    return damage


def without_row(folder):
    of_table(lambda text: text[: text.rindex("sub-02")])(folder)
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


class Fault(NamedTuple):
    severity: str
    says: str
    make: Callable[[Path], list[Path]]
    release: str = "BIDS"
    subjects: int = 2


SINGULAR = np.array([[8, 0, 0, 0], [0, 8, 0, 0], [0, 8, 0, 0]], dtype="<f4").tobytes()
FAULTS = {
    "truncated T1": Fault(STOPS, "cannot be read", cut_short(T1)),
    "truncated mask": Fault(STOPS, "cannot be read", cut_short(MASK)),
    "NaN": Fault(STOPS, "NaN or infinite", changed(T1, lambda t1: np.where(np.indices(t1.shape).sum(0) == 30, np.nan, t1))),
    "constant": Fault(STOPS, "constant", changed(T1, np.ones_like)),
    "z-score": Fault(STOPS, "negative intensities", changed(T1, lambda x: x - x.mean())),
    "two volumes": Fault(STOPS, "one 3D volume", changed(T1, lambda x: np.stack([x, x], axis=-1))),
    "shifted mask": Fault(STOPS, "not on the grid", changed(MASK, np.copy, affine=np.diag([8, 8, 8, 1]))),
    "smaller mask": Fault(STOPS, "not on the grid", changed(MASK, lambda mask: mask[:-1])),
    "singular": Fault(STOPS, "its voxels have edges of", lambda folder: [patched(one(folder, T1), 280, SINGULAR)]),
    "micrometers": Fault(STOPS, "its voxels have edges of", changed(T1, np.copy, affine=np.diag([8e3, 8e3, 8e3, 1.0]))),
    "empty mask": Fault(STOPS, "zero everywhere", changed(MASK, np.zeros_like)),
    "gray mask": Fault(STOPS, "not two-valued", changed(MASK, lambda mask: mask + 0.5 * beside(mask))),
    "no mask": Fault(STOPS, "without a main lesion mask", removed(MASK, T1)),
    "no T1": Fault(STOPS, "without a T1w scan", removed(T1, MASK)),
    "rivals": Fault(STOPS, "shares its session", rival),
    "damaged table": Fault(STOPS, "cannot be read as a table", of_table(lambda text: "")),
    "no affine": Fault(
        SUSPICIOUS, "has no affine", lambda folder: [patched(one(folder, kind), 252, bytes(4)) for kind in (T1, MASK)]
    ),
    "two affines": Fault(SUSPICIOUS, "a corner is read 30.0 mm from", disagreeing),
    "corner mask": Fault(
        SUSPICIOUS, "outside the head by 100%", changed(MASK, lambda mask: np.indices(mask.shape).max(axis=0) < 3)
    ),
    "large sub-mask": Fault(SUSPICIOUS, "more than the", large_sub_mask, "R1.1", 3),
    "bright lesions": Fault(SUSPICIOUS, "times as bright as what surrounds it", bright_lesion),
    "mask of something else": Fault(STOPS, "lesion", renamed_mask("sub-01_mod-T1w_defacemask.nii")),
    "mask that is left out": Fault(NOTE, "is left out", second_mask("sub-01_label-WM_mask.nii")),
    "table of others": Fault(STOPS, "has no row that names a scan", of_table(lambda text: text.replace("sub-", "person-"))),
    "no sites": Fault(NOTE, "has no column of sites", of_table(lambda text: text.replace("site", "ward"))),
    "same image": Fault(SUSPICIOUS, "same voxels as", twin),
    "known bad label": Fault(SUSPICIOUS, "known to be wrong", known_bad, "R2.0"),
    "row twice": Fault(SUSPICIOUS, "is one of 2 that name sub-01", of_table(lambda text: text + "sub-01\t50\tnorth\n")),
    "row without files": Fault(NOTE, "row 4 names sub-77", of_table(lambda text: text + "sub-77\t50\tnorth\n")),
    "files without row": Fault(NOTE, "has no row", without_row),
    "space": Fault(NOTE, "spaces around 1 name", of_table(lambda text: text.replace("sub-01", " sub-01"))),
    "hidden": Fault(NOTE, "is hidden", hidden),
    "0.99999": Fault(NOTE, "holds 0.9999999998 for 1", changed(MASK, lambda mask: mask * ALMOST_ONE)),
    "noise": Fault(NOTE, "just above 0", changed(MASK, lambda mask: mask * 255 + beside(mask))),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_its_issue_and_no_other_and_training_agrees(name, data_set, healthy):
    fault = FAULTS[name]
    folder = data_set(fault.release, fault.subjects)
    before = healthy(fault.release, fault.subjects)
    files = {str(path.relative_to(folder)) for path in fault.make(folder)}
    after = issues_of(folder)
    new = after[~after.apply(tuple, axis=1).isin(before.apply(tuple, axis=1))] if len(before) else after
    assert set(new["file"]) == files
    assert set(new["severity"]) == {fault.severity}
    assert len(set(new["check"])) == 1
    assert new["issue"].str.contains(fault.says, regex=False).all()
    assert new["advice"].str.endswith(".").all()
    assert training_refuses(folder) == (fault.severity == STOPS)


# R3.0's sixth mask is 0.99999 by design; R2.0's Testing scans have rows, and their files are there.
@pytest.mark.parametrize(("release", "subjects", "kinds"), [("BIDS", 2, 0), ("R2.0", 3, 0), ("R3.0", 6, 1), ("R1.1", 6, 3)])
def test_a_clean_data_set_has_only_the_known_oddities_of_its_release_as_notes(release, subjects, kinds, healthy):
    issues = healthy(release, subjects)
    assert set(issues["severity"]) <= {NOTE}
    assert len(set(issues["check"])) == kinds


def test_a_phantom_has_nothing_suspicious(phantom_dir):
    assert set(issues_of(phantom_dir)["severity"]) <= {NOTE}


def test_allowed_masks_are_notes_and_training_takes_them(data_set):
    folder = data_set()
    FAULTS["empty mask"].make(folder)
    issues = issues_of(folder, allow_empty=True)
    assert issues["severity"].tolist() == [NOTE]
    assert "zero everywhere" in issues["issue"][0]
    assert not training_refuses(folder, allow_empty=True)


def test_all_faults_are_found_at_once_the_worst_first_also_those_of_incomplete_scans(data_set):
    folder = data_set()
    for name in ("NaN", "no mask", "hidden", "row without files"):
        FAULTS[name].make(folder)
    assert issues_of(folder)["severity"].tolist() == [STOPS, STOPS, NOTE, NOTE]


def test_persons_in_two_releases_stop_training_or_are_noted(data_set):
    folder = data_set("R1.1", 2).parent
    data_set("R2.0", 2)
    linked = issues_of(folder).query("check == 'persons in several releases'")
    assert linked["severity"].tolist() == [NOTE]
    assert linked["issue"].tolist() == ["shows 031768, who is also in R1.1"]
    one(folder, "*.xlsx").unlink()
    assert issues_of(folder)["issue"].str.contains("may be in two releases").sum() == 5


def refuse(error):
    def raising(sample):
        raise error

    return Recipe([raising])


def test_whatever_else_stops_training_is_found_by_training_itself(data_set):
    issues = issues_of(data_set(), refuse(UserError("lesion voxels lie outside the window")))
    assert issues["severity"].tolist() == [STOPS] * 3
    assert set(issues["issue"]) == {"cannot be prepared: lesion voxels lie outside the window"}


def test_what_is_wrong_with_a_mask_is_an_issue_of_the_mask(data_set):
    issues = issues_of(data_set(), refuse(SampleError("mask.nii", "is too small; expected a lesion", "Draw it again.")))
    assert {Path(file).name for file in issues["file"]} == {"mask.nii"}
    assert set(issues["issue"]) == {"is too small; expected a lesion"}
    assert set(issues["advice"]) == {"Draw it again."}


def test_a_fault_of_the_program_is_no_issue(data_set):
    """It ends the doctor with its traceback and names the scan."""
    with pytest.raises(RuntimeError) as error:
        issues_of(data_set(), refuse(KeyError("brain")))
    assert user_error(error.value) is None
    assert isinstance(root(error.value), KeyError)
    assert any(note.startswith("while preparing ") and "_T1w.nii.gz" in note for note in error.value.__notes__)


def test_the_command_writes_the_table_and_ends_with_status_1_where_training_would_stop(run_command, data_set, tmp_path, capsys):
    folder = data_set()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run_command("doctor", "resunet", dataset_dir=str(folder), run_dir=str(tmp_path / "run"), spacing_mm=8)
    assert "No issues found." in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "run/doctor.csv").columns.tolist() == COLUMNS
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    (file,) = FAULTS["empty mask"].make(folder)
    with pytest.raises(SystemExit) as ended:
        run_command("doctor", "unet", dataset_dir=str(folder), doctor_csv=str(tmp_path / "mine.csv"), spacing_mm=8)
    assert ended.value.code == 1
    (row,) = pd.read_csv(tmp_path / "mine.csv").to_dict("records")
    assert row["file"] == str(file.relative_to(folder))
    assert row["severity"] == STOPS
    shown = capsys.readouterr().out
    assert "is zero everywhere" in shown
    assert "1 issues" in shown


def test_suspicions_and_notes_leave_the_status_alone(data_set, tmp_path):
    folder = data_set()
    FAULTS["corner mask"].make(folder)
    FAULTS["hidden"].make(folder)
    examine(folder, training_transform(), tmp_path / "doctor.csv")
    assert pd.read_csv(tmp_path / "doctor.csv")["severity"].tolist() == [SUSPICIOUS, NOTE]


def test_many_issues_of_one_check_are_printed_in_part_and_written_whole():
    rows = [(f"{number}.nii", "is hidden", NOTE, "Remove it.", "hidden files") for number in range(13)]
    text = format_issues(pd.DataFrame(rows, columns=COLUMNS))
    assert "9.nii" in text
    assert "10.nii" not in text
    assert "… and 3 more: hidden files" in text


def test_the_documentation_lists_every_check():
    text = " ".join((ROOT / "docs/data.md").read_text().split())
    for check in CHECKS:
        (listed,) = re.findall(rf"- \*{check.severity}\*: (.*?)\. ", text)
        assert check.title in listed.split("; ")
