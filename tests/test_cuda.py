"""What is different on a GPU: augmentation, its memory, half precision, the scale of the loss, several processes, compiling.

Skipped without one. On one H200 all of it is to take less than a minute. With `STROKELESION_CUDA_TESTS_ON=cpu` the same tests
run on the processor, as far as they make sense there, to see that they are well written.
"""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from augmented_slices import SPATIAL, augmented, labels_of, smooth_batch
from checkout import ROOT
from configured import configured
from lesion_network import NEIGHBORS, dice, pretrained_network, slab_with_lesion
from monai.engines import SupervisedEvaluator
from monai.utils import CommonKeys

from strokelesion.networks import ResUNet
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.options import option_checks
from strokelesion.pipeline.training.device_slices import DeviceSlices

DEVICE = os.environ.get("STROKELESION_CUDA_TESTS_ON", "cuda")
IS_CUDA = DEVICE == "cuda"
pytestmark = [
    pytest.mark.skipif(IS_CUDA and not torch.cuda.is_available(), reason="needs a GPU with CUDA"),
    # MONAI's trainer makes its scaler under an old name; torch advises tensor cores, and says what its debug mode does not see.
    pytest.mark.filterwarnings("ignore:`torch.cuda.amp.GradScaler:FutureWarning"),
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning"),
]
# Sums in another order and fused multiplications: a pixel looks up to so many pixels beside where it looks on the processor,
# and a label changes only where that crosses the border between two.
IMAGE_TOLERANCE = 1e-3
LABELS_THAT_DIFFER = 1e-4
# Losses and logits of the same run twice: the same but for sums that the GPU adds in another order each time.
REPEAT_TOLERANCE = 5e-3
# Gradients of the same batch cut in other ways: convolutions take ten bits of a number's digits.
TF32_TOLERANCE = 3e-3
# Means and variances of what they put out: half of a batch by itself would be off by several times this.
STATISTICS_TOLERANCE = 1e-4
# Losses of an epoch at half precision when kernels, and so roundings, are others; Adam lets the differences grow.
COMPILED_TOLERANCE = 0.02
SMALL = {"_target_": "strokelesion.networks.ResUNet", "channels": [8, 16, 32]}


@pytest.fixture
def batch():
    return smooth_batch()


@pytest.fixture(scope="module")
def pretrained():
    return pretrained_network()


@pytest.fixture(scope="module")
def where(phantom_dir, tmp_path_factory):
    return {"dataset_dir": str(phantom_dir), "cache_dir": str(tmp_path_factory.mktemp("store")), "device": DEVICE}


@pytest.fixture(scope="module")
def programs(where, tmp_path_factory):
    """`gpu_ranks.py` in one process (nccl) and in two that share the GPU (gloo), beside the tests that train."""
    out, here, running = tmp_path_factory.mktemp("launched"), str(ROOT / "tests/helpers"), {}
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    for backend, count in (("nccl", 1), ("gloo", 2)):
        (out / backend).mkdir()
        given = json.dumps({**where, "cache_dir": str(out / backend / "store"), "panel_scans": 1})
        launcher = ["torch.distributed.run", "--standalone", "--local_addr=127.0.0.1", f"--nproc_per_node={count}"]
        command = [sys.executable, "-m", *launcher, os.path.join(here, "gpu_ranks.py"), backend, str(out / backend), given]
        with open(out / f"{backend}.log", "w") as log:
            running[backend] = subprocess.Popen(command, cwd=out, env=environment, stdout=log, stderr=log)
    yield out, running
    for program in running.values():
        program.terminate()
        program.wait()


@pytest.fixture
def train(run_command, where, programs):
    """Train the bundle's ResUNet on the phantom at 4 mm; returns the checkpoint, read on the CPU, and the history's rows."""

    def run(run_dir, **options):
        run_command("training", "resunet", **{**where, "panel_scans": 1, "run_dir": str(run_dir), **options})
        return torch.load(run_dir / "last.pt", weights_only=True, map_location="cpu"), history(run_dir)

    return run


def history(run_dir):
    with open(run_dir / "history.csv") as file:
        return list(csv.DictReader(file))


def losses(rows):
    return [float(row["loss"]) for row in rows]


def on(device, items):
    return {key: value.to(device) for key, value in items.items()}


