"""The way of a model: from a run to its release, to masks, and to further training."""

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from model_files import CHANNELS, RESUNET, small_resunet, write_model, write_small
from refusals import refusal

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.decision_search import MIN_COMPONENTS_ML, MIN_PEAKS, THRESHOLDS
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.options.model_options import bundle_root, require_own_folder

DECISION = {"threshold": 0.35, "min_component_ml": 0.05, "min_peak": 0.6}
# With a learning rate of nearly nothing, the weights stay those that the run started from.
STILL = {"learning_rate": 1e-12, "epochs": 1}


@pytest.fixture
def run_small(run_command, phantom_dir, tmp_path):
    """Run a command with a small ResUNet on the phantom, in the folder `run`."""

    def run(command, **options):
        where = {"dataset_dir": str(phantom_dir), "amp": "false", "run_dir": str(tmp_path / "run")}
        trained = {"network_def::channels": CHANNELS, "panel_scans": 0, "slices": "lesion"} if command == "training" else {}
        run_command(command, "resunet", **{**where, **trained, **options})

    return run


@pytest.fixture
def released(tmp_path):
    """A released model of the small network."""
    return write_small(
        tmp_path / "resunet.safetensors", decision=DECISION, training={"loss": "dice"}, spacing_mm=(1.0, 1.0, 3.0)
    )


def about(folder, scored):
    return json.loads((folder / f"run/evaluation/{scored}/about.json").read_text())


def test_a_run_is_released_and_inference_decides_as_was_chosen(run_small, run_command, phantom_dir, tmp_path, capsys):
    run_small("training", epochs=1, learning_rate=0.01, tta="true", slices="all")
    run_small("release", output_dir=str(tmp_path / "given"))
    held_out = pd.read_csv(tmp_path / "run/split.csv", dtype=str).query("fold == '0'")
    scans = sum(len(list(phantom_dir.rglob(f"{subject}/*/*t1w*"))) for subject in held_out["subject"])
    assert f"over {scans} held-out scans" in capsys.readouterr().out
    path = tmp_path / "given/resunet.safetensors"
    table, model = pd.read_csv(tmp_path / "given/decisions.csv"), read_model(path)
    assert len(table) == len(THRESHOLDS) * len(MIN_COMPONENTS_ML) * len(MIN_PEAKS)
    decision = model.description.decision.model_dump()
    assert table[(table[[*decision]] == list(decision.values())).all(axis=1)]["dice"].item() >= table["dice"].max() - 0.005 > 0
    assert model.description.network == {"_target_": RESUNET, "in_channels": 1, "out_channels": 3, "channels": CHANNELS}
    protocol = {"spacing_mm": (4.0,) * 3, "slice_mm": (192.0, 224.0), "mirror": True}
    assert protocol.items() <= model.description.protocol.model_dump().items()
    assert model.description.metadata["intended_use"]
    assert (model.description.held_out, model.state) == (None, {})
    training = {"loss": "cce_dice", "learning_rate": 0.01, "split": "5-fold", "fold": 0, "epoch": 1, "init": None}
    assert model.description.training.items() >= {**training, "dataset_dir": phantom_dir.name}.items()

    def infer(name, weights, **options):
        options |= {"scans": str(next(phantom_dir.rglob("*t1w*"))), "output_dir": str(tmp_path / name), "weights": str(weights)}
        run_command("inference", "resunet", pages=False, save_probabilities=True, amp=False, **options)
        images = [nib.load(next((tmp_path / name).rglob(f"*label-lesion_{kind}.nii.gz"))) for kind in ("probseg", "mask")]
        likely, mask = (np.asarray(image.dataobj) for image in images)
        return likely, mask > 0, json.loads(next((tmp_path / name).rglob("*_mask.json")).read_text())["Settings"]

    likely, mask, applied = infer("released", path)
    exactly, mask_of_checkpoint, _ = infer("best", tmp_path / "run/best.pt")
    assert np.ptp(exactly) > 0.1
    np.testing.assert_allclose(likely, exactly, atol=0.01)
    assert (likely[mask] >= decision["threshold"] - 1e-6).all()
    assert (exactly[mask_of_checkpoint] >= 0.5 - 1e-6).all()
    assert (applied["decision"], applied["tta"]) == (decision, True)
    assert applied["weights"] == f"resunet.safetensors, SHA-256 {model.sha256}"

    # What is asked for comes before what the model says.
    probability, mask, applied = infer("asked", path, threshold=0.05, min_component_ml=0, min_peak=0, tta=False)
    assert mask.any()
    assert np.array_equal(mask, probability >= np.float32(0.05))
    assert applied["tta"] is False
    assert not np.allclose(probability, likely, atol=1e-5)

    # A run is released on the scans that it held out; the released model no longer says which.
    written = path.read_bytes()
    given = {"output_dir": str(path.parent)}
    assert "--fold, which release does not take. The model itself says it." in refusal(run_small, "release", fold=1, **given)
    message = refusal(run_small, "release", weights=str(path), **given)
    assert f"{path} does not say which scans its training held out; expected the model of a run" in message
    assert path.read_bytes() == written
    assert "--output_dir is missing" in refusal(run_small, "release")


