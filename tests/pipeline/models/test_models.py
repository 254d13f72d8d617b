"""Models on disk: what comes back, what is refused, and the way of a run from training to a mask and to further training."""

import hashlib
import json
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from model_files import HELD_OUT, write_model
from monai.networks.nets import FullyConnectedNet
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stand_ins import DarkIsLesion

from strokelesion.networks import ResUNet, UserError
from strokelesion.pipeline.cohorts.splits import split_cohort
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.evaluation import release as releasing
from strokelesion.pipeline.evaluation.decision_search import MIN_COMPONENTS_ML, MIN_PEAKS, THRESHOLDS
from strokelesion.pipeline.models.application import brain_network, load_weights
from strokelesion.pipeline.models.architecture import build_network
from strokelesion.pipeline.models.description import Decision
from strokelesion.pipeline.models.model_files import digest, read_model, write_released
from strokelesion.pipeline.options.workflow import bundle_root, require_own_folder
from strokelesion.pipeline.runtime.errors import user_error

RESUNET = "strokelesion.networks.ResUNet"
# Training narrower ones ends the process: torch 2.13 on the CPU, channels last.
CHANNELS = [16, 32]
DECISION = {"threshold": 0.35, "min_component_ml": 0.05, "min_peak": 0.6}
TRAINING = {"loss": "dice", "epoch": 4}
HALF_PRECISION = 2**-11
RULE = ["threshold", "min_component_ml", "min_peak"]
CODE = "$__import__('os').mkdir('intruder')"


# Another seed than the bundles': a run that is not started from these weights has others.
def network(seed=5, **arguments):
    torch.manual_seed(seed)
    return ResUNet(channels=CHANNELS, **arguments)


@pytest.fixture
def released(tmp_path):
    """A released model of a small network."""
    path = tmp_path / "resunet.safetensors"
    arguments = {"channels": CHANNELS}
    write_model(path, network(), RESUNET, arguments, DECISION, training=TRAINING, spacing_mm=(1.0, 1.0, 3.0), mirror=True)
    return path


@pytest.fixture(params=["tiny.safetensors", "tiny.pt"])
def tiny(request, tmp_path):
    """The smallest of models, in both kinds of files."""
    path = tmp_path / request.param
    arguments = {"in_channels": 1, "out_channels": 2, "hidden_channels": [2]}
    write_model(path, FullyConnectedNet(**arguments), "monai.networks.nets.FullyConnectedNet", arguments)
    return path


def content_of(model):
    """What a model is, for comparison: its description and its weights."""
    return model.description, {name: tensor.tolist() for name, tensor in model.weights.items()}


