"""Per-batch and per-epoch steps of a training run: augmentation, seeds, learning rate."""

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

# Seeds of two runs differ by more than any number of epochs; seeds of two processes differ by more than those of most runs.
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
    """Copy a batch to the device and augment it there; with `augmentation` bound, this is MONAI's `prepare_batch`.

    Returns:
        Image `(B, C, H, W)`, where C counts the slice and its neighbors, and label `(B, 1, H, W)`.
    """
    augmented = augmentation({key: batch[key].to(device, non_blocking=non_blocking, **kwargs) for key in ("image", "label")})
    return augmented["image"], augmented["label"]


class EpochSeeds:
    """Select the scans of each epoch and seed all random numbers from the epoch's number.

    A resumed run therefore sees the same batches as an uninterrupted one.

    Args:
        slices: Training slices.
        augmentation: Random transform of a batch.
        sampler: Order of the slices.
        seed: Seed of the run; random numbers depend on it and on the epoch.
        rank: Rank of this process. Processes that train together draw different numbers but share the order of slices.
    """

    def __init__(
        self, slices: SliceDataset, augmentation: RandAugmentSlicesd, sampler: SliceSampler, seed: int, rank: int | None = None
    ) -> None:
        self.slices = slices
        self.augmentation = augmentation
        self.sampler = sampler
        self.seed, self.rank = seed, idist.get_rank() if rank is None else rank

    def attach(self, trainer: Engine) -> None:
        """Add the handler to `trainer`."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)

    def start_epoch(self, trainer: Engine) -> None:
        """Seed sampler, augmentation and the global generators with this epoch's number."""
        epoch = trainer.state.epoch
        seed = (self.seed * SEED_STRIDE + epoch + self.rank * RANK_STRIDE) % 2**32
        self.slices.set_epoch(epoch)
        self.sampler.show(self.slices.has_lesion, self.slices.scan_of)
        self.sampler.set_epoch(epoch)
        self.augmentation.set_random_state(seed=seed)
        # For other sources of randomness, such as workers of the loader and dropout.
        set_determinism(seed=seed)


def schedule(optimizer: torch.optim.Optimizer, kind: str, epochs: int) -> LRScheduler:
    """Return the schedule of the learning rate over the epochs: `constant`, or `cosine` (half a cosine that ends at zero)."""
    if kind == "cosine":
        return CosineAnnealingLR(optimizer, T_max=epochs)
    return ConstantLR(optimizer, factor=1.0)
