"""From masks to a better model: segment, correct, accept, measure, describe the group, and train on what was reviewed."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import anatomy, grid
from model_files import write_model
from stand_ins import DarkIsLesion

from strokelesion.pipeline.console.command_line import main
from strokelesion.pipeline.review.saving import find_reviewed, read_voxels


@pytest.fixture
def command(run_command, tmp_path):
    """Run a command on a BIDS data set of three participants, with a network that calls dark tissue lesion."""
    shape, affine = grid()
    image, _, sub = anatomy(shape, affine)
    for label, values in (("01", image), ("02", 2 * image), ("03", np.where(sub, 80, image))):
        path = tmp_path / f"raw/sub-{label}/anat/sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)
    model = write_model(tmp_path / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion", spacing_mm=(8.0, 8.0, 8.0))
    options = {"network_def": {"_target_": "stand_ins.DarkIsLesion"}, "weights": model, "scans": str(tmp_path / "raw")}
    return lambda name, **others: run_command(name, "resunet", output_dir=str(tmp_path / "out"), **options, **others)


def tables(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.tsv")}


def test_a_correction_stays_until_a_model_has_learned_from_it(command, run_command, tmp_path):
    out, masks = tmp_path / "out", tmp_path / "masks"
    command("inference")
    first, second, third = find_reviewed(out).values()
    drawn = nib.load(first.mask)
    labels = np.asarray(drawn.dataobj).copy()
    x, y, z = np.argwhere(labels)[0]
    labels[x, y, z], labels[2, 2, 2] = 0, 1
    masks.mkdir()
    nib.save(nib.Nifti1Image(255 * labels, drawn.affine), masks / "sub-01_T1w_edited.nii")
    main(["measure", str(out), "--masks", str(masks)])
    second.decide(second.version(second.decision()), "accepted", "AB", "")
    third.decide(third.version(third.decision()), "rejected", "AB", "moved")
    main(["measure", str(out)])
    measured = tables(out)
    assert pd.read_csv(out / "volumes.tsv", sep="\t")["mask"].tolist() == ["manual", "automatic", "automatic"]
    assert pd.read_csv(out / "review_status.tsv", sep="\t")["scans"].tolist() == [0, 1, 1, 1]
    for again in ("inference", "group"):
        command(again)
        assert {name: known for name, known in tables(out).items() if name in measured} == measured
    scored = {"dataset_dir": str(out), "predictions": str(out), "name": "automatic", "run_dir": str(tmp_path / "scored")}
    run_command("scoring", "resunet", **scored)
    (scores,) = (tmp_path / "scored").rglob("scores.csv")
    dice = pd.read_csv(scores).query("lesion == 'both'").set_index("subject")["dice"]
    assert dice["sub-01"] < dice["sub-02"] == 1
    where = {"run_dir": str(tmp_path / "run"), "dataset_dir": str(out), "epochs": 1, "split": "2-fold", "slices": "lesion"}
    run_command("doctor", "resunet", dataset_dir=str(out), doctor_csv=str(tmp_path / "doctor.csv"))
    run_command("training", "resunet", **{"network_def::channels": [8, 16]}, **where)
    split = pd.read_csv(tmp_path / "run/split.csv")
    assert sorted(split["subject"]) == ["sub-01", "sub-02"]
    np.testing.assert_array_equal(read_voxels(first.mask), labels)
