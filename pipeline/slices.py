"""The slice store: each scan is read and prepared once, its slices stay on disk, memory-mapped.

One `.npy` file a scan, in NumPy's own format, a structured array with the fields `image` (half precision), `label`
(bytes) and `lesion_voxels`. Its name carries a hash of the input files (path, size, time of change) and of the transforms
that made it, so a second run reuses it, a changed input or transform makes a new one, and an interrupted build goes on
where it stopped: a file is written beside its place and renamed when it is whole.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from strokelesion.pipeline.errors import innermost
from strokelesion.pipeline.files import remove_parts, written_whole
from strokelesion.transforms import Recipe

STORE_VERSION = 1
FILE_KEYS = ("image", "main_mask", "sub_masks", "tissues")
# What else makes a composed scan what it is.
COMPOSITION_KEYS = ("lesions", "seed")
# Several runs may build one store; a file that nobody wrote to for so long is left from a run that was killed.
DEAD_AFTER_S = 24 * 3600
# Letters of subject and session in the name of a file; which scan it is, the digest says.
LONGEST_NAME = 50
logger = logging.getLogger(__name__)


def files_of(record: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the image and mask files of a record."""
    for key in FILE_KEYS:
        value = record.get(key, ())
        yield from map(Path, [value] if isinstance(value, str) else value)


def store_path(record: Mapping[str, Any], transform: Recipe, folder: Path) -> Path:
    """Return where the slices of one scan lie: its name and 20 digits of the SHA-256 of inputs and transforms."""
    name = f"{record['subject']}_{record['session']}"[:LONGEST_NAME]
    inputs = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in files_of(record)]
    composition = [record[key] for key in COMPOSITION_KEYS if key in record]
    recipe = json.dumps([STORE_VERSION, inputs, composition, transform.fingerprint])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:20]
    return folder / f"{name}_{digest}.npy"


def pack(image: torch.Tensor, label: torch.Tensor) -> NDArray[Any]:
    """Return slices `(D, 1, H, W)` and their label maps as one structured array of length D."""
    height, width = image.shape[-2:]
    fields = [("image", "<f2", (height, width)), ("label", "u1", (height, width)), ("lesion_voxels", "<i4")]
    slices = np.empty(len(image), dtype=fields)
    slices["image"], slices["label"] = image[:, 0].numpy(), label[:, 0].numpy()
    slices["lesion_voxels"] = (label > 0).sum((1, 2, 3)).numpy()
    return slices


def prepare_scan(record: Mapping[str, Any], transform: Recipe) -> dict[str, Any]:
    """Return the sample that training learns from: one scan, transformed.

    Raises:
        ValueError: when a file cannot be read or prepared; the message names the scan and the reason.
    """
    try:
        # A copy of its own: MONAI's readers hold state, and threads that share one mix up their files.
        sample: dict[str, Any] = deepcopy(transform)(dict(record))
        return sample
    except Exception as error:
        source = record.get("image", record["subject"])
        raise ValueError(f"cannot prepare {source}: {innermost(error)}") from error


def store_scan(record: Mapping[str, Any], transform: Recipe, folder: Path) -> Path:
    """Make the store of one scan unless it is there; return its path.

    Raises:
        ValueError: when the scan cannot be prepared, see `prepare_scan`.
    """
    path = store_path(record, transform, folder)
    if not path.exists():
        sample = prepare_scan(record, transform)
        with written_whole(path) as beside, beside.open("wb") as file:
            np.save(file, pack(sample["image"], sample["label"]), allow_pickle=False)
    return path