def logits(state):
    """What a network of this state says, on the processor. Biases before BatchNorm are left to chance, and change nothing."""
    network = ResUNet()
    network.load_state_dict(state["network"])
    image = torch.rand(2, 1, 48, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network.eval()(image)


def loaded(path):
    return load_weights(ResUNet(), read_model(path), path)


# Augmentation


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_variants_as_on_the_processor_and_masks_move_along(batch, seed):
    strengths = {**SPATIAL, "brightness": 0.2, "contrast": 0.2, "crop_size": [40, 64]}
    expected = augmented(batch, seed, **strengths)
    found = on("cpu", augmented(on(DEVICE, batch), seed, **strengths))
    torch.testing.assert_close(found["image"], expected["image"], atol=IMAGE_TOLERANCE, rtol=0)
    assert (found["label"] != expected["label"]).float().mean() <= LABELS_THAT_DIFFER
    moved = augmented(on(DEVICE, batch), seed, **SPATIAL)
    assert moved["label"].dtype == torch.uint8
    assert set(moved["label"].unique().tolist()) <= {0, 1, 2}
    assert (labels_of(moved["image"]) != moved["label"]).float().mean() < 0.06  # nearest against linear, at the borders only
    assert not torch.equal(moved["label"].cpu(), batch["label"])


@pytest.mark.skipif(not IS_CUDA, reason="only a GPU is waited for")
def test_a_step_does_not_wait_for_the_gpu_while_slices_are_chosen_and_augmented(batch, slices):
    """Neither numbers nor indices of the host are copied in a way that waits for the work that was given before."""
    resident, given = DeviceSlices(slices, torch.device(DEVICE)), on(DEVICE, batch)
    resident.__getitems__([0])  # brings the scans there
    torch.cuda.set_sync_debug_mode("error")
    try:
        resident.__getitems__([1, 0, 2])
        augmented(given, **SPATIAL, brightness=0.2, contrast=0.2, crop_size=[40, 64])
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Slices in the device's memory


@pytest.fixture
def config(where, tmp_path):
    """The bundle as `training` reads it."""
    return configured("resunet", **where, run_dir=str(tmp_path / "run"), spacing_mm=4, batch_size=7, neighbors=1)


@pytest.fixture
def slices(config):
    return config.get_parsed_content("train::dataset")


def test_batches_from_its_memory_are_those_of_the_store(config, slices):
    loader = config.get_parsed_content("train::dataloader")
    assert isinstance(loader.dataset, DeviceSlices) == IS_CUDA
    order = list(config.get_parsed_content("train::sampler"))
    batches = list(loader)
    assert {image.device.type for each in batches for image in each.values()} == {DEVICE}
    for key, dtype in (("image", torch.float32), ("label", torch.uint8)):
        found = torch.cat([each[key] for each in batches]).cpu()
        assert found.dtype == dtype
        assert torch.equal(found, torch.stack([slices[number][key] for number in order]))


# Training


def test_training_learns_at_half_precision_and_its_checkpoint_is_read_on_the_processor(train, tmp_path):
    state, rows = train(tmp_path / "run", epochs=3)
    assert np.isfinite(losses(rows)).all()
    assert losses(rows)[-1] < 0.9 * losses(rows)[0]
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in state["network"].values())
    assert ("scaler" in state) == IS_CUDA
    network = loaded(tmp_path / "run" / "best.pt")
    assert network.eval()(torch.zeros(1, 1, 48, 56)).isfinite().all()


def test_a_run_that_is_resumed_goes_on_as_if_it_had_not_stopped(train, tmp_path):
    """The scale of the loss, too, which starts too large: the first steps of a run are skipped until it fits."""
    undisturbed, rows = train(tmp_path / "undisturbed", epochs=2)
    train(tmp_path / "stopped", epochs=1)
    resumed, rows_again = train(tmp_path / "stopped", epochs=2, resume=True)
    assert losses(rows_again) == pytest.approx(losses(rows), rel=REPEAT_TOLERANCE)
    expected = logits(undisturbed)
    torch.testing.assert_close(logits(resumed), expected, rtol=0, atol=REPEAT_TOLERANCE * float(expected.abs().max()))
    assert resumed.get("scaler") == undisturbed.get("scaler")


