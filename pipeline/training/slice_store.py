"""The slice store: each scan is prepared once, and its slices stay on disk as a memory-mapped file.

Each scan has one `.npy` file with a structured array: `image` (half precision), `label` (bytes) and `lesion_voxels`. It is
derived from the scan's files and the transforms: a second run reuses it, an interrupted build continues where it stopped.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.networks.planes import AXIAL
from strokelesion.pipeline.runtime.derived_files import derived_path, file_states
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.pipeline.runtime.files import remove_parts, written_whole
from strokelesion.pipeline.runtime.processes import is_first, share
from strokelesion.pipeline.runtime.workers import workers
from strokelesion.transforms import Recipe
from strokelesion.transforms.sample_error import SampleError

STORE_VERSION = 1
FILE_KEYS = ("image", "main_mask", "sub_masks", "classes", "tissues")
# Entries of a synthetic scan's record that, with its files, determine the scan.
COMPOSITION_KEYS = ("lesions", "seed")
# Several runs may build one store. A temporary file that is older than this was left by a run that was killed.
DEAD_AFTER_S = 24 * 3600
logger = logging.getLogger(__name__)


def files_of(record: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the image and mask files of a record."""
    for key in FILE_KEYS:
        value = record.get(key, ())
        yield from map(Path, [value] if isinstance(value, str) else value)


def store_path(record: Mapping[str, Any], transform: Recipe, folder: Path) -> Path:
    """Return the path of one scan's slices; its name contains the fingerprint of inputs and transforms."""
    composition = [record[key] for key in COMPOSITION_KEYS if key in record]
    plane = [record["plane"]] if record.get("plane", AXIAL) != AXIAL else []
    made_from = [STORE_VERSION, file_states(files_of(record)), composition, *plane, transform]
    return derived_path(folder, f"{record['subject']}_{record['session']}", made_from, ".npy")


def pack(image: torch.Tensor, label: torch.Tensor) -> NDArray[Any]:
    """Return slices `(D, 1, H, W)` and their label maps as one structured array of length D."""
    height, width = image.shape[-2:]
    fields = [("image", "<f2", (height, width)), ("label", "u1", (height, width)), ("lesion_voxels", "<i4")]
    slices = np.empty(len(image), dtype=fields)
    slices["image"], slices["label"] = image[:, 0].numpy(force=True), label[:, 0].numpy(force=True)
    slices["lesion_voxels"] = (label > 0).sum((1, 2, 3)).numpy(force=True)
    return slices


def prepare_scan(record: Mapping[str, Any], transform: Recipe) -> dict[str, Any]:
    """Return one scan after all transforms, as a training sample.

    Raises:
        UserError: A file cannot be read or prepared; the message names the scan and the reason. Other errors are faults of
            this project and keep their traceback; a note names the scan.
    """
    try:
        # A copy for each call: MONAI's readers hold state, and threads that share one reader mix up their files.
        sample: dict[str, Any] = deepcopy(transform)(dict(record))
        return sample
    except Exception as error:
        source = record.get("image", record["subject"])
        if (known := user_error(error)) is not None:
            reason = str(known)
            if isinstance(known, SampleError) and known.source == str(source):
                reason = f"it {known.what}. {known.advice}"
            raise UserError(f"cannot prepare {source}: {reason}") from known
        error.add_note(f"while preparing {source}")
        raise


def store_scan(record: Mapping[str, Any], transform: Recipe, folder: Path) -> Path:
    """Write the store of one scan unless it exists; return its path.

    Raises:
        UserError: The scan cannot be prepared, see `prepare_scan`.
    """
    path = store_path(record, transform, folder)
    if not path.exists():
        sample = prepare_scan(record, transform)
        with written_whole(path) as beside, beside.open("wb") as file:
            np.save(file, pack(sample["image"], sample["label"]), allow_pickle=False)
    return path


def in_each_plane(records: Sequence[Mapping[str, Any]], planes: Sequence[str]) -> list[dict[str, Any]]:
    """Return each record once for each plane, with the key `plane`; records that have this key stay unchanged."""
    return [
        {"plane": plane, **record} for record in records for plane in (planes if "plane" not in record else [record["plane"]])
    ]


