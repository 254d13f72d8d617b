"""The bundle files: nine experiments by every command, MONAI's official properties, and rules that keep the files readable."""

import json
import re
import sys

import monai.bundle
import pandas as pd
import pytest
from checkout import ROOT
from model_files import write_model
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from strokelesion import networks
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.options.settings import OPTIONS, check
from strokelesion.pipeline.runtime.errors import user_error

NETWORKS = ("unet", "segnet", "resunet")
CLASSES = {"unet": "UNet", "segnet": "SegNet", "resunet": "ResUNet"}
LOSSES = ("cce", "dice", "cce_dice")
BUNDLES = (*NETWORKS, "resunet_synthetic", "brain", "synthesis", "experiments")
MOST_EXPRESSIONS, MOST_LINES, MOST_LINES_BY_HAND = 30, 300, 700
BRIGHT = {
    "_target_": "strokelesion.transforms.BrainExtractor",
    "find": {
        "_target_": "strokelesion.transforms.BrainNetwork",
        "network": {"_target_": "stand_ins.BrightIsBrain", "level": 0.2},
        "infer": {"_target_": "SliceInferer", "roi_size": [256, 256], "spatial_dim": 2},
    },
}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_experiment_trains_evaluates_and_infers(network, loss, run_command, phantom_dir, cache_dir, tmp_path, capsys):
    run_dir, data = tmp_path / "run", str(phantom_dir)
    where = {"run_dir": str(run_dir), "cache_dir": cache_dir}
    run_command("training", network, dataset_dir=data, epochs=1, loss=loss, **where)
    held_out = pd.read_csv(run_dir / "split.csv", dtype=str).query("fold == '0'")["subject"]

    run_command("evaluating", network, dataset_dir=data, **where)
    scores = pd.read_csv(run_dir / "evaluation/held_out/scores.csv", dtype={"subject": str}).query("lesion == 'main'")
    assert set(scores["subject"]) == set(held_out)
    assert scores["dice"].between(0, 1).all()
    assert scores["truth_ml"].gt(0).all()
    assert "Keras study's slice Dice" in capsys.readouterr().out
    about = json.loads((run_dir / "evaluation/held_out/about.json").read_text())
    assert (about["network"], about["loss"], about["fold"]) == (CLASSES[network], loss, 0)

    scan = next(phantom_dir.rglob("*t1w*"))
    # Any bundle file applies any model: the model says which network it is.
    run_command("inference", "resunet", scans=str(scan), output_dir=str(tmp_path / "masks"), weights=str(run_dir / "best.pt"))
    masks = [path.name for path in (tmp_path / "masks").rglob("*.nii.gz")]
    assert masks == [f"sub-{scan.name.split('.')[0].replace('_', '')}_label-lesion_mask.nii.gz"]
    sidecar = json.loads(next((tmp_path / "masks").rglob("*_mask.json")).read_text())
    assert sidecar["Settings"]["network"] == CLASSES[network]
    assert sidecar["Settings"]["protocol"]["spacing_mm"] == [4.0, 4.0, 4.0]


def test_training_and_evaluating_keep_to_the_brain_where_asked(run_command, phantom_dir, cache_dir, tmp_path):
    """The model remembers: evaluating is not told."""
    where = {
        "dataset_dir": str(phantom_dir),
        "run_dir": str(tmp_path / "run"),
        "cache_dir": cache_dir,
        "brain_extractor": BRIGHT,
    }
    run_command("training", "resunet", epochs=1, intensities="brain", **where)
    run_command("evaluating", "resunet", **where)
    scores = pd.read_csv(tmp_path / "run/evaluation/held_out/scores.csv")
    assert scores["dice"].between(0, 1).all()
    sidecar = json.loads(next((tmp_path / "run").rglob("*_mask.json")).read_text())
    assert sidecar["Settings"]["protocol"]["intensities"] == "brain"
    with pytest.raises(RuntimeError) as error:
        run_command("evaluating", "resunet", **where, intensities="tissue")
    assert "--intensities, which evaluating does not take. The model itself says it." in str(user_error(error.value))


def test_tensorboard_gets_curves_and_panels(run_command, phantom_dir, cache_dir, tmp_path):
    run_dir = str(tmp_path / "run")
    run_command("training", "resunet", dataset_dir=str(phantom_dir), epochs=2, run_dir=run_dir, cache_dir=cache_dir)
    events = EventAccumulator(run_dir).Reload()
    curves = {"training/loss", "training/learning_rate", "training/slices_per_s"}
    curves |= {f"validation/dice_{name}" for name in ("main", "sub", "both")}
    assert set(events.Tags()["scalars"]) == curves
    assert all([event.step for event in events.Scalars(tag)] == [1, 2] for tag in curves)
    assert events.Tags()["images"] == ["T1, truth, prediction/scan 1", "T1, truth, prediction/scan 2"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["train", "infer"])
