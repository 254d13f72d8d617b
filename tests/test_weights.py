"""Shipped weights: what comes back, what is refused, and the way of a run from training to a mask and to further training."""

import hashlib
import json
import pickle

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from strokelesion.networks import ResUNet, SegNet
from strokelesion.pipeline.checkpoints import load_weights, read_state, save_checkpoint
from strokelesion.pipeline.errors import innermost
from strokelesion.pipeline.operating_point import MIN_COMPONENTS_ML, MIN_PEAKS, THRESHOLDS, OperatingPoint
from strokelesion.pipeline.weights import operating_point_of, write_weights

# Training narrower ones ends the process: torch 2.13 on the CPU, channels last.
CHANNELS = (16, 32)
PROTOCOL = {"spacing_mm": [1.0, 1.0, 3.0], "slice_mm": [192, 224]}
ABOUT = {"protocol": PROTOCOL, "threshold": 0.35, "min_component_ml": 0.05, "training": {"loss": "dice", "fold": "0"}}
HALF_PRECISION = 2**-11


# Another seed than the bundles': a run that is not started from these weights has others.
def network(seed=5):
    torch.manual_seed(seed)
    return ResUNet(channels=CHANNELS)


@pytest.fixture
def shipped(tmp_path):
    """Weights of a small network, as shipped."""
    path = tmp_path / "resunet.safetensors"
    write_weights(network(), path, ABOUT)
    return path


def edit_description(path, **changes):
    """Change what the description says; `None` takes an entry out."""
    beside = path.with_suffix(".json")
    content = json.loads(beside.read_text()) | changes
    beside.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_weights_come_back_in_single_precision_within_half_a_unit_of_half_precision(shipped):
    original = network().state_dict()
    loaded = load_weights(network(seed=1), shipped, PROTOCOL).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}
    for name, tensor in original.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=HALF_PRECISION, atol=1e-7)


def test_the_file_holds_half_precision_and_counters_as_they_are(tmp_path):
    counted = network()
    counted(torch.ones(1, 1, 8, 12))
    write_weights(counted, tmp_path / "counted.safetensors", ABOUT)
    state = load_file(tmp_path / "counted.safetensors")
    counters = {name: tensor for name, tensor in state.items() if name.endswith("num_batches_tracked")}
    assert {(int(tensor), tensor.dtype) for tensor in counters.values()} == {(1, torch.int64)}
    assert {tensor.dtype for name, tensor in state.items() if name not in counters} == {torch.float16}


def test_the_description_says_what_it_is_and_how_to_decide(shipped):
    about = json.loads(shipped.with_suffix(".json").read_text())
    assert about["sha256"] == hashlib.sha256(shipped.read_bytes()).hexdigest()
    assert (about["network"], about["parameters"]) == ("ResUNet", sum(p.numel() for p in network().parameters()))
    assert {key: about[key] for key in ABOUT} == ABOUT


def test_the_same_network_gives_the_same_bytes_however_it_lies_in_memory(shipped, tmp_path):
    again = tmp_path / "again" / shipped.name
    write_weights(network().to(memory_format=torch.channels_last), again, ABOUT)
    for suffix in (".safetensors", ".json"):
        assert again.with_suffix(suffix).read_bytes() == shipped.with_suffix(suffix).read_bytes()


@pytest.mark.parametrize("position", [0, 8, 100, -1])
def test_a_single_changed_byte_is_refused(position, shipped):
    content = bytearray(shipped.read_bytes())
    content[position] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(ValueError, match=r"resunet.safetensors has the SHA-256 .*; expected .*Get both again"):
        load_weights(network(), shipped, PROTOCOL)


class Intruder:
    def __reduce__(self):
        return (open, ("intruder.txt", "w"))


