"""Training slices in the memory of a GPU, where there is room: batches are cut out there, and training waits for no data."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from strokelesion.pipeline.training.slice_store import SliceDataset, open_store
from strokelesion.transforms.transfer import on_device

# What a store takes of the free memory at most: network, batches and the next scans need the rest.
LARGEST_SHARE = 0.5
logger = logging.getLogger(__name__)


class DeviceSlices(Dataset[dict[str, torch.Tensor]]):
    """The slices of a `SliceDataset` in the memory of a device; the same items, whole batches at once.

    Args:
        slices: where they come from; when it shows other scans, so does this.
        device: where they go.
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
        """Bring the scans that are shown now to the device, and let go of the others."""
        self.image = self.label = torch.empty(0)
        self.scans = {path: self.scans.get(path) or self.volumes(path) for path in paths}
        self.paths = paths
        self.image, self.label = (torch.cat([scan[part] for scan in self.scans.values()]) for part in (0, 1))
        lengths = torch.tensor([len(self.scans[path][1]) for path in paths], device=self.device)
        ends = lengths.cumsum(0)
        self.first, self.last = (ends - lengths).repeat_interleave(lengths), (ends - 1).repeat_interleave(lengths)

    def volumes(self, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images `(D, H, W)` in half precision and labels in bytes of one store, on the device."""
        store = open_store(path)
        image, label = (torch.from_numpy(np.ascontiguousarray(store[field])) for field in ("image", "label"))
        return image.to(self.device), label.to(self.device)


def has_room(slices: SliceDataset, device: torch.device) -> bool:
    """Return whether a device is a GPU whose free memory holds the slices twice, once while they are put together, and more."""
    if device.type != "cuda":
        return False
    needed = 2 * sum(path.stat().st_size for path in slices.paths)
    return needed <= LARGEST_SHARE * torch.cuda.mem_get_info(device)[0]


def slice_loader(
    slices: SliceDataset, sampler: Sampler[int], batch_size: int, device: str | torch.device, num_workers: int = 0
) -> DataLoader[Any]:
    """Return a loader of batches: from the memory of the device where they fit, else from the store on disk.

    Args:
        slices: what is loaded.
        sampler: in which order.
        batch_size: slices at once.
        device: where the network is trained.
        num_workers: processes that read from the store; none are needed where it lies in the device's memory.
    """
    device = torch.device(device)
    if has_room(slices, device):
        logger.info("the slices are kept in the memory of %s", device)
        resident = DeviceSlices(slices, device)
        return DataLoader(resident, batch_size=batch_size, sampler=sampler, collate_fn=as_it_is)
    pinned = device.type == "cuda"
    return DataLoader(slices, batch_size=batch_size, sampler=sampler, num_workers=num_workers, pin_memory=pinned)


def as_it_is(batch: Any) -> Any:
    """Return a batch that is one already."""
    return batch
