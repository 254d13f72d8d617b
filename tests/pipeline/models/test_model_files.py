"""Files of models: what comes back; damaged, changed and foreign ones are refused."""

import json
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from model_files import CHANNELS, HELD_OUT, RESUNET, small_resunet, write_model, write_small
from monai.networks.nets import FullyConnectedNet
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from strokelesion.networks import ResUNet, UserError
from strokelesion.pipeline.evaluation.release import describe_released
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.architecture import build_network
from strokelesion.pipeline.models.description import Decision
from strokelesion.pipeline.models.model_files import read_model, write_released

DECISION = {"threshold": 0.35, "min_component_ml": 0.05, "min_peak": 0.6}
TRAINING = {"loss": "dice", "epoch": 4}
HALF_PRECISION = 2**-11


@pytest.fixture
def released(tmp_path):
    return Path(write_small(tmp_path / "resunet.safetensors", decision=DECISION, training=TRAINING, mirror=True))


@pytest.fixture(params=["tiny.safetensors", "tiny.pt"])
def tiny(request, tmp_path):
    """The smallest of models, in both kinds of files."""
    arguments = {"in_channels": 1, "out_channels": 2, "hidden_channels": [2]}
    target = "monai.networks.nets.FullyConnectedNet"
    return Path(write_model(tmp_path / request.param, FullyConnectedNet(**arguments), target, arguments))


def test_a_released_model_holds_half_precision_and_says_what_it_is(released):
    assert {tensor.dtype for tensor in load_file(released).values()} == {torch.float16, torch.int64}
    model = read_model(released)
    loaded = load_weights(build_network(model.description.network, released), model, released).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}
    for name, tensor in small_resunet().state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=HALF_PRECISION, atol=1e-7)
    description = model.description
    assert (description.network, description.network_name) == ({"_target_": RESUNET, "channels": CHANNELS}, "ResUNet")
    protocol = {"spacing_mm": (4.0,) * 3, "slice_mm": (192.0, 224.0), "planes": ("axial",), "neighbors": 0, "mirror": True}
    assert protocol.items() <= description.protocol.model_dump().items()
    assert (description.decision.model_dump(), description.training, description.held_out) == (DECISION, TRAINING, None)


def test_counters_stay_whole_numbers(tmp_path):
    counted = small_resunet()
    counted(torch.ones(1, 1, 8, 12))
    path = write_model(tmp_path / "counted.safetensors", counted, RESUNET, {"channels": CHANNELS})
    counters = [tensor for name, tensor in load_file(path).items() if name.endswith("num_batches_tracked")]
    assert {(int(tensor), tensor.dtype) for tensor in counters} == {(1, torch.int64)}


def test_a_checkpoint_holds_weights_exactly_and_the_state_of_its_training(tmp_path):
    model = read_model(write_small(tmp_path / "last.pt", state={"epoch": 3, "best": 0.5}))
    assert all(torch.equal(tensor, model.weights[name]) for name, tensor in small_resunet().state_dict().items())
    assert model.state == {"epoch": 3, "init": None, "best": 0.5}
    assert model.description.held_out == HELD_OUT


@pytest.mark.parametrize("name", ["resunet.safetensors", "best.pt"])
def test_the_same_network_gives_the_same_bytes_however_it_lies_in_memory(name, tmp_path):
    one, again = (Path(write_small(tmp_path / folder / name)) for folder in ("one", "again"))
    assert again.read_bytes() == one.read_bytes()
    laid_out = small_resunet().to(memory_format=torch.channels_last)
    other = Path(write_model(tmp_path / "other" / name, laid_out, RESUNET, {"channels": CHANNELS}))
    assert read_model(one).sha256 == read_model(other).sha256
    if name != "best.pt":  # a checkpoint keeps the order in memory, so that a resumed run has it, too
        assert one.read_bytes() == other.read_bytes()


