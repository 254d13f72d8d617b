"""The bundle files: every network and loss by every command, MONAI's official properties, and rules that keep them readable."""

import configparser
import json
import re
import sys

import monai.bundle
import pandas as pd
import pytest
from checkout import ROOT
from model_files import CHANNELS, RESUNET, write_model
from monai.bundle import ConfigWorkflow
from refusals import refusal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from strokelesion import networks
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.options.option_checks import check
from strokelesion.pipeline.options.settings import OPTIONS

CLASSES = {"unet": "UNet", "segnet": "SegNet", "resunet": "ResUNet"}
BUNDLES = (*CLASSES, "resunet_synthetic", "brain", "adapt", "synthesis", "experiments")
SMALL = {"network_def::channels": CHANNELS}
MOST_EXPRESSIONS, MOST_LINES, MOST_LINES_BY_HAND = 30, 320, 700
BRIGHT = {
    "_target_": "strokelesion.transforms.BrainExtractor",
    "find": {
        "_target_": "strokelesion.transforms.BrainNetwork",
        "network": {"_target_": "stand_ins.BrightIsBrain", "level": 0.2},
        "infer": {"_target_": "SliceInferer", "roi_size": [256, 256], "spatial_dim": 2},
    },
}


@pytest.fixture
def run(run_command, phantom_dir, tmp_path):
    """Run a command on the phantom in the folder `run`."""
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run")}
    return lambda command, bundle="resunet", **options: run_command(command, bundle, **{**where, **options})


def about(folder):
    return json.loads(next(folder.rglob("*_mask.json")).read_text())["Settings"]


@pytest.mark.parametrize(("network", "loss"), [("unet", "cce"), ("segnet", "dice"), ("resunet", "cce_dice")])
def test_every_network_and_loss_trains_evaluates_and_infers(network, loss, run, run_command, phantom_dir, tmp_path, capsys):
    run("training", network, epochs=1, loss=loss)
    held_out = pd.read_csv(tmp_path / "run/split.csv", dtype=str).query("fold == '0'")["subject"]

    run("evaluating", network)
    results = tmp_path / "run/evaluation/held_out"
    scores = pd.read_csv(results / "scores.csv", dtype={"subject": str}).query("lesion == 'main'")
    assert set(scores["subject"]) == set(held_out)
    assert scores["dice"].between(0, 1).all()
    assert scores["truth_ml"].gt(0).all()
    assert "Keras study's slice Dice" in capsys.readouterr().out
    found = json.loads((results / "about.json").read_text())
    assert (found["network"], found["loss"], found["fold"]) == (CLASSES[network], loss, 0)

    scan, masks, weights = next(phantom_dir.rglob("*t1w*")), tmp_path / "masks", str(tmp_path / "run/best.pt")
    # Any bundle file applies any model: the model says which network it is.
    run_command("inference", "resunet", scans=str(scan), output_dir=str(masks), weights=weights)
    named = f"sub-{scan.name.split('.')[0].replace('_', '')}_label-lesion_mask.nii.gz"
    assert [path.name for path in masks.rglob("*_mask.nii.gz")] == [named]
    assert about(masks)["network"] == CLASSES[network]
    assert about(masks)["protocol"]["spacing_mm"] == [4.0, 4.0, 4.0]


def test_training_and_evaluating_keep_to_the_brain_where_asked(run, tmp_path):
    """The model remembers: evaluating is not told."""
    run("training", epochs=1, intensities="brain", slices="lesion", brain_extractor=BRIGHT)
    run("evaluating", brain_extractor=BRIGHT)
    assert pd.read_csv(tmp_path / "run/evaluation/held_out/scores.csv")["dice"].dropna().between(0, 1).all()
    assert about(tmp_path / "run")["protocol"]["intensities"] == "brain"
    said = refusal(run, "evaluating", brain_extractor=BRIGHT, intensities="tissue")
    assert "--intensities, which evaluating does not take. The model itself says it." in said


def test_tensorboard_gets_curves_and_panels_at_the_first_validation_whatever_the_intervals(run, tmp_path):
    run("training", epochs=2, val_interval=2, panel_interval=3, slices="lesion")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    training = {"training/loss", "training/learning_rate", "training/slices_per_s"}
    validation = {f"validation/dice_{name}" for name in ("main", "sub", "both")}
    assert set(events.Tags()["scalars"]) == training | validation
    assert all([event.step for event in events.Scalars(tag)] == [1, 2] for tag in training)
    assert all([event.step for event in events.Scalars(tag)] == [2] for tag in validation)
    panels = ["T1, truth, prediction/scan 1", "T1, truth, prediction/scan 2"]
    assert events.Tags()["images"] == panels
    assert all([event.step for event in events.Images(panel)] == [2] for panel in panels)


