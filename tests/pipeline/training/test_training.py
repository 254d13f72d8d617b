"""Runs: the same seed the same weights, resume as if never stopped, checkpoints that refuse what does not fit."""

import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events
from model_files import HELD_OUT

from strokelesion.networks import ResUNet
from strokelesion.pipeline.models.description import Description, Protocol
from strokelesion.pipeline.options import option_checks
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.pipeline.training.checkpoints import Checkpoints
from strokelesion.pipeline.training.epochs import schedule

CHANNELS = (2, 3, 4)
DESCRIPTION = Description(
    network={"_target_": "strokelesion.networks.ResUNet", "channels": list(CHANNELS)},
    protocol=Protocol(spacing_mm=(4, 4, 4)),
    held_out=HELD_OUT,
)


def weights(run_dir, name="last.pt"):
    return torch.load(run_dir / name, weights_only=True)


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def train(run_command, phantom_dir):
    def run(run_dir, bundle="resunet", **options):
        small = {"dataset_dir": str(phantom_dir), "network_def::channels": [8, 16]}
        run_command("training", bundle, run_dir=str(run_dir), **{**small, **options})
        return weights(run_dir)

    return run


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_resuming_changes_nothing(train, tmp_path):
    undisturbed, again = (train(tmp_path / name, epochs=2) for name in ("undisturbed", "again"))
    assert same(undisturbed["network"], again["network"])
    stopped, other = (train(tmp_path / name, epochs=1, seed=seed) for name, seed in (("stopped", 0), ("other", 1)))
    assert not same(stopped["network"], other["network"])
    resumed = train(tmp_path / "stopped", epochs=2, resume="true")
    assert same(undisturbed["network"], resumed["network"])
    states = (run["optimizer"]["state"] for run in (undisturbed, resumed))
    assert all(same(a, b) for a, b in zip(*(state.values() for state in states), strict=True))
    assert resumed["epoch"] == 2
    assert resumed["best"] == undisturbed["best"]
    assert same(weights(tmp_path / "stopped", "best.pt")["network"], weights(tmp_path / "undisturbed", "best.pt")["network"])
    assert pd.read_csv(tmp_path / "stopped" / "history.csv")["epoch"].tolist() == [1, 2]