def edit_header(path, **changes):
    """Change what a released model says of itself, its SHA-256 included, as anybody can; `None` takes an entry out."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["strokelesion"]) | changes
    kept = {name: value for name, value in header.items() if value is not None}
    save_file(load_file(path), path, {"strokelesion": json.dumps(kept)})


def test_weights_come_back_in_single_precision_within_half_a_unit_of_half_precision(released):
    original = network().state_dict()
    loaded = load_weights(network(seed=1), read_model(released), released).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}
    for name, tensor in original.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=HALF_PRECISION, atol=1e-7)


def test_the_file_holds_half_precision_and_counters_as_they_are(tmp_path):
    counted = network()
    counted(torch.ones(1, 1, 8, 12))
    write_model(tmp_path / "counted.safetensors", counted, RESUNET, {"channels": CHANNELS})
    state = load_file(tmp_path / "counted.safetensors")
    counters = {name: tensor for name, tensor in state.items() if name.endswith("num_batches_tracked")}
    assert {(int(tensor), tensor.dtype) for tensor in counters.values()} == {(1, torch.int64)}
    assert {tensor.dtype for name, tensor in state.items() if name not in counters} == {torch.float16}


def test_a_model_says_what_it_is_how_scans_are_shown_to_it_and_how_to_decide(released):
    description = read_model(released).description
    assert description.network == {"_target_": RESUNET, "channels": CHANNELS}
    assert description.network_name == "ResUNet"
    assert description.protocol.spacing_mm == (1.0, 1.0, 3.0)
    assert (description.protocol.slice_mm, description.protocol.planes) == ((192.0, 224.0), ("axial",))
    assert (description.protocol.mirror, description.protocol.neighbors) == (True, 0)
    assert description.decision.model_dump() == DECISION
    assert description.held_out is None
    assert description.training == TRAINING
    built = build_network(description.network, released)
    assert [tensor.shape for tensor in built.state_dict().values()] == [t.shape for t in network().state_dict().values()]


def test_a_checkpoint_holds_weights_exactly_and_the_state_of_its_training(tmp_path):
    path = tmp_path / "last.pt"
    write_model(path, network(), RESUNET, {"channels": CHANNELS}, state={"epoch": 3, "best": 0.5})
    model = read_model(path)
    assert all(torch.equal(tensor, model.weights[name]) for name, tensor in network().state_dict().items())
    assert model.state == {"epoch": 3, "init": None, "best": 0.5}
    assert model.description.held_out == HELD_OUT


@pytest.mark.parametrize("name", ["resunet.safetensors", "best.pt"])
def test_the_same_network_gives_the_same_bytes_however_it_lies_in_memory(name, tmp_path):
    arguments = {"channels": CHANNELS}
    one = write_model(tmp_path / "one" / name, network(), RESUNET, arguments)
    laid_out = network().to(memory_format=torch.channels_last)
    other = write_model(tmp_path / "other" / name, laid_out, RESUNET, arguments)
    assert read_model(one).sha256 == read_model(other).sha256
    if name != "best.pt":  # a checkpoint keeps the order in memory, so that a resumed run has it, too
        assert Path(one).read_bytes() == Path(other).read_bytes()
    assert Path(write_model(tmp_path / "again" / name, network(), RESUNET, arguments)).read_bytes() == Path(one).read_bytes()


def test_a_file_with_any_byte_changed_is_refused_or_says_and_holds_the_same(tiny):
    """What is not under the SHA-256 is no part of the model: the version of the software that wrote it, and padding."""
    content, known = tiny.read_bytes(), content_of(read_model(tiny))
    taken = []
    # A checkpoint is larger: every third byte is enough.
    for position in range(0, len(content), 1 if tiny.suffix == ".safetensors" else 3):
        changed = bytearray(content)
        changed[position] ^= 1
        tiny.write_bytes(changed)
        # Any other error is a fault.
        with suppress(UserError):
            taken.append((position, content_of(read_model(tiny))))
    assert all(model == known for _, model in taken)
    if tiny.suffix == ".safetensors":
        start = content.index(b'software\\": \\"') + len(b'software\\": \\"')
        assert [position for position, _ in taken] == list(range(start, content.index(b"\\", start)))


@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_file_cut_short_is_refused(kept, tiny):
    content = tiny.read_bytes()
    tiny.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=rf"{tiny.name} is no model of this project, or damaged; expected .* Copy it again"):
        read_model(tiny)


def test_changed_weights_and_a_changed_description_are_refused(released):
    content = released.read_bytes()
    released.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"resunet.safetensors has the SHA-256 .*; expected .*, as it says: .* Get it again"):
        read_model(released)
    released.write_bytes(content)
    edit_header(released, training={"loss": "cce"})
    with pytest.raises(UserError, match="the file was changed or cut short"):
        read_model(released)


class Intruder:
    def __reduce__(self):
        return (open, ("intruder.txt", "w"))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_pickle_under_another_name_is_refused_and_runs_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps({"version": 2, "network": Intruder()}))
    with pytest.raises(UserError, match="is no model of this project"):
        read_model(name)
    assert not Path("intruder.txt").exists()


def test_files_that_do_not_describe_a_model_are_refused(released, tmp_path):
    content = released.read_bytes()
    edit_header(released, protocol={"spacing_mm": [1, 1]}, decision=None)
    with pytest.raises(
        UserError, match=r"describes itself wrongly \(protocol.spacing_mm.*\); expected a model of this version"
    ):
        read_model(released)
    released.write_bytes(content)
    edit_header(released, network=None, sense_of_humor="dry")
    with pytest.raises(UserError, match=r"describes itself wrongly \(network, sense_of_humor\)"):
        read_model(released)
    edit_header(released, sha256=None)
    with pytest.raises(UserError, match="is no model of this project"):
        read_model(released)
    save_file(network().state_dict(), released)
    with pytest.raises(UserError, match="is no model of this project"):
        read_model(released)
    with pytest.raises(UserError, match=r"no model at .*gone.safetensors; expected a file that training or release wrote"):
        read_model(tmp_path / "gone.safetensors")
    torch.save({"version": 1, "network": {}}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last.pt is a checkpoint of version 1; expected version 2"):
        read_model(tmp_path / "last.pt")


def test_weights_of_another_shape_are_refused(released):
    with pytest.raises(UserError, match=r"resunet.safetensors does not fit this ResUNet"):
        load_weights(ResUNet(channels=(2, 3)), read_model(released), released)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold_are_refused_and_nothing_is_written(value, tmp_path):
    large = network()
    large.classifier.bias.data[1] = value
    with pytest.raises(UserError, match=r"classifier.bias has weights up to .*; allowed are numbers up to 65504"):
        write_model(tmp_path / "large.safetensors", large, RESUNET)
    assert not list(tmp_path.iterdir())


def test_a_released_model_has_the_name_of_one(released, tmp_path):
    with pytest.raises(UserError, match=r"allowed are names that end in .safetensors"):
        write_released(tmp_path / "model.bin", read_model(released).description, {})
    assert not (tmp_path / "model.bin").exists()


@pytest.fixture
def scan(phantom_dir):
    """A scan of the phantom."""
    return str(next(phantom_dir.rglob("*t1w*")))


@pytest.fixture
def infer(run_command, scan, tmp_path):
    """Segment a scan into a folder of its own, and return that folder."""

    def run(name="masks", **options):
        run_command("inference", "resunet", scans=scan, output_dir=str(tmp_path / name), **{"pages": False, **options})
        return tmp_path / name

    return run


def told(work, *arguments, **options):
    """Return what a user is told of work that is refused."""
    with pytest.raises((RuntimeError, UserError)) as error:
        work(*arguments, **options)
    said = user_error(error.value)
    assert said is not None, error.value
    return str(said)


def test_a_class_of_elsewhere_is_neither_imported_nor_run_unless_the_bundle_names_it(infer, tmp_path, monkeypatch):
    (tmp_path / "lurking.py").write_text(
        "from pathlib import Path\nfrom stand_ins import DarkIsLesion\n"
        "Path(__file__).with_suffix('.imported').touch()\nclass Network(DarkIsLesion): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = write_model(tmp_path / "dark.pt", DarkIsLesion(), "lurking.Network", {"rim_px": 1})
    message = told(infer, weights=path)
    assert message.startswith(
        f"{path} asks for the network {{'_target_': 'lurking.Network', 'rim_px': 1}}; allowed are classes "
    )
    assert "name its class as network_def in the bundle file" in message
    assert "lurking" in told(infer, weights=path, network_def={"_target_": "stand_ins.DarkIsLesion"})
    assert "lurking" in told(brain_network, path, "cpu")
    assert "lurking" not in sys.modules
    assert not (tmp_path / "lurking.imported").exists()
    assert not (tmp_path / "masks").exists()
    assert list(infer(weights=path, network_def={"_target_": "lurking.Network"}).rglob("*_mask.nii.gz"))
    assert (tmp_path / "lurking.imported").exists()


@pytest.mark.parametrize(
    "definition",
    [
        {"_target_": "os.mkdir", "path": "intruder"},
        {"_target_": CODE},
        {"_target_": RESUNET, "channels": {"_target_": "os.mkdir", "path": "intruder"}},
        {"_target_": RESUNET, "channels": [{"_target_": "os.mkdir", "path": "intruder"}]},
        {"_target_": RESUNET, "channels": CODE},
        {"_target_": RESUNET, "channels": [CODE]},
        {"_target_": RESUNET, "channels": "@planes"},
        {"_target_": RESUNET, "channels": "%/etc/passwd"},
        {"_target_": RESUNET, "_mode_": "callable"},
        {"_target_": RESUNET, "_requires_": CODE},
        {"channels": CHANNELS},
        {"_target_": "strokelesion.networks.user_error.UserError"},
        {"_target_": "strokelesion.networks.precision.has_fast_bfloat16"},
        {"_target_": "strokelesion.networks.resunet.torch.load", "f": "intruder"},
        {"_target_": "strokelesion.networks.NextYearsNet"},
    ],
)
def test_a_definition_of_a_network_runs_nothing(definition, infer, tmp_path):
    path = tmp_path / "model.safetensors"
    write_model(path, network(), definition.get("_target_", ""), {k: v for k, v in definition.items() if k != "_target_"})
    for message in (told(infer, weights=str(path)), told(build_network, definition, path)):
        assert f"{path} asks for the network " in message
    assert not list(tmp_path.rglob("intruder*"))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("protocol", {"planes": [CODE]}),
        ("protocol", {"intensities": CODE}),
        ("held_out", {"split": CODE}),
        ("held_out", {"fold": CODE}),
        ("held_out", {"sub_lesions": CODE}),
        ("held_out", {"fold": "@cohort"}),
    ],
)
def test_no_word_of_a_description_runs(part, words, run_command, phantom_dir, tmp_path):
    """MONAI evaluates words that begin with a dollar sign wherever they stand in a configuration."""
    path = write_model(tmp_path / "run" / "last.pt", network(), RESUNET, {"channels": CHANNELS})
    split_cohort(read_cohort(phantom_dir), written=tmp_path / "run" / "split.csv")
    content = torch.load(path, weights_only=True)
    content["description"][part] |= words
    forged = SimpleNamespace(model_dump=lambda mode: content["description"])
    torch.save({**content, "sha256": digest(forged, content["network"])}, path)
    message = told(run_command, "evaluating", "resunet", dataset_dir=str(phantom_dir), run_dir=str(tmp_path / "run"))
    assert path in message
    assert not list(tmp_path.rglob("intruder"))


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture
def run_small(run_command, phantom_dir, cache_dir):
    """Run a command with a small ResUNet on the phantom."""

    def run(command, **options):
        where = {"dataset_dir": str(phantom_dir), "cache_dir": cache_dir, "amp": "false"}
        trained = {"network_def::channels": CHANNELS, "panel_scans": 0} if command == "training" else {}
        run_command(command, "resunet", **{**where, **trained, **options})

    return run


@pytest.fixture
def train_and_release(run_small, tmp_path):
    """Train for an epoch and release; returns the run's folder and the model."""

    def run(**options):
        run_dir = str(tmp_path / "run")
        run_small("training", epochs=1, learning_rate=0.01, run_dir=run_dir, **options)
        run_small("release", run_dir=run_dir, output_dir=str(tmp_path / "given"))
        return tmp_path / "run", tmp_path / "given" / "resunet.safetensors"

    return run


