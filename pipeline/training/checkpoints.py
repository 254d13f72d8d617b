"""Write checkpoints and resume runs from them; a run with other settings is refused."""

import logging
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler

from strokelesion.pipeline.models.application import load_weights, name_and_sha256
from strokelesion.pipeline.models.description import Description
from strokelesion.pipeline.models.model_files import write_checkpoint
from strokelesion.pipeline.models.starting import LAST, initial_model, resumed_run
from strokelesion.pipeline.runtime.processes import is_first

# Validation metric that selects the best model; larger is better.
METRIC = "dice_main"
logger = logging.getLogger(__name__)


class Checkpoints:
    """Write `last.pt` after each epoch and `best.pt` when the validation score rises; continue from `last.pt`.

    Attach it after the handlers of validation and schedule. Both files are models with a description. `last.pt` also holds the
    optimizer, the schedule and the best score, and with half precision on CUDA the loss scale. A crash leaves the previous
    files intact. When several processes train together, all of them read and the first one writes.

    Args:
        folder: Folder of the run; created if it is missing.
        network: Network in training.
        optimizer: Optimizer that updates the network.
        scheduler: Schedule of the learning rate over the epochs.
        description: Description of the model; a resumed run must have the same one.
        validator: Engine that measures `METRIC`.
        resume: Whether to continue from `last.pt` if it exists.
        init: Model file that a new run starts from. Its network has the same class and at most as many neighbors; its protocol
            may differ. The checkpoints record it, also after a resume.

    Raises:
        UserError: The folder holds a run and `resume` is false, or the settings of that run differ.
    """

    def __init__(
        self,
        folder: str | Path,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler,
        description: Description,
        validator: Engine,
        resume: bool = False,
        init: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.description = description
        self.best = float("-inf")
        self.fresh_score: float | None = None
        validator.add_event_handler(Events.COMPLETED, self.judge)
        self.start = resumed_run(folder, resume, description)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.init = self._initialize(init)

    def _initialize(self, init: str | Path | None) -> str | None:
        """Load the initial weights of a new run; return the name and SHA-256 of the model that the run started from."""
        if self.start is not None:
            known: str | None = self.start.state.get("init")
            return known
        if init is None:
            return None
        load_weights(self.network, initial_model(init, self.description), init, more_neighbors=True)
        return name_and_sha256(init)

    def attach(self, trainer: Engine) -> None:
        """Restore the state when `trainer` starts and write it after each of its epochs."""
        trainer.add_event_handler(Events.STARTED, self.restore)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def judge(self, validator: Engine) -> None:
        """Store the score of a validation."""
        self.fresh_score = float(validator.state.metrics[METRIC])

    def restore(self, trainer: Engine) -> None:
        """Restore network, optimizer, schedule, loss scale, epoch and best score."""
        if self.start is None:
            return
        state = self.start.state
        self.network.load_state_dict(self.start.weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if "scaler" in state and (scaler := scaler_of(trainer)):
            scaler.load_state_dict(state["scaler"])
        self.best = state["best"]
        trainer.state.epoch = state["epoch"]
        trainer.state.iteration = state["epoch"] * int(trainer.state.epoch_length or 0)
        logger.info("resuming after epoch %d", state["epoch"])
        if (before := state.get("processes", 1)) != (now := idist.get_world_size()):
            logger.warning("%d processes trained this run so far, now %d do: batches together are as many slices", before, now)

    def write(self, trainer: Engine) -> None:
        """Write `best.pt` if the last validation has the best score so far, then write `last.pt`."""
        state: dict[str, Any] = {"init": self.init, "epoch": trainer.state.epoch}
        if (processes := idist.get_world_size()) > 1:
            state["processes"] = processes
        if self.fresh_score is not None and self.fresh_score > self.best:
            self.best = self.fresh_score
            self.save("best.pt", {**state, "best": self.best})
        self.fresh_score = None
        state |= {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(), "best": self.best}
        if scaler := scaler_of(trainer):
            state["scaler"] = scaler.state_dict()
        self.save(LAST, state)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write one of the two files; only the first process writes."""
        if is_first():
            write_checkpoint(self.folder / name, self.description, self.network.state_dict(), state)


def scaler_of(trainer: Engine) -> torch.amp.GradScaler | None:
    """Return the trainer's loss scaler if it is enabled, else None; the scale decides which steps are skipped."""
    scaler: torch.amp.GradScaler | None = getattr(trainer, "scaler", None)
    return scaler if scaler is not None and scaler.is_enabled() else None
