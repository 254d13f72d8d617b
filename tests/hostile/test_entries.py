"""Every input and output of every command: what is missing, empty, forbidden or full is refused in a few lines.

Unknown options and values out of range are in test_options.py, hostile files in test_security.py, folders in use in
test_locks.py.
"""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import small_head as head
import torch
from checkout import BUNDLES
from privileges import only_own_files

from strokelesion.pipeline.runtime.errors import show_error
from strokelesion.pipeline.synthesis.cohort import compose_records

# No user may write here, not even root.
FORBIDDEN = Path("/sys/strokelesion")
COHORT = json.loads(BUNDLES.joinpath("synthesis.json").read_text())["cohort"]
# Bundle, input and outputs of each command.
COMMANDS = {
    "training": ("resunet", "dataset_dir", "run_dir cache_dir"),
    "doctor": ("resunet", "dataset_dir", "doctor_csv"),
    "evaluating": ("resunet", "dataset_dir", "run_dir"),
    "inference": ("resunet", "scans", "output_dir"),
    "release": ("resunet", "", "output_dir"),
    "synthesis": ("synthesis", "heads", "output_dir material_dir"),
    "experiments": ("experiments", "dataset_dir", "runs_dir"),
    "scoring": ("resunet", "predictions", "run_dir"),
    "reporting": ("experiments", "runs", "report_dir"),
}
INPUTS = [(command, given) for command, (_, given, _) in COMMANDS.items() if given]
OUTPUTS = [(command, option) for command, (*_, written) in COMMANDS.items() for option in written.split()]


@pytest.fixture(scope="module")
def trained(phantom_dir, tmp_path_factory):
    """The folder of a run of one epoch, made once by whoever asks first."""
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def started(run_command, trained, phantom_dir, tmp_path, capsys):
    """Start a command with all that it needs, but for what is given; return what a user would read."""
    data = {"dataset_dir": str(phantom_dir)}
    run = {**data, "run_dir": str(trained)}
    if not trained.exists():
        run_command("training", "resunet", epochs=1, slices="lesion", **run)
        for scored in ("held_out", "all"):
            run_command("evaluating", "resunet", scored=scored, **run)
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "one_labels.nii.gz").touch()
    cohort = compose_records(head.material(tmp_path), "held_out", 1, lesion_free=1)
    needed = {
        "training": {**run, "slices": "lesion", "epochs": 1, "run_dir": str(tmp_path / "run_dir")},
        "doctor": data,
        "evaluating": run,
        "inference": {"scans": str(next(phantom_dir.rglob("*t1w*"))), "weights": str(trained / "last.pt")},
        "release": run,
        "synthesis": {"heads": str(tmp_path / "heads"), "cohort": cohort},
        "experiments": {**data, "networks": "resunet"},
        "scoring": {**data, "predictions": str(trained / "evaluation/all/predictions"), "name": "other"},
        "reporting": {"runs": str(trained), "runs_dir": str(tmp_path / "runs")},
    }

    def start(command, **options):
        capsys.readouterr()
        bundle, _, written = COMMANDS[command]
        places = {option: str(tmp_path / option.replace("_csv", ".csv")) for option in written.split()}
        # Heads and masks are looked for only where that is what is tried.
        material = {} if options.keys().isdisjoint({"heads", "material_dir"}) else {"cohort": COHORT}
        with only_own_files(), pytest.raises((Exception, SystemExit)) as caught:
            run_command(command, bundle, **{**places, **needed[command], **material, **options})
        if isinstance(caught.value, SystemExit):
            return str(capsys.readouterr()).replace("\\n", "\n")
        show_error(type(caught.value), caught.value, caught.tb)
        return capsys.readouterr().err

    return start


def is_clear(said):
    """Whether what is said, after progress bars, is an error without frames: a few lines, or ten files or layouts by name."""
    return said.count("error: ") == 1 and "Traceback" not in said and len(said.split("error: ")[1].splitlines()) <= 13