def test_the_pretrained_models_are_never_replaced(run_small, tmp_path):
    """Neither where they are installed nor where the installation points to."""
    path = write_small(tmp_path / "run" / "best.pt")
    installed = Path(bundle_root(), "weights")
    folders = {installed, *(file.resolve().parent for file in installed.glob("*.safetensors"))}

    def hashes():
        return {file: hashlib.sha256(file.read_bytes()).hexdigest() for folder in folders for file in folder.iterdir()}

    before = hashes()
    assert len(before) >= 3
    for folder in (*folders, installed / "new", installed.parent):
        # Asked of the function first: were it not refused, the command would write.
        with pytest.raises(UserError, match=r"--output_dir got .*, where the pretrained models are; expected another folder"):
            require_own_folder(str(folder))
        message = refusal(run_small, "release", weights=path, output_dir=str(folder))
        assert message.startswith(f"--output_dir got {folder}, where the pretrained models are")
    assert hashes() == before


def test_a_released_model_is_measured_on_all_scans_only(run_small, tmp_path):
    weights = write_small(tmp_path / "resunet.safetensors", decision=DECISION, training={"loss": "dice"})
    message = refusal(run_small, "evaluating", weights=weights)
    assert message.startswith(f"{weights} does not say which scans its training held out; expected the model of a run.")
    assert "--scored all" in message
    assert not (tmp_path / "run").exists()
    run_small("evaluating", scored="all", weights=weights)
    found = about(tmp_path, "all")
    assert (found["network"], found["loss"]) == ("ResUNet", "dice")
    settings = {"weights": "resunet.safetensors", "spacing_mm": [4.0, 4.0, 4.0], **DECISION}
    assert settings.items() <= found["settings"].items()
    scores = pd.read_csv(tmp_path / "run/evaluation/all/scores.csv")
    assert len(scores) == 3 * len(list((tmp_path / "run/evaluation/all/predictions").rglob("*_mask.nii.gz"))) > 0


def test_training_starts_from_a_released_model_at_another_voxel_size_and_says_so_after_a_resume(released, run_small, tmp_path):
    run_small("training", init=released, **STILL)
    run_small("training", **{**STILL, "epochs": 2}, resume="true")
    last, start = read_model(tmp_path / "run/last.pt"), read_model(released)
    assert (last.state["epoch"], last.state["init"]) == (2, f"resunet.safetensors, SHA-256 {start.sha256}")
    assert last.description.protocol.spacing_mm == (4.0, 4.0, 4.0)
    for name, _ in small_resunet().named_parameters():
        torch.testing.assert_close(last.weights[name], start.weights[name], rtol=0, atol=1e-6)
    run_small("evaluating", threshold=0.3)
    settings = {"init": last.state["init"], "epochs": 2, "weights": "last.pt", "threshold": 0.3, "min_peak": 0.0}
    assert settings.items() <= about(tmp_path, "held_out")["settings"].items()


def test_training_with_more_neighbors_starts_from_a_model_with_fewer(released, run_small, tmp_path):
    """What the model learned goes to the middle channel; the new neighbors count for nothing yet."""
    run_small("training", init=released, neighbors=1, **STILL)
    last, start = read_model(tmp_path / "run" / "last.pt"), read_model(released)
    assert (last.description.protocol.neighbors, last.description.network["in_channels"]) == (1, 3)
    slices = torch.rand(2, 3, 32, 32)
    wide = load_weights(small_resunet(seed=1, in_channels=3), last, "last.pt").train()
    narrow = load_weights(small_resunet(seed=1), start, released).train()
    torch.testing.assert_close(wide(slices), narrow(slices[:, 1:2]), atol=1e-3, rtol=0)


def test_a_run_with_fewer_neighbors_than_its_start_or_of_another_network_is_refused(run_small, tmp_path):
    arguments = {"channels": CHANNELS, "in_channels": 3}
    wide = write_model(tmp_path / "wide.pt", small_resunet(in_channels=3), RESUNET, arguments, neighbors=1)
    other = write_model(tmp_path / "best.pt", small_resunet(), "strokelesion.networks.SegNet")
    for init, message in (
        (wide, f"{wide} does not fit this ResUNet"),
        (other, f"{other} is a SegNet; expected a ResUNet. Use the bundle file of SegNet"),
        (str(tmp_path / "gone.pt"), f"no model at {tmp_path / 'gone.pt'}"),
    ):
        assert refusal(run_small, "training", init=init, neighbors=0).startswith(message)
    assert not list(tmp_path.rglob("last.pt"))
