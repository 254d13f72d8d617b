"""Find scans and predict them one by one; a scan that fails does not stop the others."""

import glob
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import Evaluator
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.inference.dicom import find_series
from strokelesion.pipeline.runtime.errors import format_issue, reason, refuse, user_error
from strokelesion.pipeline.runtime.processes import is_first

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mha", ".mhd", ".nrrd", ".hdr")
# A file name with one of these words between separators belongs to a mask or map, not to a scan.
MASK_WORDS = {"mask", "lesion", "label", "dseg", "probseg", "probabilities"}
# On the CPU, oneDNN computes torch's convolutions and by default caches its preparation for each input size. Scans differ in
# size: memory grew by 40 MB per scan, and the cache saved no time.
NO_PRIMITIVES_KEPT = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
logger = logging.getLogger(__name__)


def find_scans(scans: str | Path | None, participants: str | Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the scans that a file, a folder or a glob names, as items with `image`, sorted by path.

    The search of a folder includes its subfolders. It returns all `*_T1w` images (BIDS). If there are none, it returns all
    images without one of `MASK_WORDS` in their name. If there are none either, it returns the DICOM series that can be
    T1-weighted, see `find_series`; then `image` is the list of files and `name` names the series. Hidden files are ignored.

    Args:
        scans: File, folder or glob; None gives an empty list.
        participants: BIDS labels of the subjects to keep, with or without `sub-`, as a list or separated by commas; None
            keeps all.

    Raises:
        UserError: when no scan was found, or a participant has no scan.
    """
    found = [] if scans is None else find_all_scans(scans)
    return found if participants is None else scans_of(found, participants)


def scans_of(items: Sequence[dict[str, Any]], participants: str | Sequence[str]) -> list[dict[str, Any]]:
    """Return the scans whose path contains one of the given subjects."""
    # The command line reads 10 as a number and 10,11 as a tuple.
    words = participants if isinstance(participants, list | tuple) else str(participants).split(",")
    wanted = {f"sub-{str(word).strip().removeprefix('sub-')}" for word in words}
    named = [wanted.intersection(re.split(r"[/\\_]", scan_name(item))) for item in items]
    wanting = sorted(subject.removeprefix("sub-") for subject in wanted.difference(*named))
    refuse(
        [format_issue("participants without a scan", wanting, "Expected labels of the folders sub-*; quote those of digits.")]
    )
    return [item for item, subjects in zip(items, named, strict=True) if subjects]


def find_all_scans(scans: str | Path) -> list[dict[str, Any]]:
    """Return all scans of a file, a folder or a glob, see `find_scans`."""
    path = Path(scans)
    if path.is_dir():
        found = scans_in(path)
        if not found and (series := find_series(path)):
            return [{"image": list(one.files), "name": f"{one.folder}/{one.name}"} for one in series]
    else:
        named = [path] if path.is_file() else map(Path, glob.glob(str(scans), recursive=True))
        found = sorted(path for path in named if path.is_file())
    if not found:
        raise UserError(
            f"found no scan at {scans}; expected a file, a folder or a glob of images ({', '.join(IMAGE_SUFFIXES)}), or "
            "a folder of DICOM series. Check --scans; quote a glob so that the shell does not expand it."
        )
    refuse_twins(found)
    return [{"image": str(path)} for path in found]


def refuse_twins(scans: Sequence[Path]) -> None:
    """Raise UserError if two scans of a folder differ only in their suffix, because their masks would have the same name."""
    named: dict[Path, Path] = {}
    for scan in scans:
        twin = named.setdefault(scan.with_name(stem_of(scan.name)), scan)
        if twin != scan:
            raise UserError(f"{twin} and {scan} would write the same mask; expected names of their own. Move one away.")


def stem_of(name: str) -> str:
    """Return a file name without its image suffix."""
    matching = [suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(max(matching, key=len))] if matching else name


def scans_in(folder: Path) -> list[Path]:
    """Return the image files that are scans in a folder and its subfolders."""
    paths = sorted(folder.rglob("*"))
    images = [path for path in paths if path.name.lower().endswith(IMAGE_SUFFIXES) and path.name[0] != "."]
    t1w = [path for path in images if path.name.split(".")[0].endswith("_T1w")]
    scans = t1w or [path for path in images if MASK_WORDS.isdisjoint(re.split(r"[-_.]", path.name.lower()))]
    if len(scans) < len(images):
        logger.info("%s: %d images are scans, %d are not by their names", folder, len(scans), len(images) - len(scans))
    return scans


def scan_name(item: Mapping[str, Any]) -> str:
    """Return the path that identifies a scan: that of its file, or the folder and name of a DICOM series."""
    return str(item.get("name") or item["image"])


def common_folder(items: Sequence[Mapping[str, Any]]) -> str:
    """Return the deepest folder that holds all scans; names of results depend only on the path below it."""
    return os.path.commonpath([Path(scan_name(item)).absolute().parent for item in items])


class OneAhead:
    """Load the items of a data set by number, each while the previous item is computed and written.

    Only one scan is loaded ahead, because a scan takes 0.4 GiB at 1 mm. An error is raised when its own item is requested.
    MONAI's `ThreadBuffer` loads two ahead and returns nothing more after an error.

    Args:
        dataset: Data set that the items come from.
        pool: Executor with one worker.
    """

    def __init__(self, dataset: Dataset, pool: Executor) -> None:
        self.dataset, self.pool = dataset, pool
        self.coming: dict[int, Future[Any]] = {}

    def begin(self, number: int) -> None:
        """Start to load an item in the pool, if the item exists."""
        if number < len(self.dataset):
            self.coming[number] = self.pool.submit(self.dataset.__getitem__, number)

    def __call__(self, number: int) -> Any:
        """Return a loaded item and start to load the next one; keep no reference to the returned item."""
        if number not in self.coming:
            self.begin(number)
        loaded = self.coming.pop(number)
        self.begin(number + 1)
        return loaded.result()


def predict_scans(evaluator: Evaluator, dataset: Dataset) -> Iterator[tuple[dict[str, Any], dict[str, Any] | Exception]]:
    """Run the evaluator, with its post-processing, on each item of a data set separately.

    Yields:
        The item as listed, and either the evaluator's output for it or the error from loading, prediction or saving.
    """
    os.environ.setdefault(*NO_PRIMITIVES_KEPT)
    errors: list[BaseException] = []
    # With this handler the engine ends a failed run properly. Without it, the engine raises and its next run does nothing.
    handled = evaluator.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: errors.append(error))
    with handled, ThreadPoolExecutor(max_workers=1) as pool:
        load = OneAhead(dataset, pool)
        for number, item in enumerate(tqdm(dataset.data, desc="scans", unit="scan", disable=not is_first())):
            evaluator.data_loader = DataLoader(Dataset([number], load), batch_size=1)
            evaluator.state.epoch_length = 1  # otherwise the engine repeats the scan once per item of its first loader
            evaluator.run()
            output: Any = errors.pop() if errors else evaluator.state.output[0]
            if isinstance(output, BaseException) and not isinstance(output, Exception):
                raise output  # Ctrl-C, which the engine passes on like an error of the scan
            yield item, output
            # Free the memory of this scan before the next one is computed.
            output = evaluator.state.output = evaluator.state.batch = None


def failure(path: str, error: Exception) -> str:
    """Return why a scan failed; log the traceback unless it is a user error.

    Only text is returned. The error object refers to its stack frames and would keep all data of the scan in memory.
    """
    if user_error(error) is None:
        logger.error("%s: a fault of this program; please report it", path, exc_info=error)
    return reason(error)


def finish(scans: int, failed: Mapping[str, str], done: str) -> None:
    """Report which scans failed and why, and exit with status 1 if any did."""
    for image, why in failed.items():
        logger.error("%s failed: %s", image, why)
    print(f"{scans - len(failed)} of {scans} scans {done}; {len(failed)} failed.")
    if failed:
        raise SystemExit(1)