@pytest.mark.parametrize(("command", "option"), INPUTS)
@pytest.mark.parametrize("state", ["missing", "empty", "forbidden"])
def test_inputs_that_are_not_there_are_named(started, tmp_path, command, option, state):
    folder = tmp_path / f"{state} folder"
    if state != "missing":
        folder.mkdir(0 if state == "forbidden" else 0o777)
    said = started(command, **{option: str(folder)})
    assert is_clear(said), said
    assert str(folder) in said


@pytest.mark.parametrize("command", ["training", "doctor", "scoring"])
@pytest.mark.parametrize("file", ["*t1w*", "*LesionSmooth_stx*"])
def test_a_forbidden_file_of_a_data_set_is_named(started, phantom_dir, tmp_path, command, file):
    data = shutil.copytree(phantom_dir, tmp_path / "data")
    forbidden = next(data.rglob(file))
    forbidden.chmod(0)
    said = started(command, dataset_dir=str(data))
    # Scoring looks first which masks were made of this very file.
    read_first = command == "scoring" and file == "*t1w*"
    assert (f"{forbidden}: Permission denied" if read_first else "may not be read: permission denied") in said
    if command == "doctor":
        assert "1 stops training" in said
    else:
        assert is_clear(said), said
        assert str(forbidden) in said


def test_a_forbidden_scan_does_not_stop_the_others(started, phantom_dir, tmp_path):
    (tmp_path / "scans").mkdir()
    for number, scan in enumerate(sorted(phantom_dir.rglob("*t1w*"))[:2]):
        shutil.copy(scan, tmp_path / "scans" / f"scan{number}.nii.gz").chmod((0, 0o666)[number])
    said = started("inference", scans=str(tmp_path / "scans"))
    assert "1 of 2 scans segmented" in said
    assert "scan0.nii.gz may not be read: permission denied" in (tmp_path / "output_dir/failures.tsv").read_text()
    assert [path.name for path in (tmp_path / "output_dir").rglob("*mask.nii.gz")] == ["sub-scan1_label-lesion_mask.nii.gz"]


@pytest.mark.skipif(not FORBIDDEN.parent.is_dir(), reason="needs /sys, where nobody may make a folder")
@pytest.mark.parametrize(("command", "option"), OUTPUTS)
def test_folders_that_nobody_may_write_to_are_named(started, command, option):
    said = started(command, **{option: str(FORBIDDEN / "out.csv" if option == "doctor_csv" else FORBIDDEN)})
    assert is_clear(said), said
    assert str(FORBIDDEN) in said


@pytest.mark.parametrize(("command", "option"), [pair for pair in OUTPUTS if pair != ("evaluating", "run_dir")])
def test_a_full_disk_is_named_and_leaves_no_part(started, tmp_path, monkeypatch, command, option):
    folder = tmp_path / "full"

    def full(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    said = started(command, **{option: str(folder / "out.csv" if option == "doctor_csv" else folder)})
    assert re.search(r"No space left.*free space", said, re.IGNORECASE | re.DOTALL), said
    assert is_clear(said), said
    assert not list(folder.rglob("*.part"))


FAULTS = ("missing", "forbidden", "cut short", "text", "changed", "of a later version")


@pytest.mark.parametrize(
    ("command", "fault"), [*(("inference", fault) for fault in FAULTS), ("evaluating", "missing"), ("release", "changed")]
)
def test_models_that_cannot_be_used_are_named(started, trained, tmp_path, command, fault):
    path, known = tmp_path / "weights.pt", trained / "last.pt"
    if fault == "forbidden":
        path.touch(0)
    elif fault in ("cut short", "text"):
        content = known.read_bytes()
        path.write_bytes(content[: len(content) // 2] if fault == "cut short" else b"no weights")
    elif fault != "missing":
        change = {"sha256": "0" * 64} if fault == "changed" else {"version": 99}
        torch.save({**torch.load(known, weights_only=True), **change}, path)
    said = started(command, weights=str(path))
    assert is_clear(said), said
    assert str(path) in said