def test_a_file_with_any_byte_changed_is_refused_or_says_and_holds_the_same(tiny):
    """What is not under the SHA-256 is no part of the model: the version of the software that wrote it, and padding."""

    def content_of(model):
        return model.description, {name: tensor.tolist() for name, tensor in model.weights.items()}

    content, known = tiny.read_bytes(), content_of(read_model(tiny))
    is_released, taken = tiny.suffix == ".safetensors", []
    # A checkpoint is larger: every fifth byte is enough.
    for position in range(0, len(content), 1 if is_released else 5):
        changed = bytearray(content)
        changed[position] ^= 1
        tiny.write_bytes(changed)
        with suppress(UserError):  # any other error is a fault
            assert content_of(read_model(tiny)) == known
            taken.append(position)
    if is_released:
        start = content.index(b'software\\": \\"') + len(b'software\\": \\"')
        assert taken == list(range(start, content.index(b"\\", start)))


class Intruder:
    def __reduce__(self):
        return (open, ("intruder.txt", "w"))


@pytest.mark.parametrize("change", [lambda _: b"", lambda c: c[: len(c) // 2], lambda c: c[:-9], pickle.dumps])
def test_a_file_cut_short_or_of_another_kind_is_refused_and_runs_nothing(change, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_bytes(
        pickle.dumps({"version": 2, "network": Intruder()}) if change is pickle.dumps else change(tiny.read_bytes())
    )
    with pytest.raises(UserError, match=rf"{tiny.name} is no model of this project, or damaged; expected .* Copy it again"):
        read_model(tiny)
    assert not Path("intruder.txt").exists()


def edit_header(path, **changes):
    """Change what a released model says of itself, its SHA-256 included, as anybody can; `None` takes an entry out."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["strokelesion"]) | changes
    kept = {name: value for name, value in header.items() if value is not None}
    save_file(load_file(path), path, {"strokelesion": json.dumps(kept)})


NO_MODEL = "resunet.safetensors is no model of this project"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"loss": "cce"}}, r"has the SHA-256 .*; expected .*, as it says: the file was changed or cut short. Get"),
        (
            {"protocol": {"spacing_mm": [1, 1]}, "decision": None},
            r"describes itself wrongly \(protocol.spacing_mm.*\); expected a model of this version",
        ),
        ({"network": None, "sense_of_humor": "dry"}, r"describes itself wrongly \(network, sense_of_humor\)"),
        ({"training": {"loss": "$open('x')"}}, "describes itself with .* expected words that MONAI does not evaluate"),
        ({"sha256": None}, NO_MODEL),
    ],
)
def test_a_changed_description_is_refused(changes, message, released):
    edit_header(released, **changes)
    with pytest.raises(UserError, match=message):
        read_model(released)


@pytest.mark.parametrize("header", [None, "[1]", "1", "{}", '{"network": {}}'])
def test_weights_without_a_description_are_no_model(header, tmp_path):
    path = tmp_path / "resunet.safetensors"
    save_file({"weight": torch.zeros(2)}, path, header and {"strokelesion": header})
    with pytest.raises(UserError, match=NO_MODEL):
        read_model(path)


def test_missing_files_other_versions_and_other_shapes_are_refused(released, tmp_path):
    with pytest.raises(UserError, match=r"no model at .*gone.safetensors; expected a file that training or release wrote"):
        read_model(tmp_path / "gone.safetensors")
    torch.save({"version": 1, "network": {}}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last.pt is a checkpoint of version 1; expected version 2"):
        read_model(tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"resunet.safetensors does not fit this ResUNet"):
        load_weights(ResUNet(channels=(2, 3)), read_model(released), released)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold_and_wrong_names_are_refused(value, tmp_path):
    large = small_resunet()
    large.classifier.bias.data[1] = value
    with pytest.raises(UserError, match=r"classifier.bias has weights up to .*; allowed are numbers up to 65504"):
        write_model(tmp_path / "large.safetensors", large, RESUNET)
    with pytest.raises(UserError, match=r"allowed are names that end in .safetensors"):
        write_released(tmp_path / "model.bin", None, {})
    assert not list(tmp_path.iterdir())


def test_a_released_model_does_not_say_where_data_or_lists_lay(tmp_path):
    held_out = HELD_OUT.model_copy(update={"split": "/home/alice/lists/mine.csv"})
    path = write_small(tmp_path / "best.pt", held_out=held_out, training={"dataset_dir": "/home/alice/ATLAS_R1.1"})
    summary = describe_released(read_model(path), Decision()).training
    assert (summary["dataset_dir"], summary["split"]) == ("ATLAS_R1.1", "mine.csv")