def arrays(folder, kind):
    return np.asarray(nib.load(next(folder.rglob(f"*_{kind}.nii.gz"))).dataobj)


def sidecar(folder):
    return json.loads(next(folder.rglob("*_mask.json")).read_text())["Settings"]


def test_a_run_is_released_and_inference_decides_as_was_chosen(train_and_release, infer, phantom_dir, tmp_path, capsys):
    run_dir, path = train_and_release(tta="true")
    printed = capsys.readouterr().out
    held_out = pd.read_csv(run_dir / "split.csv", dtype=str).query("fold == '0'")
    scans = sum(len(list(phantom_dir.rglob(f"{subject}/*/*t1w*"))) for subject in held_out["subject"])
    assert f"over {scans} held-out scans" in printed
    table, model = pd.read_csv(tmp_path / "given" / "decisions.csv"), read_model(path)
    assert len(table) == len(THRESHOLDS) * len(MIN_COMPONENTS_ML) * len(MIN_PEAKS)
    decision = model.description.decision
    chosen = table[(table[RULE] == [getattr(decision, name) for name in RULE]).all(axis=1)]
    assert chosen["dice"].item() >= table["dice"].max() - 0.005 > 0
    assert model.description.network == {"_target_": RESUNET, "in_channels": 1, "out_channels": 3, "channels": CHANNELS}
    protocol = model.description.protocol
    assert (protocol.spacing_mm, protocol.slice_mm, protocol.mirror) == ((4.0, 4.0, 4.0), (192.0, 224.0), True)
    assert model.description.metadata["intended_use"]
    assert (model.description.held_out, model.state) == (None, {})
    training = {"loss": "cce_dice", "learning_rate": 0.01, "split": "5-fold", "fold": 0, "epoch": 1, "init": None}
    assert model.description.training.items() >= {**training, "dataset_dir": phantom_dir.name}.items()

    wanted = {"save_probabilities": True, "amp": False}
    by_release = infer("released", weights=str(path), **wanted)
    by_checkpoint = infer("best", weights=str(run_dir / "best.pt"), **wanted)
    likely, exactly = (arrays(folder, "label-lesion_probseg") for folder in (by_release, by_checkpoint))
    assert np.ptp(exactly) > 0.1
    np.testing.assert_allclose(likely, exactly, atol=0.01)
    for folder, probabilities, threshold in ((by_release, likely, decision.threshold), (by_checkpoint, exactly, 0.5)):
        mask = arrays(folder, "label-lesion_mask") > 0
        assert (probabilities[mask] >= threshold - 1e-6).all()
    applied = sidecar(by_release)
    assert applied["decision"] == decision.model_dump()
    assert applied["weights"] == f"resunet.safetensors, SHA-256 {model.sha256}"
    assert applied["tta"] is True

    # What is asked for comes before what the model says.
    asked = infer("asked", weights=str(path), threshold=0.05, min_component_ml=0, min_peak=0, tta=False, **wanted)
    mask = arrays(asked, "label-lesion_mask") > 0
    assert mask.any()
    assert np.array_equal(mask, arrays(asked, "label-lesion_probseg") >= np.float32(0.05))
    assert sidecar(asked)["tta"] is False
    assert not np.allclose(arrays(asked, "label-lesion_probseg"), likely, atol=1e-5)