def test_a_pickle_under_another_name_is_refused_and_runs_nothing(shipped, tmp_path, monkeypatch):
    """Also when its description is made to fit."""
    monkeypatch.chdir(tmp_path)
    shipped.write_bytes(pickle.dumps({"network_name": Intruder()}))
    with pytest.raises(ValueError, match="SHA-256"):
        load_weights(network(), shipped, PROTOCOL)
    edit_description(shipped, sha256=hashlib.sha256(shipped.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_weights(network(), shipped, PROTOCOL)
    assert not (tmp_path / "intruder.txt").exists()


def test_other_networks_and_other_protocols_are_refused(shipped):
    with pytest.raises(ValueError, match="holds weights of ResUNet; expected SegNet"):
        load_weights(SegNet(), shipped, PROTOCOL)
    with pytest.raises(ValueError, match=r"made with spacing_mm \[1.0, 1.0, 3.0\]; got \[1.0, 1.0, 1.0\]. Give --spacing_mm"):
        load_weights(network(), shipped, PROTOCOL | {"spacing_mm": [1.0] * 3})
    with pytest.raises(ValueError, match="does not fit this ResUNet"):
        load_weights(ResUNet(channels=(2, 3)), shipped, PROTOCOL)
    with pytest.raises(ValueError, match=r"does not say which scans it was not trained on.*--scored all"):
        load_weights(network(), shipped, PROTOCOL | {"split": "5-fold", "fold": "0"})


def test_missing_and_damaged_descriptions_are_refused(shipped):
    edit_description(shipped, network=None, threshold=None)
    with pytest.raises(ValueError, match=r"resunet.json does not say network, threshold"):
        read_state(shipped)
    for damaged in ("{", "[]"):
        shipped.with_suffix(".json").write_text(damaged)
        with pytest.raises(ValueError, match=r"resunet.json is no description of weights"):
            read_state(shipped)
    shipped.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"has no .*resunet.json beside it"):
        read_state(shipped)
    shipped.unlink()
    with pytest.raises(ValueError, match=r"no weights at .*resunet.safetensors"):
        read_state(shipped)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold_are_refused_and_nothing_is_written(value, tmp_path):
    large = network()
    large.classifier.bias.data[1] = value
    with pytest.raises(ValueError, match=r"classifier.bias has weights up to .*; allowed are numbers up to 65504"):
        write_weights(large, tmp_path / "large.safetensors", ABOUT)
    assert not list(tmp_path.iterdir())


def test_what_is_asked_for_comes_before_what_is_stored_and_that_before_the_plain_rule(shipped, tmp_path):
    assert operating_point_of(shipped) == OperatingPoint(0.35, 0.05)
    assert operating_point_of(shipped, threshold=0.6) == OperatingPoint(0.6, 0.05)
    assert operating_point_of(shipped, min_component_ml=0.0) == OperatingPoint(0.35, 0.0)
    assert operating_point_of(shipped, min_peak=0.7) == OperatingPoint(0.35, 0.05, 0.7)
    assert operating_point_of(tmp_path / "best.pt") == OperatingPoint(0.5, 0.0)
    assert operating_point_of(tmp_path / "best.pt", 0.2, 1.0, 0.4) == OperatingPoint(0.2, 1.0, 0.4)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture
def run_small(run_verb, phantom_dir, cache_dir):
    """Run a verb with a small ResUNet on the phantom."""

    def run(verb, **knobs):
        definition = {"_target_": "strokelesion.networks.ResUNet", "channels": list(CHANNELS)}
        where = {"dataset_dir": str(phantom_dir), "cache_dir": cache_dir, "network_def": definition, "amp": "false"}
        run_verb(verb, "resunet", **{"panel_scans": 0, **where, **knobs})

    return run


@pytest.fixture
def ship(run_small, tmp_path):
    """Train for an epoch and ship; returns the run's folder and the weights."""

    def run(**knobs):
        where = {"run_dir": str(tmp_path / "run"), "weights_dir": str(tmp_path / "weights"), **knobs}
        run_small("training", epochs=1, learning_rate=0.01, **where)
        run_small("shipping", **where)
        return tmp_path / "run", tmp_path / "weights" / "resunet.safetensors"

    return run


def arrays(folder, kind):
    return np.asarray(nib.load(next(folder.rglob(f"*_{kind}.nii.gz"))).dataobj)


def test_a_run_is_shipped_and_inference_without_checkpoint_decides_as_was_chosen(ship, run_small, phantom_dir, tmp_path):
    run_dir, weights = ship()
    table, about = pd.read_csv(run_dir / "operating_points.csv"), json.loads(weights.with_suffix(".json").read_text())
    assert len(table) == len(THRESHOLDS) * len(MIN_COMPONENTS_ML) * len(MIN_PEAKS)
    point = ["threshold", "min_component_ml", "min_peak"]
    chosen = table[(table[point] == [about[name] for name in point]).all(axis=1)]
    assert chosen["dice"].item() >= table["dice"].max() - 0.005 > 0
    assert about["protocol"].items() >= {"spacing_mm": [4.0, 4.0, 4.0], "slice_mm": [192, 224]}.items()
    assert "fold" in about["training"]
    assert about["training"]["dataset_dir"] == phantom_dir.name
    assert (about["training"]["loss"], about["training"]["epoch"], about["training"]["init"]) == ("cce_dice", 1, None)

    scan = {"scans": str(next(phantom_dir.rglob("*t1w*"))), "save_probabilities": "true", "shipped": str(weights)}
    run_small("inference", output_dir=str(tmp_path / "shipped"), **scan)
    run_small("inference", output_dir=str(tmp_path / "best"), checkpoint=str(run_dir / "best.pt"), **scan)
    shipped, best = (arrays(tmp_path / name, "label-lesion_probseg") for name in ("shipped", "best"))
    assert np.ptp(best) > 0.1
    np.testing.assert_allclose(shipped, best, atol=0.01)
    for folder, probabilities, threshold in (("shipped", shipped, about["threshold"]), ("best", best, 0.5)):
        mask = arrays(tmp_path / folder, "label-lesion_mask") > 0
        assert (probabilities[mask] >= threshold - 1e-6).all()

    asked = {**scan, "output_dir": str(tmp_path / "asked"), "threshold": 0.05, "min_component_ml": 0, "min_peak": 0}
    run_small("inference", **asked)
    mask = arrays(tmp_path / "asked", "label-lesion_mask") > 0
    assert mask.any()
    assert np.array_equal(mask, shipped >= np.float32(0.05))


def test_training_starts_from_shipped_weights_at_another_voxel_size_and_says_so_after_a_resume(
    shipped, run_verb, phantom_dir, cache_dir, tmp_path
):
    """With a learning rate of nearly nothing, the weights stay those that the run started from."""
    definition = {"_target_": "strokelesion.networks.ResUNet", "channels": list(CHANNELS)}
    knobs = {"network_def": definition, "dataset_dir": str(phantom_dir), "cache_dir": cache_dir, "panel_scans": 0}
    knobs |= {"run_dir": str(tmp_path / "run"), "learning_rate": 1e-12, "amp": "false"}
    run_verb("training", "resunet", epochs=1, init="weights", shipped=str(shipped), **knobs)
    run_verb("training", "resunet", epochs=2, resume="true", **knobs)
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert last["epoch"] == 2
    assert last["init"] == f"resunet.safetensors, SHA-256 {hashlib.sha256(shipped.read_bytes()).hexdigest()[:12]}"
    started = read_state(shipped)["network"]
    for name, _ in network().named_parameters():
        torch.testing.assert_close(last["network"][name], started[name], rtol=0, atol=1e-6)

    run_verb("evaluating", "resunet", threshold=0.3, **knobs)
    settings = json.loads((tmp_path / "run/evaluation/held_out/about.json").read_text())["settings"]
    assert settings["init"] == last["init"]
    assert (settings["threshold"], settings["min_component_ml"]) == (0.3, 0.0)


def test_a_checkpoint_starts_a_run_too(run_verb, tmp_path, phantom_dir, cache_dir):
    save_checkpoint({"network_name": "SegNet", "network": {}, "protocol": {}}, tmp_path / "best.pt")
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run"), "cache_dir": cache_dir}
    with pytest.raises(RuntimeError) as error:
        run_verb("training", "resunet", init=str(tmp_path / "best.pt"), **where)
    assert "best.pt holds weights of SegNet; expected ResUNet" in str(innermost(error.value))


def test_networks_without_shipped_weights_say_what_to_use(run_verb, phantom_dir, tmp_path):
    with pytest.raises(RuntimeError) as error:
        run_verb("inference", "unet", scans=str(phantom_dir), output_dir=str(tmp_path))
    assert "no weights ship for this network" in str(innermost(error.value))
    assert "bundles/resunet.json" in str(innermost(error.value))


def test_a_run_is_shipped_on_the_scans_that_it_held_out(ship, run_small, tmp_path):
    run_dir, weights = ship()
    written = weights.read_bytes()
    with pytest.raises(RuntimeError) as error:
        run_small("shipping", run_dir=str(run_dir), weights_dir=str(tmp_path / "weights"), fold=1)
    assert "was made with fold 0; got 1" in str(innermost(error.value))
    assert weights.read_bytes() == written
