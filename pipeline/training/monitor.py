"""Display of a run in training: curves and pictures in TensorBoard, a history table, a progress bar with the time left."""

import csv
import io
import math
import sys
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.pictures import lesion_panel
from strokelesion.pipeline.runtime.files import write_bytes
from strokelesion.pipeline.runtime.processes import mean

METRICS = ("dice_main", "dice_sub", "dice_both")
# Longer than on a terminal, because a log file keeps every refresh of the bar.
LOG_INTERVAL_S = 30.0


class RunHistory:
    """Write each epoch's loss, learning rate, speed and validation Dice to TensorBoard and to `history.csv`.

    Attach it to the trainer after the validation handler. Epochs without validation leave their Dice cells empty. When several
    processes train together, all take part, because the loss is the mean over all processes; the first one writes.

    Args:
        writer: Writer of TensorBoard; None in a process that does not write.
        folder: Folder of the run.
        optimizer: Optimizer whose learning rate is recorded.
        validator: Engine that measures the validation Dice.

    Raises:
        UserError: The loss is not finite. The weights are then useless, and another epoch would overwrite `last.pt`.
    """

    def __init__(
        self,
        writer: SummaryWriter | None,
        folder: str | Path,
        optimizer: torch.optim.Optimizer,
        validator: Engine,
    ) -> None:
        self.writer = writer
        self.path = Path(folder) / "history.csv"
        self.optimizer = optimizer
        self.scores: dict[str, float] = {}
        self.losses: list[torch.Tensor] = []
        self.slices = 0
        self.elapsed_s = 0.0
        self.started_s = 0.0
        validator.add_event_handler(Events.COMPLETED, self.note_scores)

    def attach(self, trainer: Engine) -> None:
        """Follow `trainer`."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.note_iteration)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        if self.writer is not None:
            trainer.add_event_handler(Events.COMPLETED, self.writer.close)

    def note_scores(self, validator: Engine) -> None:
        """Store the scores of the validation that just ended."""
        self.scores = {name: float(validator.state.metrics[name]) for name in METRICS}

    def start_epoch(self, trainer: Engine) -> None:
        """Reset the counters and remove the rows of this and later epochs, which a resumed run repeats."""
        if self.writer is not None:
            self._keep_rows_before(trainer.state.epoch)
        self.losses, self.scores, self.slices = [], {}, 0
        self.started_s = time.perf_counter()

    def note_iteration(self, trainer: Engine) -> None:
        """Store one iteration's loss on its device and count its slices; the training time excludes validation."""
        output: Any = trainer.state.output
        self.losses.append(output["loss"].detach())
        self.slices += len(output["image"])
        self.elapsed_s = time.perf_counter() - self.started_s

    def end_epoch(self, trainer: Engine) -> None:
        """Add the epoch's row."""
        loss = float(mean(torch.stack(self.losses).mean()))
        if not math.isfinite(loss):
            raise UserError(
                f"the loss of epoch {trainer.state.epoch} is {loss}; expected a number. Start again with a smaller "
                "--learning_rate, or without half precision: --amp false."
            )
        row = {
            "loss": loss,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "slices_per_s": float(idist.all_reduce(self.slices / self.elapsed_s)),
            **self.scores,
        }
        if self.writer is not None:
            for name, value in row.items():
                section = "validation" if name in METRICS else "training"
                self.writer.add_scalar(f"{section}/{name}", value, trainer.state.epoch)
            self.writer.flush()
            self._append({"epoch": trainer.state.epoch, **row})

    def _keep_rows_before(self, epoch: int) -> None:
        if self.path.exists():
            header, *rows = self.path.read_text().splitlines()
            kept = [row for row in rows if int(row.split(",")[0]) < epoch]
            write_bytes(self.path, ("\n".join([header, *kept]) + "\n").encode())

    def _append(self, row: dict[str, float]) -> None:
        """Add a row by writing the whole table: a row truncated by a kill could be read as another epoch."""
        content = io.StringIO(newline="")
        table = csv.DictWriter(content, ["epoch", "loss", "learning_rate", "slices_per_s", *METRICS], lineterminator="\n")
        before = self.path.read_bytes() if self.path.exists() else b""
        if not before:
            table.writeheader()
        table.writerow(row)
        write_bytes(self.path, before + content.getvalue().encode())


class LesionPanels:
    """Show T1, truth and prediction of the first validation scans, each on its slice with the largest lesion.

    Args:
        writer: Writer of TensorBoard.
        interval: Minimum number of epochs between pictures; the first validation is always shown.
        cases: Number of scans.
        validator: Engine that validates.
    """

    def __init__(self, writer: SummaryWriter, interval: int, cases: int, validator: Engine) -> None:
        self.writer = writer
        self.validator = validator
        self.interval = interval
        self.cases = cases
        self.shown_epoch: int | None = None

    def attach(self, trainer: Engine) -> None:
        """Add the handler to the validator of `trainer`."""
        self.validator.add_event_handler(Events.ITERATION_COMPLETED, self.show)

    def show(self, validator: Engine) -> None:
        """Write the panel of the scan that was just validated, if it is one of the first `cases`."""
        epoch, case = validator.state.epoch, validator.state.iteration
        is_due = self.shown_epoch is None or epoch == self.shown_epoch or epoch - self.shown_epoch >= self.interval
        if case > self.cases or not is_due:
            return
        self.shown_epoch = epoch
        output: Any = validator.state.output
        for item in output:
            volumes = (np.asarray(item[key][0].cpu(), dtype=np.float32) for key in ("image", "label", "pred"))
            self.writer.add_image(f"T1, truth, prediction/scan {case}", lesion_panel(*volumes), epoch, dataformats="HWC")


class TimeLeft:
    """Show a progress bar over all iterations of a run, with epoch, Dice and the time left; the time includes validation."""

    def __init__(self, validator: Engine) -> None:
        self.validator = validator
        self.bar: tqdm[object] | None = None

    def attach(self, trainer: Engine) -> None:
        """Follow `trainer`."""
        trainer.add_event_handler(Events.STARTED, self.open)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        trainer.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self.close)

    def open(self, trainer: Engine) -> None:
        """Open the bar at the iteration where the run starts or resumes."""
        total = int(trainer.state.max_epochs or 0) * int(trainer.state.epoch_length or 0)
        pause_s = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_S
        self.bar = tqdm(total=total, initial=trainer.state.iteration, desc="training", unit="batch", mininterval=pause_s)

    def advance(self, trainer: Engine) -> None:
        """Count one iteration."""
        if self.bar is None:
            return
        dice = self.validator.state.metrics.get("dice_main")
        shown = "-" if dice is None else f"{float(dice):.3f}"
        self.bar.set_postfix_str(f"epoch {trainer.state.epoch}/{trainer.state.max_epochs}, Dice main {shown}", refresh=False)
        self.bar.update()

    def close(self, trainer: Engine, *error: BaseException) -> None:
        """Close the bar and raise the error again, if there is one."""
        if self.bar is not None:
            self.bar.close()
        if error:
            raise error[0]
