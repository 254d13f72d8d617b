"""Selection and order of the slices in an epoch; it balances small lesions and lesion-free slices."""

import math
from collections.abc import Iterator
from typing import Any

import ignite.distributed as idist
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from strokelesion.networks import UserError


class SliceSampler(Sampler[int]):
    """Sample the slices of each epoch: all slices with lesion, and lesion-free slices up to the ratio of `lesion_share`.

    With `lesion_share` 0.5, each epoch adds as many lesion-free slices as there are slices with lesion, drawn again in each
    epoch. With 1, or if all slices have a lesion, it adds none. Each slice with lesion appears once. With `evenness` above 0,
    slices with lesion are drawn with replacement instead, with a probability proportional to n^-evenness, where n is the number
    of slices with lesion in the same scan. Scans with small lesions then count more, although few of their slices have lesion.
    The order depends only on seed and epoch, so a resumed run sees the same order as an uninterrupted one.

    If scans are renewed, `show` replaces the slices. Every epoch keeps the length of the first one; if the number of slices
    with lesion differs, they are drawn with replacement. `epoch_slices` sets that length, whatever the number of slices is.

    Args:
        has_lesion: Whether each slice has a lesion.
        scan_of: Number of each slice's scan.
        lesion_share: Share of slices with lesion, above 0 and at most 1.
        evenness: Weighting, from 0 (all slices count alike) to 1 (all scans count alike).
        seed: Seed of the order.
        epoch_slices: Number of slices of an epoch over all processes; None for all with lesion, and their share of others.
        rank: Number of this process among those that train together; None takes it from ignite.
        ranks: Number n of these processes; None takes it from ignite. Each takes every n-th slice, so their batches together
            equal one batch that is n times as large. If the slices do not divide evenly, the first ones appear once more.

    Raises:
        UserError: `lesion_share` or `evenness` is out of its range, or no slice has a lesion.
    """

    def __init__(
        self,
        has_lesion: NDArray[np.bool_],
        scan_of: NDArray[np.integer[Any]],
        lesion_share: float = 0.5,
        evenness: float = 0.0,
        seed: int = 0,
        epoch_slices: int | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        if not 0 < lesion_share <= 1:
            raise UserError(f"got lesion_share {lesion_share}; allowed is above 0 and at most 1.")
        if not 0 <= evenness <= 1:
            raise UserError(f"got evenness {evenness}; allowed is 0 to 1.")
        self.evenness = evenness
        self.seed = seed
        self.rank = idist.get_rank() if rank is None else rank
        self.ranks = idist.get_world_size() if ranks is None else ranks
        self.epoch = 0
        self.show(has_lesion, scan_of)
        self.lesion_slices = max(1, round(epoch_slices * lesion_share)) if epoch_slices else len(self.with_lesion)
        self.free_slices = min(round(self.lesion_slices * (1 - lesion_share) / lesion_share), len(self.without))

    def show(self, has_lesion: NDArray[np.bool_], scan_of: NDArray[np.integer[Any]]) -> None:
        """Set the slices to sample from."""
        self.with_lesion, self.without = np.flatnonzero(has_lesion), np.flatnonzero(~np.asarray(has_lesion))
        if not len(self.with_lesion):
            raise UserError(
                "no training slice has a lesion; expected some. Check the masks of the training scans, or choose another split."
            )
        slices_of = np.bincount(scan_of[self.with_lesion])[scan_of[self.with_lesion]]
        weights = slices_of.astype(float) ** -self.evenness
        self.chances = weights / weights.sum() if self.evenness else None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next order belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil((self.lesion_slices + self.free_slices) / self.ranks)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        free = rng.choice(self.without, self.free_slices, replace=self.free_slices > len(self.without))
        shown = self.with_lesion
        if self.chances is not None or len(shown) != self.lesion_slices:
            shown = rng.choice(shown, self.lesion_slices, p=self.chances)
        order = rng.permutation(np.concatenate([shown, free]))
        return iter(np.resize(order, len(self) * self.ranks)[self.rank :: self.ranks].tolist())