@pytest.mark.parametrize("network", CLASSES)
@pytest.mark.parametrize("kind", ["train", "infer"])
def test_monais_official_properties_are_all_there(network, kind, phantom_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fresh = getattr(networks, CLASSES[network])()
    weights = write_model(tmp_path / "fresh.pt", fresh, f"strokelesion.networks.{CLASSES[network]}")
    workflow = ConfigWorkflow(
        config_file=str(ROOT / f"bundles/{network}.json"),
        workflow_type=kind,
        logging_file=False,
        dataset_dir=str(phantom_dir),
        scans=f"{phantom_dir}/**/*t1w*",
        run_dir=str(tmp_path),
        spacing_mm=4,
        weights=weights,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    if kind == "infer":
        assert type(workflow.network_def).__name__ == CLASSES[network]
        assert len(workflow.dataset) == len(list(phantom_dir.rglob("*t1w*")))


def text(bundle):
    return (ROOT / f"bundles/{bundle}.json").read_text()


def strings(content):
    """Return every string of a configuration, keys left out."""
    if isinstance(content, dict):
        return [word for value in content.values() for word in strings(value)]
    return [word for value in content for word in strings(value)] if isinstance(content, list) else [content]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_file_is_configuration_with_a_head_that_says_how_to_run_it_and_no_program(bundle):
    content = json.loads(text(bundle))
    words = [word for word in strings(content) if isinstance(word, str)]
    expressions = [word for word in words if word.startswith("$")]
    assert len(expressions) <= MOST_EXPRESSIONS
    assert not [word for word in expressions if re.search(r"\bif\b|\bfor\b|\|", word)]
    assert not [word for word in words if word.startswith("%")]
    assert len(text(bundle).splitlines()) <= MOST_LINES
    assert f"--config_file bundles/{bundle}.json" in content["_desc_"][1]
    assert any(line.startswith("Expected: ") for line in content["_desc_"])
    used = {"bundle_root", "weights", "run_dir", "output_dir"} | set(re.findall(r"@(\w+)", text(bundle)))
    assert {name for name in content if name in OPTIONS} <= used


def derive():
    """Return the program that writes the derived bundle files, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bundles"))
        import derive

        sys.modules.pop("derive")
    return derive


def test_derived_bundle_files_are_fresh_and_a_person_maintains_few_lines():
    """Run `python bundles/derive.py` after a change of one of their sources."""
    program = derive()
    for name, content in program.files().items():
        assert text(name) == content, name
    derived = {ROOT / f"bundles/{name}.json" for name in program.DERIVED}
    by_hand = set((ROOT / "bundles").rglob("*.json")) - derived
    assert sum(len(path.read_text().splitlines()) for path in by_hand) <= MOST_LINES_BY_HAND


def test_the_metadata_names_all_packages_and_the_versions_that_were_tested():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = set(re.findall(r"^([\w-]+)>=", setup["options"]["install_requires"], re.MULTILINE))
    tested = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    metadata = json.loads(text("metadata"))
    named = {
        name: metadata[f"{field}_version"] for name, field in (("torch", "pytorch"), ("monai", "monai"), ("numpy", "numpy"))
    }
    assert named | metadata["required_packages_version"] == {name: tested[name] for name in needed}
    assert metadata["version"] == setup["metadata"]["version"]


def test_the_networks_bundles_differ_in_their_network_only():
    files = [json.loads(text(network)) for network in CLASSES]
    assert len({file.pop("network_def")["_target_"] for file in files}) == 3
    for file in files:
        file.pop("_desc_")
    assert files[0] == files[1] == files[2]


def test_options_that_the_first_bundle_file_lists_have_the_defaults_of_the_table():
    content = json.loads(text("resunet"))
    listed = check({name: value for name, value in content.items() if name in OPTIONS})
    assert listed == check({})


def test_a_run_describes_itself_and_is_resumed_without_its_options(run, run_command, phantom_dir, tmp_path):
    begun = {"neighbors": 1, "loss": "dice", "fold": 1, "learning_rate": 0.002, "slices": "lesion"}
    run("training", epochs=1, **begun)
    where = {"run_dir": str(tmp_path / "run"), "resume": True}
    config_file = str(ROOT / "bundles/resunet.json")
    monai.bundle.run(run_id="training", config_file=config_file, logging_file=False, epochs=2, **where)
    last = read_model(tmp_path / "run/last.pt")
    assert last.state["epoch"] == 2
    description = last.description
    assert begun.items() <= description.settings().items()
    assert description.network == {"_target_": "strokelesion.networks.ResUNet", "in_channels": 3, "out_channels": 3}
    assert (description.protocol.spacing_mm, description.held_out.split) == ((4.0, 4.0, 4.0), "5-fold")
    assert description.training["dataset_dir"] == str(phantom_dir)
    assert description.metadata["network_data_format"]["inputs"]["image"]["num_channels"] == 3
    said = refusal(run_command, "training", "resunet", epochs=3, neighbors=2, **where)
    assert "run/last.pt is a model with the network" in said
    said = refusal(run_command, "training", "resunet", epochs=3, loss="cce", learning_rate=0.1, **where)
    assert "learning_rate 0.002, got 0.1; loss dice, got cce. Expected the same." in said


def test_a_run_that_starts_from_a_model_shows_scans_as_it_was_shown_them(run, tmp_path):
    """Unless another voxel size is asked for; a network may also be shown more neighbors than it knows."""
    protocol = {"spacing_mm": (6.0, 6.0, 6.0), "planes": ("axial", "coronal"), "neighbors": 1}
    network = networks.ResUNet(in_channels=3, channels=CHANNELS)
    arguments = {"in_channels": 3, "out_channels": 3, "channels": CHANNELS}
    first = write_model(tmp_path / "first.safetensors", network, RESUNET, arguments, **protocol)
    options = {"init": first, "epochs": 1, "slices": "lesion", **SMALL}
    run("training", run_dir=str(tmp_path / "same"), **options)
    protocol = read_model(tmp_path / "same/last.pt").description.protocol
    assert (protocol.spacing_mm, protocol.planes, protocol.neighbors) == ((4.0, 4.0, 4.0), ("axial", "coronal"), 1)
    run("training", run_dir=str(tmp_path / "more"), neighbors=2, planes="axial", **options)
    description = read_model(tmp_path / "more/last.pt").description
    assert (description.protocol.planes, description.network["in_channels"]) == (("axial",), 5)