def test_a_compiled_network_learns_the_same_and_its_checkpoint_has_the_same_names(train, tmp_path, monkeypatch):
    """With the backend that compiles nothing, which needs no C++ compiler and rounds as torch does."""
    plain = train(tmp_path / "plain", epochs=1)
    compiled, compile_network = [], torch.compile

    def eager(network, **options):
        compiled.append(network)
        return compile_network(network, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", eager)
    monkeypatch.setattr(option_checks.shutil, "which", lambda name: name)
    found = train(tmp_path / "compiled", epochs=1, compile=True)
    assert [type(network) for network in compiled] == [ResUNet]
    assert same(plain["network"], found["network"])


# A bundle file, options, and what is said of them when a run of one epoch is resumed with them.
OTHER_SETTINGS = [
    ("resunet", {"fold": 1}, "last.pt was trained with other settings: fold 0, got 1. Expected the same."),
    ("resunet", {"loss": "dice"}, "loss cce_dice, got dice."),
    ("resunet", {"learning_rate": 0.01}, "learning_rate 0.001, got 0.01."),
    ("resunet", {"schedule": "cosine"}, "schedule constant, got cosine; schedule_epochs None, got 2."),
    ("resunet", {"slice_mm": [160, 192]}, "slice_mm [192.0, 224.0], got [160.0, 192.0]."),
    ("resunet", {"tta": True}, "mirror False, got True."),
    ("resunet", {"fold": 1, "batch_size": 4}, "batch_size 8, got 4; fold 0, got 1."),
    ("unet", {}, "is a model with the network {'_target_': 'strokelesion.networks.ResUNet'"),
    ("resunet", {"neighbors": 1}, "is a model with the network {'_target_': 'strokelesion.networks.ResUNet'"),
    ("resunet", {"network_def::channels": [8, 24]}, "is a model with the network {'_target_': 'strokelesion.networks.ResUNet'"),
    ("resunet", {"resume": False}, "holds a run already"),
]


def test_resuming_with_other_settings_or_not_at_all_is_refused(train, tmp_path):
    """Another fold, for one, would train on those who were held out."""
    train(tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    for bundle, options, message in OTHER_SETTINGS:
        with pytest.raises(RuntimeError) as error:
            train(tmp_path / "run", bundle, **{"epochs": 2, "resume": True, **options})
        assert message in str(user_error(error.value))
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_a_run_that_is_resumed_keeps_the_settings_that_are_not_given(train, tmp_path, monkeypatch):
    settings_of_run = {"fold": 1, "loss": "dice", "neighbors": 1, "schedule": "cosine", "tta": True, "evenness": 0.5}
    undisturbed = train(tmp_path / "undisturbed", epochs=3, **settings_of_run)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", stopping_after(1))
        with pytest.raises(RuntimeError):
            train(tmp_path / "run", epochs=3, **settings_of_run)
    resumed = train(tmp_path / "run", resume=True)
    assert resumed["epoch"] == 3
    assert resumed["description"] == undisturbed["description"]
    assert same(resumed["network"], undisturbed["network"])
    rates = pd.read_csv(tmp_path / "run" / "history.csv")["learning_rate"]
    assert rates.tolist() == pytest.approx([0.001, 0.00075, 0.00025], rel=1e-4)


def stopping_after(epoch):
    """Return a `Checkpoints.write` that writes after this epoch and then ends the run as a full disk would."""
    write = Checkpoints.write

    def writes(self, trainer):
        write(self, trainer)
        if trainer.state.epoch == epoch:
            raise OSError("killed")

    return writes


def test_nobody_who_was_trained_on_is_scored_as_held_out(train, run_command, phantom_dir, tmp_path):
    """The model says which fold it did not see."""
    train(tmp_path / "run", epochs=1, fold=1)
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run")}
    run_command("evaluating", "resunet", **where)
    split = pd.read_csv(tmp_path / "run" / "split.csv", dtype=str)
    scores = pd.read_csv(tmp_path / "run" / "evaluation" / "held_out" / "scores.csv", dtype=str)
    assert set(scores["subject"]) == set(split.query("fold == '1'")["subject"])


def test_a_loss_that_is_no_number_stops_the_run(train, tmp_path, monkeypatch):
    monkeypatch.setattr(ResUNet, "logits", lambda self, x: x.repeat(1, 3, 1, 1) * self.classifier.bias.sum() * float("nan"))
    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "run", epochs=1, amp="false")
    assert "the loss of epoch 1 is nan" in str(user_error(error.value))
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.fixture
def handler(tmp_path):
    def build(folder=tmp_path, resume=False):
        torch.manual_seed(0)
        network = ResUNet(channels=CHANNELS)
        validator = Engine(lambda engine, batch: None)
        optimizer = torch.optim.Adam(network.parameters())
        scheduler = schedule(optimizer, "constant", 3)
        checkpoints = Checkpoints(folder, network, optimizer, scheduler, DESCRIPTION, validator, resume=resume)
        trainer = Engine(lambda engine, batch: None)
        checkpoints.attach(trainer)
        return network, validator, trainer, checkpoints

    return build


def test_best_is_kept_by_score_and_across_a_resume(handler, tmp_path):
    _, validator, trainer, checkpoints = handler()
    scores = iter([0.3, 0.5, 0.4])
    validator.add_event_handler(Events.STARTED, lambda engine: engine.state.metrics.update(dice_main=next(scores)))
    for _ in range(3):
        validator.run([0])
        trainer.state.epoch += 1
        checkpoints.write(trainer)
    assert weights(tmp_path, "best.pt")["epoch"] == 2
    _, _, trainer, resumed = handler(resume=True)
    trainer.run([0], max_epochs=3)
    assert resumed.best == 0.5
    assert trainer.state.epoch == 3


def test_the_scale_of_the_loss_is_resumed_and_missing_in_runs_without_one(handler, tmp_path):
    """At half precision on CUDA, a run that began again with the first scale would skip steps."""
    _, _, trainer, checkpoints = handler()
    checkpoints.write(trainer)
    assert "scaler" not in weights(tmp_path)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**9)
    checkpoints.write(trainer)
    for init_scale in (2.0**16, None):
        _, _, trainer, _ = handler(resume=True)
        trainer.scaler = None if init_scale is None else torch.amp.GradScaler("cpu", init_scale=init_scale)
        trainer.run([0], max_epochs=1)
        assert init_scale is None or trainer.scaler.get_scale() == 2.0**9