def test_a_run_is_released_on_the_scans_that_it_held_out(train_and_release, run_small, tmp_path):
    run_dir, path = train_and_release()
    written = path.read_bytes()
    where = {"run_dir": str(run_dir), "output_dir": str(path.parent)}
    assert "--fold, which release does not take. The model itself says it." in told(run_small, "release", fold=1, **where)
    message = told(run_small, "release", weights=str(path), **where)
    assert f"{path} does not say which scans its training held out; expected the model of a run" in message
    assert path.read_bytes() == written
    assert "--output_dir is missing" in told(run_small, "release", run_dir=str(run_dir))


def test_the_pretrained_models_are_never_replaced(run_small, tmp_path):
    """Neither where they are installed nor where the installation points to."""
    path = write_model(tmp_path / "run" / "best.pt", network(), RESUNET, {"channels": CHANNELS})
    installed = Path(bundle_root(), "weights")
    folders = {installed, *(file.resolve().parent for file in installed.glob("*.safetensors"))}
    before = {file: hashlib.sha256(file.read_bytes()).hexdigest() for folder in folders for file in folder.iterdir()}
    assert len(before) >= 3
    for folder in (*folders, installed / "new", installed.parent):
        # Asked of the function first: were it not refused, the command would write.
        with pytest.raises(UserError, match=r"--output_dir got .*, where the pretrained models are; expected another folder"):
            require_own_folder(str(folder))
        message = told(run_small, "release", weights=path, output_dir=str(folder))
        assert message.startswith(f"--output_dir got {folder}, where the pretrained models are")
    after = {file: hashlib.sha256(file.read_bytes()).hexdigest() for folder in folders for file in folder.iterdir()}
    assert after == before