class SliceStore:
    """Prepare scans with one chain of transforms and keep their stores in one folder; missing stores are made on request.

    Args:
        transform: Deterministic transforms that end in `ExtractSlicesd`.
        folder: Folder of the stores; created if it is missing.
        processes: Number of processes that prepare scans; 0 uses threads of this process, see `workers`.
    """

    def __init__(self, transform: Recipe, folder: str | Path, processes: int = 0) -> None:
        self.transform, self.folder = transform, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_parts(self.folder, older_than_s=DEAD_AFTER_S)
        self.processes = processes
        self.pool: Executor | None = None
        self.begun: dict[Path, Future[Path]] = {}

    def path(self, record: Mapping[str, Any]) -> Path:
        """Return the path of a scan's store, whether it exists or not."""
        return store_path(record, self.transform, self.folder)

    def begin(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Start to make the missing stores in the background."""
        missing = {path: record for record in records if not (path := self.path(record)).exists() and path not in self.begun}
        if missing and self.pool is None:
            self.pool = workers(self.processes)
        for path, record in missing.items():
            assert self.pool is not None
            self.begun[path] = self.pool.submit(store_scan, record, self.transform, self.folder)

    def paths(self, records: Sequence[Mapping[str, Any]], first: int = 0) -> list[Path]:
        """Wait, with a progress bar, until all stores are made; return their paths in order.

        When several processes train together, each makes its share and waits for the others.

        Args:
            records: Records of the scans.
            first: Number of the first record among all records; it decides which process takes which scan.
        """
        if idist.get_world_size() > 1:
            self.finish(share(records, first))
            idist.barrier()
        # Stores that other processes wrote to another machine's disk are still missing here.
        return self.finish(records)

    def finish(self, records: Sequence[Mapping[str, Any]]) -> list[Path]:
        """Make the missing stores of these scans in this process; return the paths of all in order."""
        self.begin(records)
        paths = [self.path(record) for record in records]
        try:
            for path in tqdm(paths, desc="slice store", unit="scan", leave=False, disable=not is_first()):
                if path in self.begun:
                    self.begun.pop(path).result()
        except UserError as error:
            self.close()
            # An error from a worker process has that process's traceback as its cause.
            raise UserError(str(error)) from None
        except BaseException:
            self.close()
            raise
        return paths

    def close(self) -> None:
        """Stop the workers and cancel the stores that are not begun."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.begun = None, {}


def store_scans(records: Sequence[Mapping[str, Any]], transform: Recipe, folder: str | Path, processes: int = 0) -> list[Path]:
    """Make the missing stores and return the paths of all in order; see `SliceStore`."""
    store = SliceStore(transform, folder, processes)
    paths = store.paths(records)
    store.close()
    return paths


@lru_cache(maxsize=256)
def open_store(path: Path) -> NDArray[Any]:
    """Return one store as a read-only memory map; the cache is limited, because each open map holds a file descriptor."""
    slices: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return slices


def as_item(image: NDArray[Any], label: NDArray[Any]) -> dict[str, torch.Tensor]:
    """Return arrays as tensors: the image in single precision, the label map in bytes."""
    return {"image": torch.from_numpy(image.astype(np.float32)), "label": torch.from_numpy(label.copy())}


class SliceDataset(Dataset[dict[str, torch.Tensor]]):
    """Serve the slices of many scans as items `image` `(2 * neighbors + 1, H, W)` and `label` `(1, H, W)`.

    With `renewed` above 0, the scans change in each epoch: `set_epoch` drops the oldest scans and adds the same number of new
    ones, which were prepared during the last epoch.

    Args:
        data: Records of the scans, sorted by the epoch in which they first appear.
        transform: Deterministic transforms that end in `ExtractSlicesd`.
        cache_dir: Folder of the slice store.
        processes: Number of processes that prepare scans; 0 uses threads of this process.
        planes: Planes of the slices, for records without the key `plane`.
        neighbors: Number of stored slices below and above each slice, added as channels; the outermost slice is repeated.
        shown: Number of scans in an epoch; None means all.
        renewed: Number of scans that are replaced in each epoch.

    Attributes:
        paths: Stores of the current scans.
        has_lesion: Whether each of their slices has a lesion.
        scan_of: Number of each slice's scan.

    Raises:
        UserError: No slice is left to train on.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Recipe,
        cache_dir: str | Path,
        processes: int = 0,
        planes: Sequence[str] = (AXIAL,),
        neighbors: int = 0,
        shown: int | None = None,
        renewed: int = 0,
    ) -> None:
        self.data = in_each_plane(data, planes)
        self.store = SliceStore(transform, cache_dir, processes)
        self.neighbors = neighbors
        self.steps = np.arange(-neighbors, neighbors + 1)
        self.shown, self.renewed = len(self.data) if shown is None else shown, renewed
        self.paths: list[Path] = []
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Select the scans of this epoch; start to prepare the new scans of the next epoch and one more for each process."""
        first = self.renewed * (epoch - 1)
        last = first + self.shown
        paths = self.store.paths(self.data[first:last], first)
        if self.renewed:
            self.store.begin(share(self.data[last : last + self.renewed + self.store.processes], last))
        if paths != self.paths:
            self.show(paths)

    def show(self, paths: list[Path]) -> None:
        """Use the slices of these stores."""
        self.paths = paths
        stores = [open_store(path)["lesion_voxels"] for path in paths]
        self.index = [(scan, number) for scan, store in enumerate(stores) for number in range(len(store))]
        self.has_lesion = np.concatenate(stores) > 0
        self.scan_of = np.repeat(np.arange(len(stores)), [len(store) for store in stores])
        if not self.index:
            raise UserError(f"none of {len(paths)} scans has a slice to train on; expected slices with lesion or brain.")
        numbers = len(self.index), int(self.has_lesion.sum()), len(paths)
        logger.info("%d slices, %d with lesion, of %d scans in %s", *numbers, self.store.folder)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        scan, position = self.index[number]
        store = open_store(self.paths[scan])
        shown = (position + self.steps).clip(0, len(store) - 1)
        return as_item(store["image"][shown], store["label"][position][None])


class ScanDataset(Dataset[dict[str, Any]]):
    """Serve whole scans from the slice store: `image` and `label` `(1, H, W, D)`, with `subject` and `session`.

    When several processes train together, each has its share. A process without a scan gets the first scan with an empty
    label: every process must contribute a score, and a scan without a lesion class does not change the mean.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Recipe, cache_dir: str | Path, processes: int = 0) -> None:
        self.data = data
        self.paths = store_scans(data, transform, cache_dir, processes)
        self.own = share(range(len(self.paths)))

    def __len__(self) -> int:
        return len(self.own) or min(1, len(self.paths))

    def __getitem__(self, number: int) -> dict[str, Any]:
        if self.own:
            return self.scan(self.own[number])
        stand_in = self.scan(0)
        return {**stand_in, "label": torch.zeros_like(stand_in["label"])}

    def scan(self, number: int) -> dict[str, Any]:
        """Return the scan of this number, counted over all processes."""
        slices = open_store(self.paths[number])
        volumes = (np.moveaxis(slices[field], 0, -1)[None] for field in ("image", "label"))
        names = {key: self.data[number][key] for key in ("subject", "session")}
        return {**as_item(*volumes), **names}
