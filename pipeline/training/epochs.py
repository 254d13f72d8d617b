"""How a training run moves on from batch to batch and epoch to epoch: augmentation, seeds, learning rate."""

from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils import set_determinism
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler

from strokelesion.pipeline.training.slice_sampler import SliceSampler
from strokelesion.pipeline.training.slice_store import SliceDataset
from strokelesion.transforms import RandAugmentSlicesd

# Seeds of two runs lie further apart than any run has epochs, and those of two processes further than most runs.
SEED_STRIDE = 100_003
RANK_STRIDE = 1_000_000_007


def augmented_batch(
    batch: Mapping[str, torch.Tensor],
    device: torch.device,
    non_blocking: bool = False,
    *,
    augmentation: RandAugmentSlicesd,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring a batch to the device and augment it there; with `augmentation` given, MONAI's `prepare_batch`.

    Returns:
        Image `(B, C, H, W)`, C slices with its neighbors, and label `(B, 1, H, W)`.
    """
    augmented = augmentation({key: batch[key].to(device, non_blocking=non_blocking, **kwargs) for key in ("image", "label")})
    return augmented["image"], augmented["label"]


class EpochSeeds:
    """Show the scans of each epoch, and start all random numbers, order and augmentation of slices first, anew from its number.

    So a run that was stopped and resumed sees the same batches as one that was not.

    Args:
        slices: what there is to train on.
        augmentation: the random transform of a batch.
        sampler: the order of slices.
        seed: with the epoch's number, what the random numbers depend on.
        rank: of this process; those that train together draw other numbers, but for the order, which they share.
    """

    def __init__(
        self, slices: SliceDataset, augmentation: RandAugmentSlicesd, sampler: SliceSampler, seed: int, rank: int | None = None
    ) -> None:
        self.slices = slices
        self.augmentation = augmentation
        self.sampler = sampler
        self.seed, self.rank = seed, idist.get_rank() if rank is None else rank

    def attach(self, trainer: Engine) -> None:
        """Follow `trainer`."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)

    def start_epoch(self, trainer: Engine) -> None:
        """Seed sampler, augmentation and the global generators with this epoch's number."""
        epoch = trainer.state.epoch
        seed = (self.seed * SEED_STRIDE + epoch + self.rank * RANK_STRIDE) % 2**32
        self.slices.set_epoch(epoch)
        self.sampler.show(self.slices.has_lesion, self.slices.scan_of)
        self.sampler.set_epoch(epoch)
        self.augmentation.set_random_state(seed=seed)
        # Whatever else draws: workers of the loader, a network's dropout.
        set_determinism(seed=seed)


def schedule(optimizer: torch.optim.Optimizer, kind: str, epochs: int) -> LRScheduler:
    """Return how the learning rate changes with the epochs: not at all (`constant`), or along half a cosine to zero."""
    if kind == "cosine":
        return CosineAnnealingLR(optimizer, T_max=epochs)
    return ConstantLR(optimizer, factor=1.0)
