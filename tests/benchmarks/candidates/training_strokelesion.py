"""The project's training: the trainer of a bundle, on the slice store, for one epoch.

    python -m candidates.training_strokelesion FOLDER resunet|unet|segnet [STEPS]

Loader, augmentation, network, loss, optimizer and number formats are those of the command `training`; of its handlers only the
one that seeds each epoch stays, because what happens between epochs, validation and checkpoints, is not what is compared.
Processes that torch's launcher started divide each batch; figures are of all together.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from candidates.bundle import keep_seeding, read_bundle
from candidates.measured import Laps, peak_gib, report
from strokelesion.pipeline.runtime import processes as ranks

WARM_UP = 2  # steps
BATCH = 32  # slices


class Clock:
    """Watch a trainer: times of its steps, and how long it waits for the loader and for augmentation."""

    def __init__(self, trainer: SupervisedTrainer, steps: int | None) -> None:
        self.steps, self.laps, self.seen = steps, Laps(), [0]
        self.reading_s, self.augmenting_s, self.began_s = 0.0, 0.0, 0.0
        trainer.prepare_batch = self.time_augmentation(trainer.prepare_batch)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self.begin_reading)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self.end_reading)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.end_step)

    def begin_reading(self) -> None:
        """The trainer asks for a batch."""
        self.began_s = perf_counter()

    def end_reading(self) -> None:
        """It has one."""
        self.reading_s += perf_counter() - self.began_s

    def time_augmentation(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same augmentation, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            began_s = perf_counter()
            batch = prepare(*arguments, **named)
            self.augmenting_s += perf_counter() - began_s
            return batch

        return timed

    def end_step(self, engine: Engine) -> None:
        """A step is done; after the first ones all begins anew."""
        self.laps.mark()
        self.seen.append(self.seen[-1] + len(engine.state.batch["image"]))
        if engine.state.iteration == self.steps:
            engine.terminate()
        if engine.state.iteration == WARM_UP:
            self.reading_s = self.augmenting_s = 0.0


def main() -> None:
    """Measure and print."""
    ranks.join("cpu")
    config = read_bundle(sys.argv[2], Path(sys.argv[1]), epochs=1, batch_size=BATCH // ranks.launched())
    trainer: SupervisedTrainer = keep_seeding(config).get_parsed_content("train::trainer")
    clock = Clock(trainer, int(sys.argv[3]) if sys.argv[3:] else None)
    trainer.run()
    slices = ranks.launched() * (clock.seen[-1] - clock.seen[WARM_UP])
    elapsed_s = clock.laps.seconds(first=WARM_UP - 1)
    waiting_s = clock.reading_s + clock.augmenting_s
    peak_of_all_gib = ranks.launched() * float(ranks.mean(torch.tensor(peak_gib())))
    if ranks.is_first():
        report(
            ("torch", "monai"),
            epoch_slices_per_s=slices / elapsed_s,
            step_slices_per_s=slices / (elapsed_s - waiting_s),
            data_percent=100 * waiting_s / elapsed_s,
            reading_percent=100 * clock.reading_s / elapsed_s,
            parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
            peak_gib=peak_of_all_gib,
        )


if __name__ == "__main__":
    main()