def store_scans(records: Sequence[Mapping[str, Any]], transform: Recipe, folder: str | Path, workers: int = 2) -> list[Path]:
    """Make the stores that are missing, with a progress bar, and return the paths of all, in order.

    Args:
        records: items with `image`, `main_mask`, perhaps `sub_masks`, `subject` and `session`.
        transform: deterministic transforms that end in `ExtractSlicesd`.
        folder: where the stores lie; made if need be.
        workers: scans prepared at once.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_parts(folder, older_than_s=DEAD_AFTER_S)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        work = pool.map(lambda record: store_scan(record, transform, folder), records)
        try:
            return list(tqdm(work, total=len(records), desc="slice store", unit="scan", leave=False))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@lru_cache(maxsize=256)
def open_store(path: Path) -> NDArray[Any]:
    """Open one store as a read-only memory map; only so many stay open, because each holds a file descriptor."""
    slices: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return slices


def as_item(image: NDArray[Any], label: NDArray[Any]) -> dict[str, torch.Tensor]:
    """Return arrays as tensors: the image in single precision, the label map in bytes."""
    return {"image": torch.from_numpy(image.astype(np.float32)), "label": torch.from_numpy(label.copy())}


class SliceDataset(Dataset[dict[str, torch.Tensor]]):
    """Slices of many scans as items `image` `(2 * neighbors + 1, H, W)` and `label` `(1, H, W)`.

    Args:
        data: the scans' records.
        transform: deterministic transforms that end in `ExtractSlicesd`.
        cache_dir: folder of the slice store.
        workers: scans prepared at once.
        neighbors: how many stored slices below and above come with each, as channels; beyond the ends the last is repeated.

    Raises:
        ValueError: when no slice is left to train on.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Recipe,
        cache_dir: str,
        workers: int = 2,
        neighbors: int = 0,
    ) -> None:
        self.paths = store_scans(data, transform, cache_dir, workers)
        self.steps = np.arange(-neighbors, neighbors + 1)
        stores = [open_store(path)["lesion_voxels"] for path in self.paths]
        self.index = [(scan, number) for scan, store in enumerate(stores) for number in range(len(store))]
        self.has_lesion = np.concatenate(stores) > 0
        self.scan_of = np.repeat(np.arange(len(stores)), [len(store) for store in stores])
        if not self.index:
            raise ValueError(f"none of {len(data)} scans has a slice to train on; expected slices with lesion or brain.")
        logger.info(
            "%d slices, %d with lesion, of %d scans in %s",
            len(self.index), int(self.has_lesion.sum()), len(data), cache_dir,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        scan, position = self.index[number]
        store = open_store(self.paths[scan])
        shown = (position + self.steps).clip(0, len(store) - 1)
        return as_item(store["image"][shown], store["label"][position][None])


class ScanDataset(Dataset[dict[str, Any]]):
    """The same store, a whole scan an item: `image` and `label` `(1, H, W, D)`, with `subject` and `session`."""

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Recipe, cache_dir: str, workers: int = 2) -> None:
        self.data = data
        self.paths = store_scans(data, transform, cache_dir, workers)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> dict[str, Any]:
        slices = open_store(self.paths[number])
        volumes = (np.moveaxis(slices[field], 0, -1)[None] for field in ("image", "label"))
        names = {key: self.data[number][key] for key in ("subject", "session")}
        return {**as_item(*volumes), **names}


class SliceSampler(Sampler[int]):
    """The order of slices in each epoch: as many as there are with lesion, and as many without as `lesion_share` leaves.

    With `lesion_share` 0.5 each epoch adds as many lesion-free slices, drawn anew, as there are slices with lesion; with
    1, or where the data set holds only slices with lesion, there are none. Every slice with lesion comes once; with
    `evenness` above 0 they are drawn instead, with replacement, each with a probability of n^-evenness where n of its scan's
    slices have lesion: small lesions lie in few slices, yet their scans count as much as others. The order depends on seed
    and epoch alone, so a resumed run goes on as if it had not stopped.

    Args:
        has_lesion: of each slice.
        scan_of: number of each slice's scan.
        lesion_share: share of slices with lesion, above 0 and at most 1.
        evenness: 0, every slice alike, to 1, every scan alike.
        seed: of the order.

    Raises:
        ValueError: when `lesion_share` or `evenness` is out of its range, or no slice has a lesion.
    """

    def __init__(
        self,
        has_lesion: NDArray[np.bool_],
        scan_of: NDArray[np.integer[Any]],
        lesion_share: float = 0.5,
        evenness: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0 < lesion_share <= 1:
            raise ValueError(f"got lesion_share {lesion_share}; allowed is above 0 and at most 1.")
        if not 0 <= evenness <= 1:
            raise ValueError(f"got evenness {evenness}; allowed is 0 to 1.")
        self.with_lesion, self.without = np.flatnonzero(has_lesion), np.flatnonzero(~np.asarray(has_lesion))
        if not len(self.with_lesion):
            raise ValueError("no training slice has a lesion; expected some. Check the masks of the training scans.")
        wanted = round(len(self.with_lesion) * (1 - lesion_share) / lesion_share)
        self.free_slices = min(wanted, len(self.without))
        slices_of = np.bincount(scan_of[self.with_lesion])[scan_of[self.with_lesion]]
        weights = slices_of.astype(float) ** -evenness
        self.chances = weights / weights.sum() if evenness else None
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.with_lesion) + self.free_slices

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        free = rng.choice(self.without, self.free_slices, replace=False)
        shown = self.with_lesion
        if self.chances is not None:
            shown = rng.choice(shown, len(shown), p=self.chances)
        return iter(rng.permutation(np.concatenate([shown, free])).tolist())
