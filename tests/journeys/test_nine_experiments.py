"""All nine experiments on 20 scans of the cohort for comparisons, small: every cell is in the report."""

import pandas as pd
import pytest

from strokelesion.pipeline.synthesis.phantom import write_phantom

SMALL = {"spacing_mm": 8, "epochs": 1, "batch_size": 16, "panel_scans": 0, "device": "cpu"}


@pytest.fixture
def report(run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = write_phantom("study", subjects=19, sites=9, voxel_mm=4.0, like_atlas=True)
    run_command("experiments", "experiments", dataset_dir=str(cohort), split="5-fold", folds=0, **SMALL)
    return tmp_path / "report"


def test_every_network_under_every_loss_is_in_the_report(report):
    cells = {(network, loss) for network in ("UNet", "SegNet", "ResUNet") for loss in ("cce", "dice", "cce_dice")}
    for name in ("table", "runs"):
        table = pd.read_csv(report / f"{name}.csv").query("lesion == 'main'")
        assert set(zip(table["network"], table["loss"], strict=True)) == cells
        assert table["dice"].between(0, 1).all()
        assert len(set(table["scans"])) == 1
    assert {path.stem for path in (report / "figures").glob("*.png")} >= {"nine_cells", "learning_curves", "bland_altman"}
    scores = pd.read_csv(report / "scores.csv")
    limit = scores.query("lesion == 'sub' and truth_ml > 0")["keras_dice_limit"]
    assert len(limit)
    assert limit.between(0, 1, inclusive="right").all()
    assert (scores["keras_dice"] <= scores["keras_dice_limit"] + 1e-9).all()
