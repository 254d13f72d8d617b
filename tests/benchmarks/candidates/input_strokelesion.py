"""The project's input: slices from the store on disk through sampler, loader and augmentation, as a training takes them.

python -m candidates.input_strokelesion FOLDER
"""

import sys
from pathlib import Path

import torch

from candidates.bundle import read_bundle
from candidates.measured import Laps, report
from strokelesion.pipeline.training.epochs import augmented_batch

EPOCHS = 8  # after one that warms up


def main() -> None:
    """Measure and print."""
    config = read_bundle("resunet", Path(sys.argv[1]))
    loader, sampler, augmentation = map(config.get_parsed_content, ("train::dataloader", "train::sampler", "augmentation"))
    laps = Laps()
    for epoch in range(1 + EPOCHS):
        laps.mark()
        sampler.set_epoch(epoch)
        for batch in loader:
            augmented_batch(batch, torch.device("cpu"), augmentation=augmentation)
    laps.mark()
    report(("torch", "monai"), slices_per_s=EPOCHS * len(sampler) / laps.seconds(first=1))


if __name__ == "__main__":
    main()
