"""The bundle files: nine experiments by every verb, MONAI's official properties, one network apart."""

import json

import pandas as pd
import pytest
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from strokelesion import networks
from strokelesion.pipeline.checkpoints import save_checkpoint
from strokelesion.pipeline.errors import innermost

NETWORKS = ("unet", "segnet", "resunet")
LOSSES = ("cce", "dice", "cce_dice")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_experiment_trains_evaluates_and_infers(network, loss, run_verb, phantom_dir, cache_dir, tmp_path, capsys):
    run_dir, data = tmp_path / "run", str(phantom_dir)
    where = {"run_dir": str(run_dir), "cache_dir": cache_dir, "loss": loss}
    run_verb("training", network, dataset_dir=data, epochs=1, **where)
    held_out = pd.read_csv(run_dir / "split.csv", dtype=str).query("fold == '0'")["subject"]

    run_verb("evaluating", network, dataset_dir=data, **where)
    scores = pd.read_csv(run_dir / "evaluation/held_out/scores.csv", dtype={"subject": str}).query("lesion == 'main'")
    assert set(scores["subject"]) == set(held_out)
    assert scores["dice"].between(0, 1).all()
    assert scores["truth_ml"].gt(0).all()
    assert "seed's Dice" in capsys.readouterr().out
    about = json.loads((run_dir / "evaluation/held_out/about.json").read_text())
    assert (about["network"].lower(), about["loss"], about["fold"]) == (network, loss, "0")

    scan = next(phantom_dir.rglob("*t1w*"))
    best = str(run_dir / "best.pt")
    run_verb("inference", network, scans=str(scan), output_dir=str(tmp_path / "masks"), checkpoint=best, **where)
    masks = [path.name for path in (tmp_path / "masks").rglob("*.nii.gz")]
    assert masks == [f"sub-{scan.name.split('.')[0].replace('_', '')}_label-lesion_mask.nii.gz"]


def test_training_and_evaluating_keep_to_the_brain_where_asked(run_verb, phantom_dir, cache_dir, tmp_path):
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path), "cache_dir": cache_dir}
    extractor = {
        "_target_": "strokelesion.transforms.BrainExtractor",
        "find": {
            "_target_": "strokelesion.transforms.BrainNetwork",
            "infer": "@brain_inferer",
            "network": {"_target_": "stand_ins.BrightIsBrain", "level": 0.2},
        },
    }
    run_verb("training", "resunet", epochs=1, intensities="brain", brain_extractor=extractor, **where)
    run_verb("evaluating", "resunet", intensities="brain", brain_extractor=extractor, **where)
    scores = pd.read_csv(tmp_path / "evaluation/held_out/scores.csv")
    assert scores["dice"].between(0, 1).all()

    with pytest.raises(RuntimeError) as error:
        run_verb("evaluating", "resunet", intensities="tissue", **where)
    assert "was made with intensities brain; got tissue. Give --intensities brain" in str(innermost(error.value))


def test_tensorboard_gets_curves_and_panels(run_verb, phantom_dir, cache_dir, tmp_path):
    run_verb("training", "resunet", dataset_dir=str(phantom_dir), epochs=2, run_dir=str(tmp_path), cache_dir=cache_dir)
    events = EventAccumulator(str(tmp_path)).Reload()
    curves = {"training/loss", "training/learning_rate", "training/slices_per_s"}
    curves |= {f"validation/dice_{name}" for name in ("main", "sub", "both")}
    assert set(events.Tags()["scalars"]) == curves
    assert all([event.step for event in events.Scalars(tag)] == [1, 2] for tag in curves)
    assert events.Tags()["images"] == ["T1, truth, prediction/scan 1", "T1, truth, prediction/scan 2"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["train", "infer"])
def test_monais_official_properties_are_all_there(network, kind, at_root, phantom_dir, cache_dir, tmp_path):
    workflow = ConfigWorkflow(
        config_file=f"bundles/{network}.json",
        workflow_type=kind,
        logging_file=False,
        dataset_dir=str(phantom_dir),
        scans=str(phantom_dir),
        run_dir=str(tmp_path),
        cache_dir=cache_dir,
        checkpoint=str(save_fresh(network, tmp_path)),
        spacing_mm=4,
        intensities="tissue",
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def save_fresh(network, folder):
    name = {"unet": "UNet", "segnet": "SegNet", "resunet": "ResUNet"}[network]
    path = folder / "fresh.pt"
    content = {"network_name": name, "network": getattr(networks, name)().state_dict()}
    save_checkpoint(
        {**content, "protocol": {"spacing_mm": [4.0] * 3, "slice_mm": [192, 224], "intensities": "tissue", "neighbors": 0}},
        path,
    )
    return path


def test_the_bundles_differ_in_their_network_and_its_shipped_weights_only(at_root):
    files = [json.loads((at_root / f"bundles/{network}.json").read_text()) for network in NETWORKS]
    names = {file.pop("network_def")["_target_"] for file in files}
    assert len(names) == 3
    assert [file.pop("shipped") for file in files] == [None, None, "bundles/weights/resunet.safetensors"]
    assert files[0] == files[1] == files[2]


def test_each_chapter_is_said_once_and_every_line_points_to_one(at_root):
    chapters = json.loads((at_root / "bundles/common.json").read_text())
    lines = json.loads((at_root / "bundles/resunet.json").read_text())
    macros = {key: value for key, value in lines.items() if isinstance(value, str) and value.startswith("%")}
    assert macros == {key: f"%bundles/common.json::{key}" for key in chapters}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"loss": "dise"}, "--loss got 'dise'; allowed are cce, dice, cce_dice"),
        ({"slice_mm": [192]}, "two numbers of mm from 32"),
        ({"amp": "no"}, "true, false"),
        ({"intensities": "head"}, "--intensities got 'head'; allowed are brain, tissue"),
        ({"fold": -1}, "a whole number of at least 0 and the name of a site"),
        (
            {"save_brain": "true"},
            "--save_brain got true, but with --intensities tissue and --prepare none no brain is looked for",
        ),
        ({"split": "1-fold"}, "--split got '1-fold'; allowed are 5-fold"),
    ],
)
def test_wrong_knobs_are_refused_before_anything_starts(knobs, message, run_verb, tmp_path):
    with pytest.raises(RuntimeError) as error:
        run_verb("training", "resunet", run_dir=str(tmp_path / "run"), **knobs)
    assert message in str(innermost(error.value))
    assert not (tmp_path / "run").exists()


def test_panels_are_drawn_at_the_first_validation_whatever_the_intervals(run_verb, phantom_dir, cache_dir, tmp_path):
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path), "cache_dir": cache_dir}
    run_verb("training", "resunet", epochs=3, val_interval=3, panel_interval=2, panel_scans=1, **where)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images("T1, truth, prediction/scan 1")] == [3]


def test_an_unknown_network_option_names_the_choices(run_verb, tmp_path):
    definition = {"_target_": "strokelesion.networks.SegNet", "unpooling": "bilinear"}
    with pytest.raises(RuntimeError) as error:
        run_verb("training", "segnet", network_def=definition, run_dir=str(tmp_path / "run"), dataset_dir=str(tmp_path))
    assert "nearest, indices" in str(innermost(error.value))
