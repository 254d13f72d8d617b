"""Nothing in a file runs, no name leaves the output folder, and pages show names as they are."""

import contextlib
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from checkout import ROOT
from dicom_files import write_series
from model_files import HELD_OUT, RESUNET, small_resunet, write_model, write_small
from monai.bundle import ConfigParser
from refusals import refusal
from stand_ins import DarkIsLesion

from strokelesion.networks import ResUNet
from strokelesion.pipeline.derivatives.result_names import LONGEST_NAME, name_scans
from strokelesion.pipeline.finding import dicom
from strokelesion.pipeline.finding.scans import find_scans
from strokelesion.pipeline.models.description import Description, Protocol
from strokelesion.pipeline.models.model_files import read_model, write_checkpoint
from strokelesion.pipeline.training.slice_store import store_path
from strokelesion.transforms import Recipe

LONGEST_FILE = 255
HOSTILE = ["..", "../../etc/passwd", "a/b", "nul\0nul", "n" * 5000, "<script>alert(1)</script>", "$(touch x)", "a\nb"]
HOSTILE += ["\udcff", ""]
# What the file system takes of these as the name of a file.
ON_DISK = ["a..", "n" * 200, "<img src=x onerror=alert(1)>", "$(touch x)", "a\nb\tc", "\udcff", "-rf", "sub-%2e%2e"]


