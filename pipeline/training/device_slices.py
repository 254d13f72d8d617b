"""Training slices in GPU memory, if they fit: batches are cut there, so training does not wait for data."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from strokelesion.pipeline.training.slice_store import SliceDataset, open_store
from strokelesion.transforms.augmentation import on_device

# Largest share of the free memory for the slices: network, batches and the next scans need the rest.
LARGEST_SHARE = 0.5
logger = logging.getLogger(__name__)


class DeviceSlices(Dataset[dict[str, torch.Tensor]]):
    """Hold the slices of a `SliceDataset` in the memory of a device; return the same items as whole batches.

    Args:
        slices: Source of the slices; when its scans change, the scans here change too.
        device: Device that holds the slices.
    """

    def __init__(self, slices: SliceDataset, device: torch.device) -> None:
        self.slices, self.device = slices, device
        self.steps = torch.arange(-slices.neighbors, slices.neighbors + 1, device=device)
        self.scans: dict[Path, tuple[torch.Tensor, torch.Tensor]] = {}
        self.paths: list[Path] = []

    def __len__(self) -> int:
        return len(self.slices)

    def __getitems__(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        """Return a batch: `image` `(B, 2 * neighbors + 1, H, W)` in single precision, `label` `(B, 1, H, W)` in bytes."""
        if self.paths is not self.slices.paths:
            self.fetch(self.slices.paths)
        chosen = on_device(numbers, self.device)
        shown = (chosen[:, None] + self.steps).clamp(self.first[chosen, None], self.last[chosen, None])
        return {"image": self.image[shown].float(), "label": self.label[chosen, None]}

    def fetch(self, paths: list[Path]) -> None:
        """Load the scans of this epoch to the device and release the others."""
        self.image = self.label = torch.empty(0)
        self.scans = {path: self.scans.get(path) or self.volumes(path) for path in paths}
        self.paths = paths
        self.image, self.label = (torch.cat([scan[part] for scan in self.scans.values()]) for part in (0, 1))
        lengths = torch.tensor([len(self.scans[path][1]) for path in paths], device=self.device)
        ends = lengths.cumsum(0)
        self.first, self.last = (ends - lengths).repeat_interleave(lengths), (ends - 1).repeat_interleave(lengths)

    def volumes(self, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images `(D, H, W)` (half precision) and labels (bytes) of one store, on the device."""
        store = open_store(path)
        image, label = (torch.from_numpy(np.ascontiguousarray(store[field])) for field in ("image", "label"))
        return image.to(self.device), label.to(self.device)


def has_room(slices: SliceDataset, device: torch.device) -> bool:
    """Return whether the slices fit on a GPU: twice their size, needed while they are joined, within `LARGEST_SHARE`."""
    if device.type != "cuda":
        return False
    needed = 2 * sum(path.stat().st_size for path in slices.paths)
    return needed <= LARGEST_SHARE * torch.cuda.mem_get_info(device)[0]


def slice_loader(
    slices: SliceDataset, sampler: Sampler[int], batch_size: int, device: str | torch.device, num_workers: int = 0
) -> DataLoader[Any]:
    """Return a loader of batches: from the memory of the device if the slices fit, else from the store on disk.

    Args:
        slices: Slices to load.
        sampler: Order of the slices.
        batch_size: Number of slices in a batch.
        device: Device of the network.
        num_workers: Number of processes that read from the store on disk; slices in the device's memory need none.
    """
    device = torch.device(device)
    if has_room(slices, device):
        logger.info("the slices are kept in the memory of %s", device)
        resident = DeviceSlices(slices, device)
        # `DeviceSlices` returns whole batches.
        return DataLoader(resident, batch_size=batch_size, sampler=sampler, collate_fn=lambda batch: batch)
    pinned = device.type == "cuda"
    return DataLoader(slices, batch_size=batch_size, sampler=sampler, num_workers=num_workers, pin_memory=pinned)