def test_a_compiled_network_learns_the_same(train, tmp_path, monkeypatch):
    """An epoch is one batch: for each size of batches torch compiles anew."""
    options = {"epochs": 4, "network_def": SMALL, "batch_size": 1000}
    _, eager = train(tmp_path / "eager", **options)
    if not IS_CUDA:
        compile_network = torch.compile
        monkeypatch.setattr(torch, "compile", lambda network, **how: compile_network(network, backend="eager"))
        monkeypatch.setattr(option_checks.shutil, "which", lambda name: name)
    state, compiled = train(tmp_path / "compiled", compile=True, **options)
    assert losses(compiled) == pytest.approx(losses(eager), rel=COMPILED_TOLERANCE)
    assert not any("_orig_mod" in key for key in state["network"])


# Several processes


@pytest.fixture(scope="module")
def launched(programs):
    """Return the folder of a program and what its processes found, after it has ended."""
    out, running = programs

    def wait_for(backend, count):
        assert running[backend].wait(timeout=300) == 0, (out / f"{backend}.log").read_text()[-3000:]
        return out / backend / "run", [json.loads((out / backend / f"found_{rank}.json").read_text()) for rank in range(count)]

    return wait_for


def test_one_process_of_the_launcher_learns_as_one_without_and_sends_numbers_through_nccl(launched, train, tmp_path):
    """In a group of one: nccl refuses two processes on one GPU."""
    run_dir, (found,) = launched("nccl", 1)
    _, rows = train(tmp_path / "alone", epochs=2)
    assert losses(history(run_dir)) == pytest.approx(losses(rows), rel=REPEAT_TOLERANCE)
    assert found["backend"] == ("nccl" if IS_CUDA else "gloo")
    assert (found["mean"], found["sum"]) == ([1.0, 2.0], 3.0)
    assert found["gradient_error"] < 1e-5 or not IS_CUDA


def test_two_processes_train_and_validate_together_and_take_mean_and_variance_over_all_batches(launched):
    """They share one GPU and talk through gloo, which does on it what nccl does on several, slowly."""
    run_dir, each = launched("gloo", 2)
    for found in each:
        assert (found["backend"], found["mean"]) == ("gloo", [1.5, 2.5])
        kinds = (found["plain_norms"], found["synchronized_norms"])
        assert kinds == ((0, found["norms"]) if IS_CUDA else (found["norms"], 0))
        assert not IS_CUDA or found["gradient_error"] < TF32_TOLERANCE
        assert not IS_CUDA or found["statistics_error"] < STATISTICS_TOLERANCE
    assert each[0]["weights"] == each[1]["weights"]
    rows = history(run_dir)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert losses(rows)[1] < losses(rows)[0]
    assert all(np.isfinite(float(row["dice_main"])) for row in rows)
    state = torch.load(run_dir / "last.pt", weights_only=True, map_location="cpu")
    assert state["processes"] == 2
    assert not any(key.startswith("module.") for key in state["network"])
    loaded(run_dir / "last.pt")


# Number formats


@pytest.fixture(scope="module")
def scan():
    """Eight slices of 1 mm and 192x224 through the infarct of a phantom, `(1, H, W, D)`, scaled on its tissue."""
    return slab_with_lesion(2, 2)[0, :, 3:195, 5:229]


@pytest.fixture(scope="module")
def called(pretrained, scan):
    """The voxels that the pretrained model calls lesion in the slab, as the bundle's evaluator and inferer compute them."""
    inferer = configured("resunet", device=DEVICE, amp=False, neighbors=NEIGHBORS).get_parsed_content("inferer")

    def compute(device, **options):
        item = {CommonKeys.IMAGE: scan[None]}
        network = pretrained.to(device)
        evaluator = SupervisedEvaluator(torch.device(device), [item], network, inferer=inferer, decollate=False, **options)
        evaluator.run()
        return evaluator.state.output[CommonKeys.PRED].float().argmax(dim=1).cpu() > 0

    return compute


def test_single_and_half_precision_call_the_voxels_of_the_processor(called):
    """Single as it is by default, with tensor cores (TF32) in convolutions; test_inferers has half precision on the CPU."""
    processor, single = called("cpu"), called(DEVICE)
    assert processor.float().mean() > 0.005
    assert dice(processor, single) >= 0.999
    for dtype in (torch.float16, torch.bfloat16) if IS_CUDA else ():
        assert dice(single, called(DEVICE, amp=True, amp_kwargs={"dtype": dtype})) >= 0.99