class Intruder:
    """Runs code when it is unpickled: makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.fixture
def mark(tmp_path):
    """The folder that code out of a file would make."""
    return tmp_path / "intruder"


def write_hostile(path, kind, mark):
    """Write a checkpoint that makes a folder: a bare pickle, one as torch writes it, or one among true weights."""
    write_small(path)
    state = {"torch": Intruder(mark), "inside": torch.load(path, weights_only=True) | {"extra": Intruder(mark)}}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Intruder(mark)))
    else:
        torch.save(state[kind], path)
    return path


def expression(mark):
    """Return what MONAI would evaluate in a bundle file, and so make a folder."""
    return f"$__import__('os').mkdir({str(mark)!r})"


@pytest.mark.parametrize("kind", ["pickle", "torch", "inside"])
def test_code_in_a_checkpoint_would_run_if_it_were_let_and_is_refused(kind, mark, tmp_path):
    path = write_hostile(tmp_path / "last.pt", kind, mark)
    assert "is no model of this project" in refusal(read_model, path)
    assert not mark.exists()
    with contextlib.suppress(RuntimeError):  # that the pickle is no checkpoint is noticed after it ran
        torch.load(path, weights_only=False)
    assert mark.exists()


def test_the_expression_would_run_code_if_it_were_let(mark):
    """Else the tests below could not fail."""
    ConfigParser({"options": {"planes": [expression(mark)]}}).get_parsed_content("options::planes")
    assert mark.exists()


DOORS = ("inference", "brain", "surface", "init", "resume", "evaluating", "evaluating a file", "release")


@pytest.fixture
def refused(run_command, phantom_dir, tmp_path):
    """Name a model on the command line in one of the ways of `DOORS`; return the words that refuse it."""

    def start(door, path, **options):
        data = {"dataset_dir": str(phantom_dir)}
        short = {**data, "slices": "lesion", "epochs": 1, "run_dir": str(tmp_path / "new")}
        scan = {"scans": str(next(phantom_dir.rglob("*t1w*"))), "output_dir": str(tmp_path / "out")}
        command, where = {
            "inference": ("inference", {"weights": str(path), **scan}),
            "brain": ("training", {"brain_weights": str(path), "intensities": "brain", **short}),
            "surface": ("inference", {"surface_weights": str(path), **scan}),
            "init": ("training", {"init": str(path), **short}),
            "resume": ("training", {**short, "resume": True, "run_dir": str(path.parent)}),
            "evaluating": ("evaluating", {"run_dir": str(path.parent), **data}),
            "evaluating a file": ("evaluating", {"weights": str(path), "run_dir": short["run_dir"], "scored": "all", **data}),
            "release": ("release", {"weights": str(path), "output_dir": str(tmp_path / "out"), **data}),
        }[door]
        return refusal(run_command, command, "resunet", **{name: value for name, value in where.items() if name not in options})

    return start


@pytest.mark.parametrize("door", DOORS)
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_does_not_run(door, refused, mark, tmp_path):
    path = write_hostile(tmp_path / "run" / "last.pt", "inside", mark)
    assert "is no model of this project" in refused(door, path)
    assert not mark.exists()


@pytest.mark.parametrize("door", ["inference", "brain", "evaluating", "release"])
@pytest.mark.parametrize("name", ["_target_", "channels"])
def test_a_model_whose_network_is_code_is_refused_and_the_code_does_not_run(name, door, refused, mark, tmp_path):
    """Further definitions are in test_architecture."""
    definition = {"_target_": RESUNET, name: expression(mark)}
    path = tmp_path / "run" / "last.pt"
    write_model(path, small_resunet(), definition.pop("_target_"), definition)
    assert "last.pt asks for the network" in refused(door, path)
    assert not mark.exists()


CODE = "$__import__('os').mkdir('intruder')"
WORDS = [
    ("planes", (CODE,), "inference"),
    ("intensities", CODE, "inference"),
    ("split", CODE, "evaluating"),
    ("fold", CODE, "evaluating"),
    ("fold", "@cohort", "evaluating"),
    ("sub_lesions", CODE, "evaluating"),
    ("loss", CODE, "resume"),
    ("dataset_dir", CODE, "resume"),
    ("scanner", CODE, "resume"),
]


@pytest.mark.parametrize(("word", "code", "door"), WORDS)
def test_a_model_whose_words_are_code_is_refused_and_the_code_does_not_run(word, code, door, refused, tmp_path):
    """Options of the model go to where MONAI evaluates expressions."""
    parts = {"protocol": Protocol(spacing_mm=(4.0, 4.0, 4.0)), "held_out": HELD_OUT}
    changed = {part: value.model_copy(update={word: code}) for part, value in parts.items() if hasattr(value, word)}
    network = {"_target_": RESUNET, "in_channels": 1, "out_channels": 3}
    plain = Description(network=network, **parts).model_copy(update=changed or {"training": {word: code}})
    path = tmp_path / "run" / "last.pt"
    path.parent.mkdir()
    (path.parent / "split.csv").touch()
    write_checkpoint(path, plain, ResUNet().state_dict(), {"epoch": 1, "init": None})
    assert str(path) in refused(door, path, **{word: None})
    assert not list(tmp_path.rglob("intruder"))


def test_nothing_reads_a_file_in_a_way_that_runs_code():
    """By words: whoever needs one of these must change this test, and say why."""
    ways = re.compile(
        r"weights_only=False|allow_pickle=True|read_pickle|pickle\.load|yaml\.load\(|\beval\(|\bexec\(|os\.system"
    )
    sources = [path for folder in ("networks", "transforms", "pipeline") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 50
    found = [f"{path}: {line}" for path in sources for line in path.read_text().splitlines() if ways.search(line)]
    assert [line for line in found if ".eval()" not in line] == []
    loads = [line for path in sources for line in path.read_text().splitlines() if re.search(r"\b(torch|np)\.load\(", line)]
    assert len(loads) == 2
    assert all("weights_only=True" in line or "allow_pickle=False" in line for line in loads)


@pytest.mark.parametrize("text", [*HOSTILE, *ON_DISK])
def test_names_out_of_dicom_tags_paths_and_bids_names_stay_in_the_folder(text, tmp_path):
    series = dicom.series_name([dicom.Header(str(tmp_path / "in" / "1.dcm"), 1, dict.fromkeys(dicom.TAGS, text))])
    paths = (f"{text}/head.nii", f"in/{text}.nii", f"sub-{text}_ses-{text}_T1w.nii", f"sub-1_{text}-2_T1w.nii")
    items = [{"image": os.path.normpath(f"{tmp_path}/in/{path}".replace("..", "up"))} for path in paths]
    for item in (*items, {"image": None, "name": series}):
        (name,) = name_scans([item], tmp_path)
        stays(name, tmp_path / "out")


def stays(name, out):
    """Check that all files of a scan lie below the folder and can be written."""
    for space in ("", "space-MNI152NLin2009aSym_"):
        path = out / name.path(f"{space}label-lesion_probseg.nii.gz")
        assert Path(os.path.normpath(path)).is_relative_to(out)
        assert re.fullmatch(r"[\w./-]+", str(path.relative_to(out)), re.ASCII)
        assert max(len(part) for part in path.parts) < LONGEST_FILE - len("..01234567.part")
    assert (out / "pages" / f"{name}.html").parent == out / "pages"


def test_long_names_that_end_alike_stay_apart(tmp_path):
    items = [{"image": f"{tmp_path}/{first}{'n' * 200}.nii"} for first in "ab"]
    one, other = name_scans(items, tmp_path)
    assert one != other
    assert len(one.subject) == LONGEST_NAME


def test_long_subjects_have_a_place_in_the_slice_store(tmp_path):
    record = {"subject": "sub-" + "n" * 240, "session": "ses-" + "n" * 240, "image": [], "main_mask": []}
    path = store_path(record, Recipe([]), tmp_path)
    path.touch()
    assert path.parent == tmp_path


def test_a_cohort_with_hostile_names_is_segmented_within_its_folder_and_shown_as_text(run_command, oriented, tmp_path):
    scans, out = tmp_path / "in" / "scans", tmp_path / "out"
    scans.mkdir(parents=True)
    for name in ON_DISK:
        shutil.copy(oriented["RAS"]["image"], scans / f"{name}.nii.gz")
    (scans / "<b>broken\udcff.nii.gz").write_bytes(b"no image")
    protocol = {"spacing_mm": (8.0, 8.0, 8.0)}
    model = write_model(tmp_path / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion", **protocol)
    network = {"network_def": {"_target_": "stand_ins.DarkIsLesion"}, "weights": model}
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    with pytest.raises(SystemExit):
        run_command("inference", "resunet", scans=str(scans), output_dir=str(out), amp=False, **network)
    assert {path for path in tmp_path.rglob("*") if out not in path.parents and path != out} == before
    volumes = pd.read_csv(out / "volumes.tsv", sep="\t")
    assert len(volumes) == len(ON_DISK)
    assert pd.read_csv(out / "failures.tsv", sep="\t")["scan"][0].endswith("<b>broken\\xff.nii.gz")
    shown = (out / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;broken\\xff" in shown
    assert not re.search(r"<b>broken|<img src=x", shown)
    for path in out.rglob("*.json"):
        json.loads(path.read_text())


def test_a_series_with_hostile_tags_is_segmented_under_a_harmless_name(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "LEAST_SLICES", 3)
    write_series(tmp_path / "in", np.ones((7, 8, 5), np.int16), patient="../../<b>", description="/etc/passwd")
    items = find_scans(tmp_path / "in")
    (name,) = name_scans(items, tmp_path)
    assert str(name) == "sub-inb1etcpasswd"
    assert nib.filename_parser.splitext_addext(str(name))[1] == ""
