"""Several processes that do one command together: the same result as one, written once, and no process waits for a dead one."""

import csv
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import nibabel as nib
import numpy as np
import pytest
import torch
from checkout import ROOT
from crashing import left_behind, start
from launched import run, together, validate
from model_files import write_model
from stand_ins import DarkIsLesion

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime import processes as ranks
from strokelesion.pipeline.training import slice_store as slices
from strokelesion.pipeline.training.epochs import EpochSeeds
from strokelesion.pipeline.training.slice_sampler import SliceSampler
from strokelesion.pipeline.training.slice_store import SliceStore
from strokelesion.transforms import RandAugmentSlicesd, Recipe

# Of float32 sums in another order; the losses' after two epochs of Adam, which lets them grow.
METRIC_TOLERANCE = 1e-6
LOSS_TOLERANCE = 1e-5
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"]
STILL = {"rotation_deg": 0, "scaling": 0, "zoom": 0, "elastic_px": 0, "horizontal_flip_prob": 0, "vertical_flip_prob": 0}
STILL |= {"brightness": 0, "contrast": 0}
# With 4 channels, oneDNN of torch 2.13 crashes in backward on some processors without AVX512.
UNET = {"_target_": "strokelesion.networks.UNet", "channels": [8, 16, 32]}
RESUNET = {"_target_": "strokelesion.networks.ResUNet", "channels": [8, 16, 32]}


@pytest.fixture(scope="module")
def where(phantom_dir, tmp_path_factory):
    return {"dataset_dir": str(phantom_dir), "cache_dir": str(tmp_path_factory.mktemp("store")), "panel_scans": 1}


