"""Runs: the same seed the same weights, resume as if never stopped, checkpoints that refuse what does not fit."""

import copy
import csv
import pickle

import pytest
import torch
from ignite.engine import Engine, Events

from strokelesion.networks import ResUNet, SegNet
from strokelesion.pipeline import knobs as checks
from strokelesion.pipeline.checkpoints import Checkpoints, load_weights, read_checkpoint, save_checkpoint
from strokelesion.pipeline.errors import innermost
from strokelesion.pipeline.training import schedule


def weights(run_dir, name="last.pt"):
    return torch.load(run_dir / name, weights_only=True)


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def train(run_verb, phantom_dir, tmp_path_factory):
    cache_dir = str(tmp_path_factory.mktemp("store"))

    def run(run_dir, **knobs):
        run_verb("training", "resunet", dataset_dir=str(phantom_dir), run_dir=str(run_dir), cache_dir=cache_dir, **knobs)
        return weights(run_dir)

    return run


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_resuming_changes_nothing(train, tmp_path):
    undisturbed, again = (train(tmp_path / name, epochs=2) for name in ("undisturbed", "again"))
    assert same(undisturbed["network"], again["network"])
    other = train(tmp_path / "other", epochs=2, seed=1)
    assert not same(undisturbed["network"], other["network"])

    train(tmp_path / "stopped", epochs=1)
    resumed = train(tmp_path / "stopped", epochs=2, resume="true")
    assert same(undisturbed["network"], resumed["network"])
    states = (run["optimizer"]["state"] for run in (undisturbed, resumed))
    assert all(same(a, b) for a, b in zip(*(state.values() for state in states), strict=True))
    assert resumed["epoch"] == 2
    assert resumed["best"] == undisturbed["best"]
    assert same(weights(tmp_path / "stopped", "best.pt")["network"], weights(tmp_path / "undisturbed", "best.pt")["network"])
    with open(tmp_path / "stopped" / "history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_fused_adam_moves_weights_as_the_plain_one_and_goes_on_from_its_checkpoints():
    """Old checkpoints say that their optimizer was not fused, and stay so."""
    first, second = (ResUNet(channels=(4, 8)) for _ in range(2))
    second.load_state_dict(first.state_dict())
    plain, fused = torch.optim.Adam(first.parameters()), torch.optim.Adam(second.parameters(), fused=True)

    def step():
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        plain.step()
        fused.step()
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)

    for _ in range(3):
        step()
    fused.load_state_dict(copy.deepcopy(plain.state_dict()))
    assert not fused.param_groups[0]["fused"]
    step()


def test_a_compiled_network_learns_the_same_and_its_checkpoint_has_the_same_names(train, tmp_path, monkeypatch):
    """With the backend that compiles nothing, which needs no C++ compiler and rounds as torch does."""
    plain = train(tmp_path / "plain", epochs=1)
    compiled, compile_network = [], torch.compile

    def eager(network, **options):
        compiled.append(network)
        return compile_network(network, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", eager)
    monkeypatch.setattr(checks.shutil, "which", lambda name: name)
    found = train(tmp_path / "compiled", epochs=1, compile=True)
    assert [type(network) for network in compiled] == [ResUNet]
    assert same(plain["network"], found["network"])


def test_a_falling_learning_rate_is_resumed_too(train, tmp_path, monkeypatch):
    """A kill after the first epoch, played by an error in the second's validation."""
    knobs = {"schedule": "cosine", "epochs": 3}
    undisturbed = train(tmp_path / "undisturbed", **knobs)
    with monkeypatch.context() as patch:
        judge = Checkpoints.judge

        def dies(self, validator):
            if validator.state.epoch == 2:
                raise OSError("killed")
            judge(self, validator)

        patch.setattr(Checkpoints, "judge", dies)
        with pytest.raises(RuntimeError):
            train(tmp_path / "stopped", **knobs)
    resumed = train(tmp_path / "stopped", resume=True, **knobs)
    assert same(undisturbed["network"], resumed["network"])
    with open(tmp_path / "stopped" / "history.csv") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([0.001, 0.00075, 0.00025], rel=1e-4)


@pytest.mark.parametrize("knobs", [{"fold": 1}, {"loss": "dice"}, {"learning_rate": 0.01}, {"schedule": "cosine"}])
def test_resuming_with_other_settings_is_refused(knobs, train, tmp_path):
    """Another fold, for one, would train on those who were held out."""
    train(tmp_path / "run", epochs=1)
    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "run", epochs=2, resume=True, **knobs)
    message = str(innermost(error.value))
    assert f"was made with {next(iter(knobs))}" in message
    assert "got" in message


def test_nobody_who_was_trained_on_is_scored_as_held_out(train, run_verb, phantom_dir, tmp_path):
    train(tmp_path / "run", epochs=1, fold=1)
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run")}
    with pytest.raises(RuntimeError) as error:
        run_verb("evaluating", "resunet", **where)
    assert "was made with fold 1; got 0" in str(innermost(error.value))


def test_a_loss_that_is_no_number_stops_the_run(train, tmp_path, monkeypatch):
    monkeypatch.setattr(ResUNet, "logits", lambda self, x: x.repeat(1, 3, 1, 1) * self.classifier.bias.sum() * float("nan"))
    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "run", epochs=1, amp="false")
    assert "the loss of epoch 1 is nan" in str(innermost(error.value))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_a_second_run_in_the_same_folder_is_refused(train, tmp_path):
    train(tmp_path / "run", epochs=1)
    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "run", epochs=1)
    assert "holds a run already" in str(innermost(error.value))


@pytest.fixture
def handler(tmp_path):
    def build(folder=tmp_path, resume=False):
        torch.manual_seed(0)
        network = ResUNet(channels=(2, 3, 4))
        validator = Engine(lambda engine, batch: None)
        optimizer = torch.optim.Adam(network.parameters())
        checkpoints = Checkpoints(folder, network, optimizer, schedule(optimizer, "constant", 3), {}, validator, resume=resume)
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


def test_a_crash_while_writing_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    save_checkpoint({"epoch": 1}, tmp_path / "last.pt")

    def dies(state, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint({"epoch": 2}, tmp_path / "last.pt")
    assert weights(tmp_path)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


class Intruder:
    def __reduce__(self):
        return (open, ("intruder.txt", "w"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps({"network_name": Intruder()})])
def test_damaged_and_hostile_files_are_refused_and_run_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(ValueError, match="no checkpoint of this project"):
        read_checkpoint(tmp_path / "best.pt", ResUNet(), {})
    assert not (tmp_path / "intruder.txt").exists()


def test_missing_weights_and_weights_of_another_network_are_refused(handler, tmp_path):
    with pytest.raises(ValueError, match=r"no weights at .*--checkpoint"):
        load_weights(ResUNet(), tmp_path / "best.pt", {})
    network = ResUNet(channels=(2, 3, 4))
    save_checkpoint({"network_name": "ResUNet", "network": network.state_dict(), "protocol": {}}, tmp_path / "best.pt")
    with pytest.raises(ValueError, match="holds weights of ResUNet; expected SegNet"):
        load_weights(SegNet(), tmp_path / "best.pt", {})
    with pytest.raises(ValueError, match="does not fit this ResUNet"):
        load_weights(ResUNet(), tmp_path / "best.pt", {})
    assert same(load_weights(ResUNet(channels=(2, 3, 4)), tmp_path / "best.pt", {}).state_dict(), network.state_dict())