def test_a_released_model_is_measured_on_all_scans_only(run_small, tmp_path):
    arguments = {"channels": CHANNELS}
    released = write_model(tmp_path / "resunet.safetensors", network(), RESUNET, arguments, DECISION, training=TRAINING)
    where = {"run_dir": str(tmp_path / "run"), "weights": released}
    message = told(run_small, "evaluating", **where)
    assert message.startswith(f"{released} does not say which scans its training held out; expected the model of a run.")
    assert "--scored all" in message
    assert not (tmp_path / "run").exists()
    run_small("evaluating", scored="all", **where)
    about = json.loads((tmp_path / "run/evaluation/all/about.json").read_text())
    assert (about["network"], about["loss"], about["settings"]["weights"]) == ("ResUNet", "dice", "resunet.safetensors")
    assert {name: about["settings"][name] for name in RULE} == DECISION
    assert about["settings"]["spacing_mm"] == [4.0, 4.0, 4.0]
    scores = pd.read_csv(tmp_path / "run/evaluation/all/scores.csv")
    assert len(scores) == 3 * len(list((tmp_path / "run/evaluation/all/predictions").rglob("*_mask.nii.gz"))) > 0


def test_training_starts_from_a_released_model_at_another_voxel_size_and_says_so_after_a_resume(released, run_small, tmp_path):
    """With a learning rate of nearly nothing, the weights stay those that the run started from."""
    options = {"run_dir": str(tmp_path / "run"), "learning_rate": 1e-12}
    run_small("training", epochs=1, init=str(released), **options)
    run_small("training", epochs=2, resume="true", **options)
    last, start = read_model(tmp_path / "run" / "last.pt"), read_model(released)
    assert last.state["epoch"] == 2
    assert last.state["init"] == f"resunet.safetensors, SHA-256 {start.sha256}"
    assert last.description.protocol.spacing_mm == (4.0, 4.0, 4.0)
    for name, _ in network().named_parameters():
        torch.testing.assert_close(last.weights[name], start.weights[name], rtol=0, atol=1e-6)

    run_small("evaluating", run_dir=str(tmp_path / "run"), threshold=0.3)
    settings = json.loads((tmp_path / "run/evaluation/held_out/about.json").read_text())["settings"]
    assert (settings["init"], settings["epochs"], settings["weights"]) == (last.state["init"], 2, "last.pt")
    assert {name: settings[name] for name in RULE} == {"threshold": 0.3, "min_component_ml": 0.0, "min_peak": 0.0}


