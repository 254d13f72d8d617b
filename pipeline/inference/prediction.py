"""Predict scans one by one; a scan that fails does not stop the others."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import Evaluator, IterationEvents
from tqdm import tqdm

from strokelesion.pipeline.runtime.errors import reason, user_error
from strokelesion.pipeline.runtime.memory import return_freed_memory
from strokelesion.pipeline.runtime.processes import is_first

# On the CPU, oneDNN computes torch's convolutions and by default caches its preparation for each input size. Scans differ in
# size: memory grew by 40 MB per scan, and the cache saved no time.
NO_PRIMITIVES_KEPT = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
# What is kept of the evaluator's sample: the scan and its predictions on its own grid.
KEPT = ("scan", "pred", "scan_brain", "scan_to_mni")
logger = logging.getLogger(__name__)


class OneAhead:
    """Load the items of a data set by number, each while the previous item is computed and written.

    Only one scan is loaded ahead, because a scan takes 0.4 GiB at 1 mm. An error is raised when its own item is requested.
    MONAI's `ThreadBuffer` loads two ahead and returns nothing more after an error.

    Args:
        dataset: Data set that the items come from.
        pool: Executor with two workers.
        beside: Function of a loaded item that is computed beside the network; None computes nothing.

    Attributes:
        found: Future of what `beside` returns for the last item.
    """

    def __init__(self, dataset: Dataset, pool: Executor, beside: Callable[[Any], Any] | None) -> None:
        self.dataset, self.pool, self.beside = dataset, pool, beside
        self.coming: dict[int, Future[Any]] = {}
        self.found: Future[Any] | None = None

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
        item = loaded.result()
        self.found = None if self.beside is None else self.pool.submit(self.beside, item)
        return item


def predict_scans(
    evaluator: Evaluator, dataset: Dataset, beside: Callable[[Any], Any] | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | Exception]]:
    """Run the evaluator, with its post-processing, on each item of a data set separately.

    Args:
        evaluator: Evaluator for one scan at a time.
        dataset: Scans with the transform that loads them.
        beside: Function of a loaded scan that is computed in a thread beside the network; the `Future` of its result is the
            entry `beside` of the output.

    Yields:
        The item as listed, and either what `KEPT` names of the evaluator's sample, or the error from loading,
        prediction or saving.
    """
    os.environ.setdefault(*NO_PRIMITIVES_KEPT)
    errors: list[BaseException] = []
    # With this handler the engine ends a failed run properly. Without it, the engine raises and its next run does nothing.
    handled = evaluator.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: errors.append(error))
    freed = evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, return_freed_memory)
    with handled, freed, ThreadPoolExecutor(max_workers=2) as pool:
        load = OneAhead(dataset, pool, beside)
        for number, item in enumerate(
            tqdm(dataset.data, desc="scans", unit="scan", disable=not is_first() or len(dataset) == 1)
        ):
            evaluator.data_loader = DataLoader(Dataset([number], load), batch_size=1)
            evaluator.state.epoch_length = 1  # otherwise the engine repeats the scan once per item of its first loader
            evaluator.run()
            output: Any = errors.pop() if errors else {**kept(evaluator), "beside": load.found}
            if isinstance(output, BaseException) and not isinstance(output, Exception):
                raise output  # Ctrl-C, which the engine passes on like an error of the scan
            # Free the memory of what is not kept while the scan is measured, and of the rest before the next one is computed.
            evaluator.state.output = evaluator.state.batch = None
            return_freed_memory()
            yield item, output
            output = None


def kept(evaluator: Evaluator) -> dict[str, Any]:
    """Return what `KEPT` names of the evaluator's only sample; MONAI leaves what no step changed in the batch."""
    sample = {**evaluator.state.batch[0], **evaluator.state.output[0]}
    return {key: sample[key] for key in KEPT if key in sample}


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
