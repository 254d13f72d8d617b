"""Which slices an epoch shows, and in which order: small lesions and lesion-free slices get their share."""

import math
from collections.abc import Iterator
from typing import Any

import ignite.distributed as idist
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from strokelesion.networks import UserError


class SliceSampler(Sampler[int]):
    """The order of slices in each epoch: as many as there are with lesion, and as many without as `lesion_share` leaves.

    With `lesion_share` 0.5 each epoch adds as many lesion-free slices, drawn anew, as there are slices with lesion; with
    1, or where the data set holds only slices with lesion, there are none. Every slice with lesion comes once; with
    `evenness` above 0 they are drawn instead, with replacement, each with a probability of n^-evenness where n of its scan's
    slices have lesion: small lesions lie in few slices, yet their scans count as much as others. The order depends on seed
    and epoch alone, so a resumed run goes on as if it had not stopped.

    Where scans are renewed, `show` says what there is now; epochs keep the length of the first, and slices are drawn with
    replacement where there are fewer or more.

    Args:
        has_lesion: of each slice.
        scan_of: number of each slice's scan.
        lesion_share: share of slices with lesion, above 0 and at most 1.
        evenness: 0, every slice alike, to 1, every scan alike.
        seed: of the order.
        rank: number of this process among those that train together; None asks ignite.
        ranks: number of these processes. Each takes every n-th slice, so that their batches together are what one process with
            a batch so many times as large would see. Where the slices do not come out even, the first ones come once more.

    Raises:
        UserError: when `lesion_share` or `evenness` is out of its range, or no slice has a lesion.
    """

    def __init__(
        self,
        has_lesion: NDArray[np.bool_],
        scan_of: NDArray[np.integer[Any]],
        lesion_share: float = 0.5,
        evenness: float = 0.0,
        seed: int = 0,
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
        self.lesion_slices = len(self.with_lesion)
        self.free_slices = min(round(self.lesion_slices * (1 - lesion_share) / lesion_share), len(self.without))

    def show(self, has_lesion: NDArray[np.bool_], scan_of: NDArray[np.integer[Any]]) -> None:
        """Say which slices there are from now on."""
        self.with_lesion, self.without = np.flatnonzero(has_lesion), np.flatnonzero(~np.asarray(has_lesion))
        if not len(self.with_lesion):
            raise UserError("no training slice has a lesion; expected some. Check the masks of the training scans.")
        slices_of = np.bincount(scan_of[self.with_lesion])[scan_of[self.with_lesion]]
        weights = slices_of.astype(float) ** -self.evenness
        self.chances = weights / weights.sum() if self.evenness else None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
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