def test_monais_official_properties_are_all_there(network, kind, phantom_dir, cache_dir, tmp_path, monkeypatch):
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
        cache_dir=cache_dir,
        spacing_mm=4,
        weights=weights,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    if kind == "infer":
        assert type(workflow.network_def).__name__ == CLASSES[network]
        assert len(workflow.dataset) == len(list(phantom_dir.rglob("*t1w*")))


def test_the_same_seed_gives_the_same_losses(run_command, phantom_dir, cache_dir, tmp_path):
    losses = []
    for name in ("one", "two"):
        where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / name), "cache_dir": cache_dir}
        run_command("training", "resunet", epochs=2, **where)
        losses.append(pd.read_csv(tmp_path / name / "history.csv")["loss"].tolist())
    assert losses[0] == losses[1]


def test_a_run_describes_itself(run_command, phantom_dir, cache_dir, tmp_path):
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run"), "cache_dir": cache_dir}
    run_command("training", "resunet", epochs=1, neighbors=1, loss="dice", fold=1, **where)
    description = read_model(tmp_path / "run/last.pt").description
    assert description.network == {"_target_": "strokelesion.networks.ResUNet", "in_channels": 3, "out_channels": 3}
    assert (description.protocol.spacing_mm, description.protocol.neighbors) == ((4.0, 4.0, 4.0), 1)
    assert (description.held_out.split, description.held_out.fold) == ("5-fold", 1)
    assert (description.training["loss"], description.training["dataset_dir"]) == ("dice", str(phantom_dir))
    assert description.metadata["network_data_format"]["inputs"]["image"]["num_channels"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "dise"}, "--loss got 'dise'; allowed are cce, dice, cce_dice, cce_lesion"),
        ({"slice_mm": [192]}, "two numbers of mm from 32"),
        ({"amp": "perhaps"}, "--amp got 'perhaps'; allowed are true, false"),
        ({"intensities": "head"}, "--intensities got 'head'; allowed are brain, tissue"),
        ({"fold": -1}, "a whole number of at least 0 and the name of a site"),
        ({"split": "1-fold"}, "--split got '1-fold'; allowed are 5-fold"),
        ({"planes": "axial,coronal", "spacing_mm": [4, 4, 5]}, "expected cubes"),
        ({"init": "pretrained", "resume": "true"}, "allowed is one of them"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(options, message, run_command, tmp_path):
    with pytest.raises(RuntimeError) as error:
        run_command("training", "resunet", run_dir=str(tmp_path / "run"), **options)
    assert message in str(user_error(error.value))
    assert not (tmp_path / "run").exists()


def test_panels_are_drawn_at_the_first_validation_whatever_the_intervals(run_command, phantom_dir, cache_dir, tmp_path):
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run"), "cache_dir": cache_dir}
    run_command("training", "resunet", epochs=3, val_interval=3, panel_interval=2, panel_scans=1, **where)
    events = EventAccumulator(where["run_dir"]).Reload()
    assert [event.step for event in events.Images("T1, truth, prediction/scan 1")] == [3]


def test_an_unknown_network_option_names_the_choices(run_command, tmp_path):
    definition = {"_target_": "strokelesion.networks.SegNet", "unpooling": "bilinear"}
    with pytest.raises(RuntimeError) as error:
        run_command("training", "segnet", network_def=definition, run_dir=str(tmp_path / "run"), dataset_dir=str(tmp_path))
    assert "nearest, indices" in str(user_error(error.value))


def text(bundle):
    return (ROOT / f"bundles/{bundle}.json").read_text()


def strings(content):
    """Return every string of a configuration, keys left out."""
    if isinstance(content, dict):
        return [word for value in content.values() for word in strings(value)]
    return [word for value in content for word in strings(value)] if isinstance(content, list) else [content]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_file_is_configuration_and_no_program(bundle):
    words = [word for word in strings(json.loads(text(bundle))) if isinstance(word, str)]
    expressions = [word for word in words if word.startswith("$")]
    assert len(expressions) <= MOST_EXPRESSIONS
    assert not [word for word in expressions if re.search(r"\bif\b|\bfor\b|\|", word)]
    assert not [word for word in words if word.startswith("%")]
    assert len(text(bundle).splitlines()) <= MOST_LINES


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_head_of_a_bundle_file_says_what_it_is_how_to_run_it_and_what_to_expect(bundle):
    lines = json.loads(text(bundle))["_desc_"]
    assert f"--config_file bundles/{bundle}.json" in lines[1]
    assert any(line.startswith("Expected: ") for line in lines)


def derive():
    """Return the program that writes the derived bundle files, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bundles"))
        import derive

        sys.modules.pop("derive")
    return derive


def test_derived_bundle_files_are_fresh_and_all_have_one_layout():
    """Run `python bundles/derive.py` after a change of one of their sources."""
    for name, content in derive().files().items():
        assert text(name) == content, name


def test_a_person_maintains_few_lines():
    derived = {f"{name}.json" for name in derive().DERIVED}
    by_hand = [
        path for path in (ROOT / "bundles").rglob("*.json") if path.parent.name == "overrides" or path.name not in derived
    ]
    assert sum(len(path.read_text().splitlines()) for path in by_hand) <= MOST_LINES_BY_HAND


def test_the_networks_bundles_differ_in_their_network_only():
    files = [json.loads(text(network)) for network in NETWORKS]
    assert len({file.pop("network_def")["_target_"] for file in files}) == 3
    for file in files:
        file.pop("_desc_")
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_options_that_a_bundle_file_lists_are_used_there(bundle):
    content = json.loads(text(bundle))
    used = {"bundle_root", "weights", "run_dir", "output_dir"} | set(re.findall(r"@(\w+)", text(bundle)))
    assert {name for name in content if name in OPTIONS} <= used


def test_options_that_the_first_bundle_file_lists_have_the_defaults_of_the_table():
    content = json.loads(text("resunet"))
    listed = check({name: value for name, value in content.items() if name in OPTIONS})
    assert listed == check({})


def test_a_resumed_run_needs_none_of_its_options_again(run_command, phantom_dir, cache_dir, tmp_path):
    where = {"run_dir": str(tmp_path / "run"), "cache_dir": cache_dir}
    begun = {"neighbors": 1, "loss": "dice", "fold": 1, "learning_rate": 0.002, "slices": "lesion"}
    run_command("training", "resunet", dataset_dir=str(phantom_dir), epochs=1, **begun, **where)
    monai.bundle.run(
        run_id="training", config_file=str(ROOT / "bundles/resunet.json"), logging_file=False, epochs=2, resume=True, **where
    )
    last = read_model(tmp_path / "run/last.pt")
    assert last.state["epoch"] == 2
    assert begun.items() <= last.description.settings().items()
    with pytest.raises(RuntimeError) as error:
        run_command("training", "resunet", epochs=3, resume=True, neighbors=2, **where)
    assert "run/last.pt is a model with the network" in str(user_error(error.value))
    with pytest.raises(RuntimeError) as error:
        run_command("training", "resunet", epochs=3, resume=True, loss="cce", learning_rate=0.1, **where)
    assert "learning_rate 0.002, got 0.1; loss dice, got cce. Expected the same." in str(user_error(error.value))


def test_a_run_that_starts_from_a_model_shows_scans_as_it_was_shown_them(run_command, phantom_dir, cache_dir, tmp_path):
    """Unless another voxel size is asked for; a network may also be shown more neighbors than it knows."""
    first = write_model(
        tmp_path / "first.safetensors",
        networks.ResUNet(in_channels=3, channels=(16, 32)),
        "strokelesion.networks.ResUNet",
        {"in_channels": 3, "out_channels": 3, "channels": [16, 32]},
        spacing_mm=(6.0, 6.0, 6.0),
        planes=("axial", "coronal"),
        neighbors=1,
    )
    definition = {
        "_target_": "strokelesion.networks.ResUNet",
        "in_channels": "$2 * @neighbors + 1",
        "channels": [16, 32],
    }
    where = {"dataset_dir": str(phantom_dir), "cache_dir": cache_dir, "network_def": definition, "init": first, "epochs": 1}
    run_command("training", "resunet", run_dir=str(tmp_path / "same"), **where)
    protocol = read_model(tmp_path / "same/last.pt").description.protocol
    assert (protocol.spacing_mm, protocol.planes, protocol.neighbors) == ((4.0, 4.0, 4.0), ("axial", "coronal"), 1)
    run_command("training", "resunet", run_dir=str(tmp_path / "more"), neighbors=2, planes="axial", **where)
    description = read_model(tmp_path / "more/last.pt").description
    assert (description.protocol.planes, description.network["in_channels"]) == (("axial",), 5)
