"""Checkpoints that a run goes on from as if it had not stopped, and that refuse what they were not made for."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler

from strokelesion.pipeline.files import written_whole
from strokelesion.pipeline.ranks import is_first
from strokelesion.pipeline.weights import SUFFIX, read_weights
from strokelesion.pipeline.widening import given_neighbors
from strokelesion.transforms import BrainNetwork
from strokelesion.transforms.brain import Infer
from strokelesion.transforms.planes import AXIAL

CHECKPOINT_VERSION = 1
logger = logging.getLogger(__name__)


class Checkpoints:
    """Write `last.pt` after each epoch and `best.pt` when the validation score rises; go on from `last.pt`.

    Attach after the validation handler and the schedule's. `last.pt` holds network, optimizer, schedule, epoch and best
    score, and at half precision on CUDA the scale of the loss; `best.pt` the network.
    A crash leaves the previous files whole. Of several processes that train together all read, and the first one writes.

    Args:
        folder: the run's folder, made if need be.
        network: what is trained.
        optimizer: with what.
        scheduler: the optimizer's learning rate from epoch to epoch.
        protocol: the settings that make the run what it is; kept in the checkpoints, and the same on a resume.
        validator: the engine that measures `metric`.
        metric: name of the validation metric that decides what is best; larger is better.
        resume: go on from `last.pt`, if it is there.
        init: weights to start a new run from, of the same network, whatever their protocol, and for no more neighbors of a
            slice than the run has. Which they were is kept in the checkpoints, also when the run is resumed.

    Raises:
        ValueError: when the folder holds a run and `resume` is false, or the checkpoint is of another network or protocol.
    """

    def __init__(
        self,
        folder: str | Path,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler,
        protocol: Mapping[str, Any],
        validator: Engine,
        metric: str = "dice_main",
        resume: bool = False,
        init: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.protocol = dict(protocol)
        self.metric = metric
        self.best = float("-inf")
        self.fresh_score: float | None = None
        validator.add_event_handler(Events.COMPLETED, self.judge)
        self.start = self._open(resume)
        self.init = self._initialize(init)

    def _open(self, resume: bool) -> dict[str, Any] | None:
        last = self.folder / "last.pt"
        if last.exists() and not resume:
            raise ValueError(
                f"{self.folder} holds a run already; expected a new folder. Go on with --resume true, choose another "
                "--run_dir, or remove it."
            )
        if resume and not last.exists():
            logger.info("nothing to resume in %s: starting at epoch 1", self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        return read_checkpoint(last, self.network, self.protocol) if last.exists() else None

    def _initialize(self, init: str | Path | None) -> str | None:
        """Start a new run from given weights; return what the run, new or resumed, was started from."""
        if self.start is not None:
            known: str | None = self.start.get("init")
            return known
        if init is None:
            return None
        load_weights(self.network, init, {}, more_neighbors=True)
        return f"{Path(init).name}, SHA-256 {hashlib.sha256(Path(init).read_bytes()).hexdigest()[:12]}"

    def attach(self, trainer: Engine) -> None:
        """Restore the state when `trainer` starts and write it after each of its epochs."""
        trainer.add_event_handler(Events.STARTED, self.restore)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def judge(self, validator: Engine) -> None:
        """Note the score of a validation."""
        self.fresh_score = float(validator.state.metrics[self.metric])

    def restore(self, trainer: Engine) -> None:
        """Put network, optimizer, schedule, scale of the loss, epoch and best score back."""
        if self.start is None:
            return
        self.network.load_state_dict(self.start["network"])
        self.optimizer.load_state_dict(self.start["optimizer"])
        self.scheduler.load_state_dict(self.start["scheduler"])
        if "scaler" in self.start and (scaler := scaler_of(trainer)):
            scaler.load_state_dict(self.start["scaler"])
        self.best = self.start["best"]
        trainer.state.epoch = self.start["epoch"]
        trainer.state.iteration = self.start["epoch"] * int(trainer.state.epoch_length or 0)
        logger.info("resuming after epoch %d", self.start["epoch"])
        if (before := self.start.get("processes", 1)) != (now := idist.get_world_size()):
            logger.warning("%d processes trained this run so far, now %d do: batches together are as many slices", before, now)

    def write(self, trainer: Engine) -> None:
        """Write `best.pt` if the last validation was the best so far, then `last.pt`."""
        state = {
            "network_name": type(self.network).__name__,
            "network": self.network.state_dict(),
            "protocol": self.protocol,
            "init": self.init,
            "epoch": trainer.state.epoch,
            **({"processes": count} if (count := idist.get_world_size()) > 1 else {}),
        }
        if self.fresh_score is not None and self.fresh_score > self.best:
            self.best = self.fresh_score
            self.save({**state, "best": self.best}, "best.pt")
        self.fresh_score = None
        state |= {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        if scaler := scaler_of(trainer):
            state["scaler"] = scaler.state_dict()
        self.save({**state, "best": self.best}, "last.pt")

    def save(self, state: Mapping[str, Any], name: str) -> None:
        """Write one of the two files, in the process that writes."""
        if is_first():
            save_checkpoint(state, self.folder / name)


def scaler_of(trainer: Engine) -> torch.amp.GradScaler | None:
    """Return what scales the loss of a trainer, if anything does; with another scale, it skips other steps."""
    scaler: torch.amp.GradScaler | None = getattr(trainer, "scaler", None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint and its version, all of it or nothing; equal states give equal bytes."""
    # To an open file: to a path, torch would write its name, that of the part, into the archive.
    with written_whole(path) as beside, beside.open("wb") as file:
        torch.save({"version": CHECKPOINT_VERSION, **state}, file)


