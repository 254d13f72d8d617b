"""Participants that are segmented one by one, and described together, give what one run gives."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import anatomy, grid
from model_files import write_model
from stand_ins import DarkIsLesion

from strokelesion.pipeline.inference.new_scans import byte_of
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.pipeline.runtime.locks import LOCK


@pytest.fixture
def command(run_command, tmp_path):
    """Run a command on a BIDS data set of three participants, with a network that calls dark tissue lesion."""
    shape, affine = grid()
    image, main, sub = anatomy(shape, affine)
    for label, values in (("01", image), ("02", np.where(main | sub, 80, image)), ("03", np.where(sub, 80, image))):
        path = tmp_path / f"raw/sub-{label}/anat/sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)
    model = write_model(tmp_path / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion", spacing_mm=(8.0, 8.0, 8.0))
    options = {"network_def": {"_target_": "stand_ins.DarkIsLesion"}, "weights": model, "scans": str(tmp_path / "raw")}

    def run(name, out, **others):
        run_command(name, "resunet", output_dir=str(tmp_path / out), **options, **others)

    return run


def content(folder):
    """Return the files of a folder by name, without the lock, which names its process."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK
    }


def refused(command, *words, **options):
    """Return the error for the user that a command ends with."""
    with pytest.raises(RuntimeError) as error:
        command(*words, **options)
    return user_error(error.value)


def test_one_by_one_and_then_the_group_gives_what_one_run_gives(command, tmp_path, caplog):
    command("inference", "whole")
    for label in ("03", "01,02"):
        command("inference", "shared", participant=label, tables=False)
        assert not [*(tmp_path / "shared").glob("*.tsv"), *(tmp_path / "shared").glob("*.html")]
    command("group", "shared")
    assert content(tmp_path / "shared") == content(tmp_path / "whole")
    assert "3 of 3 scans are not in the maps of the group" in caplog.text


def test_the_group_names_who_has_no_result_with_its_settings(command, tmp_path):
    command("inference", "out", participant="01,02", tables=False)
    with pytest.raises(SystemExit) as ended:
        command("group", "out")
    assert ended.value.code == 1
    assert pd.read_csv(tmp_path / "out/volumes.tsv", sep="\t")["scan"].tolist() == ["sub-01", "sub-02"]
    (failed,) = pd.read_csv(tmp_path / "out/failures.tsv", sep="\t").to_dict("records")
    assert failed["scan"].endswith("sub-03_T1w.nii.gz")
    assert "no result with these settings" in failed["reason"]
    before = content(tmp_path / "out")
    assert "no result of these scans with these settings" in str(refused(command, "group", "out", threshold=0.9))
    assert content(tmp_path / "out") == before


def test_the_lock_of_some_scans_is_theirs_alone_and_none_of_a_part():
    one, other = byte_of({"sub-01": None}), byte_of({"sub-02": None})
    assert one == byte_of({"sub-01": None}) != other
    assert min(one, other) > 10**9