def history(run_dir):
    with open(run_dir / "history.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [1, 4, 7])
@pytest.mark.parametrize(("lesions", "count"), [(12, 2), (12, 3), (11, 4), (2, 5)])
def test_the_batches_of_all_processes_are_those_of_one(batch_size, lesions, count):
    shown = np.arange(40) < lesions, np.zeros(40, dtype=int)
    alone = SliceSampler(*shown, seed=3)
    each = [SliceSampler(*shown, seed=3, rank=rank, ranks=count) for rank in range(count)]
    for epoch in (1, 2):
        for sampler in (alone, *each):
            sampler.set_epoch(epoch)
        order, orders = list(alone), [list(sampler) for sampler in each]
        assert {len(one) for one in orders} == {len(each[0])} == {-(-len(order) // count)}
        for begin in range(0, len(each[0]), batch_size):
            union = {number for one in orders for number in one[begin : begin + batch_size]}
            expected = order[begin * count : (begin + batch_size) * count]
            spare = max(0, (begin + batch_size) * count - len(order))
            assert union >= set(expected)
            assert union - set(expected) <= set(order[:spare])


@pytest.fixture
def as_rank(monkeypatch):
    """Let this process believe that it is one of several."""

    def believe(rank, count):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
        monkeypatch.setattr("ignite.distributed.get_world_size", lambda: count)

    return believe


def test_a_sampler_asks_ignite_which_process_it_is_in(as_rank):
    shown = np.arange(40) < 11, np.zeros(40, dtype=int)
    assert list(SliceSampler(*shown, seed=3)) == list(SliceSampler(*shown, seed=3, rank=0, ranks=1))
    as_rank(2, 3)
    assert list(SliceSampler(*shown, seed=3)) == list(SliceSampler(*shown, seed=3, rank=2, ranks=3))
    assert list(SliceSampler(*shown, seed=3, rank=0)) == list(SliceSampler(*shown, seed=3, rank=0, ranks=3))


def test_shares_are_the_same_scans_whatever_is_shown(as_rank):
    as_rank(1, 3)
    scans = list(range(20))
    assert ranks.share(scans) == [1, 4, 7, 10, 13, 16, 19]
    for first in range(5):
        assert ranks.share(scans[first:12], first) == [number for number in (1, 4, 7, 10) if number >= first]


def test_each_process_makes_its_share_of_the_slice_store(as_rank, monkeypatch, tmp_path):
    as_rank(1, 2)
    made = []

    def make(record, _, folder):
        (folder / record).touch()
        made.append(record)

    monkeypatch.setattr(slices, "store_scan", make)
    monkeypatch.setattr(slices, "store_path", lambda record, _, folder: folder / record)
    monkeypatch.setattr("ignite.distributed.barrier", lambda: [(tmp_path / record).touch() for record in "ace"])
    assert SliceStore(Recipe([]), tmp_path).paths(list("abcdef")) == [tmp_path / record for record in "abcdef"]
    assert sorted(made) == ["b", "d", "f"]


def test_processes_share_the_order_of_slices_and_nothing_else_that_is_random(as_rank):
    def random_state(rank, epoch, seed=5):
        sampler, augmentation = (create_autospec(kind) for kind in (SliceSampler, RandAugmentSlicesd))
        data = create_autospec(slices.SliceDataset, has_lesion=[], scan_of=[])
        EpochSeeds(data, augmentation, sampler, seed, rank).start_epoch(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
        sampler.set_epoch.assert_called_once_with(epoch)
        return augmentation.set_random_state.call_args.kwargs["seed"], torch.initial_seed()

    assert random_state(0, 2) == random_state(0, 2)
    assert len({random_state(rank, epoch, seed) for rank in range(8) for epoch in (1, 2) for seed in (0, 1)}) == 32
    assert random_state(None, 2) == random_state(0, 2)
    as_rank(3, 4)
    assert random_state(None, 2) == random_state(3, 2)


def test_more_processes_than_gpus_and_one_gpu_for_all_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"which has 2; expected at most one process a GPU\. Give --nproc_per_node=2"):
        ranks.join("cuda")
    with pytest.raises(UserError, match="--device got cuda:1 for 3 processes; allowed are cuda and cpu"):
        ranks.join("cuda:1")


@pytest.mark.parametrize("held_out", [("099001", "099003", "099004"), ("099001",)])
def test_validation_is_put_together_from_all_processes(held_out, where, tmp_path):
    """Three scans are an uneven share; with one, the second process has none."""
    listed = tmp_path / "held_out.csv"
    listed.write_text("\n".join(["subject", *held_out]))
    options = {**where, "split": str(listed), "network_def": {"_target_": "launched.DarkAtALevel"}, "amp": False}
    validate("resunet", tmp_path, run_dir=str(tmp_path / "alone"), **options)
    alone = json.loads((tmp_path / "metrics_0.json").read_text())
    assert together(2, validate, "resunet", tmp_path, run_dir=str(tmp_path / "both"), **options) == [0, 0]
    first, second = (json.loads((tmp_path / f"metrics_{rank}.json").read_text()) for rank in (0, 1))
    assert alone.pop("scans") == len(held_out)
    assert first.pop("scans") + second.pop("scans") == max(len(held_out), 2)
    assert first == second
    assert first == pytest.approx(alone, abs=METRIC_TOLERANCE)
    assert first["dice_main"] > 0.01


def test_two_processes_at_half_the_batch_follow_one(where, tmp_path):
    """Exactly but for rounding: without BatchNorm, augmentation and Dice, gradients are means over slices."""
    still = {"_target_": "strokelesion.transforms.RandAugmentSlicesd", **STILL}
    options = {**where, "network_def": UNET, "augmentation": still, "loss": "cce", "epochs": 2, "amp": False}
    # Of all slices, as many are drawn without lesion as there are with it: an even number, which two processes divide.
    options |= {"learning_rate": 0.01, "slices": "all"}
    run("training", "unet", tmp_path, **{**options, "run_dir": str(tmp_path / "alone"), "batch_size": 8})
    both = {**options, "run_dir": str(tmp_path / "both"), "batch_size": 4}
    assert together(2, run, "training", "unet", tmp_path, **both) == [0, 0]
    alone, shared = (history(tmp_path / name) for name in ("alone", "both"))
    for column in ("loss", "dice_main"):
        expected = [float(row[column]) for row in alone]
        assert [float(row[column]) for row in shared] == pytest.approx(expected, rel=LOSS_TOLERANCE, abs=LOSS_TOLERANCE)
    assert float(alone[1]["loss"]) < 0.9 * float(alone[0]["loss"])
    assert set(left_behind(tmp_path / "both")) == {"best.pt", "history.csv", "last.pt", "split.csv"}
    assert len(list((tmp_path / "both").glob("*tfevents*"))) == 1


def test_a_run_of_two_processes_is_resumed_as_if_it_had_not_stopped(where, tmp_path):
    """With scans that are renewed after each epoch."""
    sides = {"training": "$@cohort[:5]", "held_out": "$@cohort[6:]", "shown": 4, "renewed": 1}
    options = {**where, "network_def": RESUNET, "batch_size": 4, "slices": "lesion"}
    options |= {"sides": {"_target_": "strokelesion.pipeline.cohorts.splits.Split", **sides}}
    for name, stages in {"undisturbed": [{"epochs": 2}], "stopped": [{"epochs": 1}, {"epochs": 2, "resume": True}]}.items():
        for stage in stages:
            both = {**options, **stage, "run_dir": str(tmp_path / name)}
            assert together(2, run, "training", "resunet", tmp_path, **both) == [0, 0]
    undisturbed, stopped = (left_behind(tmp_path / name) for name in ("undisturbed", "stopped"))
    assert undisturbed == stopped
    assert set(undisturbed) == {"best.pt", "history.csv", "last.pt"}
    assert [row["epoch"] for row in history(tmp_path / "stopped")] == ["1", "2"]
    state = torch.load(tmp_path / "stopped" / "last.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in state["network"])
    assert state["processes"] == 2


def test_a_scan_that_one_process_cannot_read_ends_all_of_them(where, tmp_path):
    """Whichever process has it in its share, the other one waits for it."""
    data = tmp_path / "ATLAS_R1.1"
    subprocess.run(["cp", "-r", where["dataset_dir"], data], check=True)
    sorted(data.rglob("*t1w*"))[1].write_bytes(b"no scan")
    options = {"dataset_dir": data, "cache_dir": tmp_path / "store", "run_dir": tmp_path / "run", "spacing_mm": 4}
    options |= {"config_file": ROOT / "bundles/resunet.json", "device": "cpu", "epochs": 1}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    ended = subprocess.run([*LAUNCHER, "training", *words], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr[-3000:]
    said = sorted(line for line in ended.stderr.splitlines() if line.startswith("[rank"))
    assert re.search(r"^\[rank\d\]: error: cannot prepare .*t1w", "\n".join(said), re.MULTILINE)
    # The other one has been ended by the launcher, or says why it cannot go on.
    assert len(said) == 1 or "error: another process of this command has ended" in "\n".join(said)
    assert len(said) <= 2
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.fixture(scope="module")
def cohort(where, tmp_path_factory):
    """Five small scans to segment, one of them damaged, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "scans").mkdir()
    scans = sorted(Path(where["dataset_dir"]).rglob("*t1w*"))[:5]
    for scan in scans:
        nib.load(scan).slicer[8:40, 10:46, 12:36].to_filename(folder / "scans" / scan.name)
    (folder / "scans" / scans[3].name).write_bytes(b"no scan")
    dark = write_model(folder / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion")
    options = {"scans": str(folder / "scans"), "weights": dark, "amp": False}
    options |= {"network_def": {"_target_": "stand_ins.DarkIsLesion"}}
    run("inference", "resunet", folder, output_dir=str(folder / "alone"), **options)
    assert (folder / "status_0").read_text() == "1"
    return options, left_behind(folder / "alone")


def test_two_processes_segment_a_cohort_as_one_does(cohort, tmp_path):
    options, alone = cohort
    out = tmp_path / "both"
    assert together(2, run, "inference", "resunet", tmp_path, output_dir=str(out), **options) == [0, 0]
    assert left_behind(out) == alone
    assert (out / "failures.tsv").read_text().count("\n") == 2
    # The first process says how it went, when all are done; the launcher would end it if another one said so before.
    assert (tmp_path / "status_0").read_text() == "1"
    assert not (tmp_path / "status_1").exists()


def test_parts_at_the_same_time_leave_the_tables_to_a_last_run_that_finds_all_done(cohort, tmp_path, capsys):
    options, alone = cohort
    out = tmp_path / "parts"
    segment = partial(run, "inference", "resunet", tmp_path, output_dir=str(out), **options)
    first = start(partial(segment, part="1/2"))
    segment(part="2/2")
    assert "2 of 2 scans of part 2/2 segmented, results in" in capsys.readouterr().out
    first.join()
    assert first.exitcode == 0
    assert not [*out.glob("*.tsv"), *out.glob("*.html")]
    segment()
    assert "4 of 5 scans segmented, 4 of them before" in capsys.readouterr().out
    assert left_behind(out) == alone