def read_checkpoint(path: Path, network: torch.nn.Module, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of this project, or shipped weights, without running any code in them.

    Args:
        path: the file.
        network: of the class that the file must be of.
        protocol: settings that the file must have been made with.

    Raises:
        ValueError: when the file is missing, damaged, or of another network or protocol.
    """
    state = read_state(path)
    name = state["network_name"]
    if name != type(network).__name__:
        raise ValueError(
            f"{path} holds weights of {name}; expected {type(network).__name__}. Use the bundle of {name}, or another "
            "--checkpoint."
        )
    if "split" in protocol and "split" not in state["protocol"]:
        raise ValueError(
            f"{path} does not say which scans it was not trained on; expected a run's checkpoint. Name one, or measure on all "
            "scans with --scored all."
        )
    for knob, came in protocol.items():
        if (was := state["protocol"].get(knob)) != came:
            raise ValueError(f"{path} was made with {knob} {was}; got {came}. Give --{knob} {was}, or use another run's file.")
    return state


def read_state(path: Path) -> dict[str, Any]:
    """Read a file that training wrote, or `NAME.safetensors` as shipping does, without running any code in it.

    Raises:
        ValueError: when it is missing or damaged.
    """
    if not path.is_file():
        raise ValueError(f"no weights at {path}; expected a checkpoint. Train first, or name a file with --checkpoint.")
    if path.suffix == SUFFIX:
        return with_planes(read_weights(path))
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["network_name"], state["protocol"], state["version"]
    except Exception:
        # What torch says of it is long, and advises to run whatever the file holds.
        raise ValueError(
            f"{path} is no checkpoint of this project, or damaged; expected a file that training wrote. Copy it anew, or name "
            "another --checkpoint."
        ) from None
    if state["version"] != CHECKPOINT_VERSION:
        raise ValueError(
            f"{path} is a checkpoint of version {state['version']}; expected version {CHECKPOINT_VERSION}. Use the version of "
            "this project that wrote it, or train anew."
        )
    return with_planes(state)


def with_planes(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a network with the planes of its slices; files from before there was a choice do not name them."""
    return {**state, "protocol": {"planes": [AXIAL], **state["protocol"]}}


def describe(path: str | Path, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a measurement was made of: `network`, `loss`, `fold`, and all other `settings`.

    Args:
        path: the checkpoint or shipped weights, whose settings they are; to them come the file's name, what the training
            started from and, of a whole training state, the epochs trained.
        measured: settings of the measurement itself; they replace those of the training.
    """
    state = read_state(Path(path))
    settings = {**state.get("training", {}), **state["protocol"], **measured, "weights": Path(path).name}
    if state.get("init"):
        settings["init"] = state["init"]
    if "optimizer" in state:
        settings["epochs"] = state["epoch"]
    loss, fold = settings.pop("loss", "-"), settings.pop("fold", "-")
    return {"network": state["network_name"], "loss": loss, "fold": fold, "settings": settings}


def load_weights(
    network: torch.nn.Module, path: str | Path, protocol: Mapping[str, Any], more_neighbors: bool = False
) -> torch.nn.Module:
    """Return the network with the weights of a file, `.pt` or `.safetensors`; see `read_checkpoint` for what is refused.

    Args:
        network: what the weights go to.
        path: the file.
        protocol: settings that the file must have been made with.
        more_neighbors: take weights of a network that was shown fewer neighbors, see `given_neighbors`.
    """
    weights = read_checkpoint(Path(path), network, protocol)["network"]
    try:
        network.load_state_dict(given_neighbors(weights, network.state_dict()) if more_neighbors else weights)
    except RuntimeError as error:
        name = type(network).__name__
        raise ValueError(f"{path} does not fit this {name}: {error} Use the bundle it was made with.") from None
    return network


def load_brain_network(
    network: torch.nn.Module, path: str | Path, infer: Infer, planes: Sequence[str], device: str | torch.device = "cpu"
) -> BrainNetwork:
    """Return a network that finds brains, with the weights of a file and at the voxel size that these were trained on.

    Args:
        network: of the class that the file must be of.
        path: `.pt` or `.safetensors`, as `bundles/brain.json` makes them, also with fewer neighbors than the network is shown.
        infer: how volumes go through it, see `BrainNetwork`.
        planes: those that it shall look at.
        device: where it computes.
    """
    spacing_mm = float(read_state(Path(path))["protocol"]["spacing_mm"][0])
    return BrainNetwork(load_weights(network, path, {}, more_neighbors=True), infer, spacing_mm, planes, device)