def test_training_with_more_neighbors_starts_from_a_model_with_fewer(released, run_small, tmp_path):
    """What the model learned goes to the middle channel; the new neighbors count for nothing yet."""
    options = {"run_dir": str(tmp_path / "run"), "learning_rate": 1e-12, "slices": "lesion"}
    run_small("training", epochs=1, init=str(released), neighbors=1, **options)
    last, start = read_model(tmp_path / "run" / "last.pt"), read_model(released)
    assert (start.description.protocol.neighbors, last.description.protocol.neighbors) == (0, 1)
    assert last.description.network["in_channels"] == 3
    wide = network(seed=1, in_channels=3)
    load_weights(wide, last, "last.pt")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(widened_answer(wide, x), widened_answer(build_network_of(start), x[:, 1:2]), atol=1e-3, rtol=0)


def build_network_of(model):
    narrow = network(seed=1)
    narrow.load_state_dict(model.weights)
    return narrow


def widened_answer(net, x):
    """Return logits as they are before a batch changes what the network remembers of batches."""
    with torch.no_grad():
        return net.train()(x)


def test_a_run_with_fewer_neighbors_than_its_start_or_of_another_network_is_refused(run_small, tmp_path):
    wide = write_model(
        tmp_path / "wide.pt", network(in_channels=3), RESUNET, {"channels": CHANNELS, "in_channels": 3}, neighbors=1
    )
    message = told(run_small, "training", init=wide, neighbors=0, run_dir=str(tmp_path / "run"), slices="lesion")
    assert message.startswith(f"{wide} does not fit this ResUNet")
    other = write_model(tmp_path / "best.pt", network(), "strokelesion.networks.SegNet")
    message = told(run_small, "training", init=other, run_dir=str(tmp_path / "other"), slices="lesion")
    assert message.startswith(f"{other} is a SegNet; expected a ResUNet. Use the bundle file of SegNet")
    message = told(run_small, "training", init=str(tmp_path / "gone.pt"), run_dir=str(tmp_path / "third"), slices="lesion")
    assert message.startswith(f"no model at {tmp_path / 'gone.pt'}")
    assert not list(tmp_path.rglob("last.pt"))


@pytest.mark.parametrize(
    "definition",
    [
        {"_target_": "monai.networks.nets.unet.torch.jit.ScriptModule"},
        {"_target_": "monai.networks.nets.unet.nn.Linear", "in_features": 3, "out_features": 3},
        {"_target_": "monai.networks.nets.EfficientNetBN", "model_name": "efficientnet-b0"},
        {"_target_": "monai.networks.nets.DenseNet121", "spatial_dims": 2, "pretrained": True},
    ],
)
def test_a_file_names_networks_of_known_packages_that_load_nothing(definition):
    """A path may lead through a known package to a class that is not of it; some networks of MONAI load weights by default."""
    with pytest.raises(UserError, match=r"best.pt asks for the network .*; allowed are"):
        build_network(definition, "best.pt")


def test_a_released_model_does_not_say_where_data_or_lists_lay(tmp_path):
    held_out = HELD_OUT.model_copy(update={"split": "/home/alice/lists/mine.csv"})
    training = {"dataset_dir": "/home/alice/ATLAS_R1.1", "loss": "dice"}
    path = write_model(tmp_path / "best.pt", network(), RESUNET, {"channels": CHANNELS}, held_out=held_out, training=training)
    summary = releasing.describe_released(read_model(path), Decision()).training
    assert (summary["dataset_dir"], summary["split"]) == ("ATLAS_R1.1", "mine.csv")


@pytest.mark.parametrize("header", ["[1]", "1", "{}", '{"network": {}}'])
def test_damaged_descriptions_are_refused(header, tmp_path):
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"strokelesion": header})
    with pytest.raises(UserError, match=r"odd.safetensors (is no model of this project|describes itself wrongly)"):
        read_model(path)
