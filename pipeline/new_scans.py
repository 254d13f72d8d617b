"""New scans, one by one: which are done already, how the others go, and what is to be said at the end.

A scan is done when its sidecar stands there with the SHA-256 of the scan and the settings that would make it again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import Dataset
from monai.engines import Evaluator

from strokelesion.pipeline.derivatives import ScanName, name_scans
from strokelesion.pipeline.locks import claimed
from strokelesion.pipeline.results import FAILURES, Results
from strokelesion.pipeline.scans import finish, predict_scans, scan_name


def segment_new_scans(evaluator: Evaluator, dataset: Dataset, root: str | Path, results: Results) -> None:
    """Segment the scans that are not done yet, write what is wanted of each, and the tables of all.

    Args:
        evaluator: whose output holds `scan` `(1, X, Y, Z)`, class probabilities on its grid, `pred` `(3, X, Y, Z)`, and, where
            the brain was looked for, `scan_brain` `(1, X, Y, Z)`.
        dataset: scans as `find_scans` lists them, and how they are loaded.
        root: the folder that holds them all.
        results: what is written, and where.

    Raises:
        ValueError: when two scans have one name, or another run writes to the same folder.
        SystemExit: with status 1 when any scan failed; the others are done all the same.
    """
    items: Sequence[Mapping[str, Any]] = dataset.data
    names = dict(zip(map(scan_name, items), name_scans(items, root), strict=True))
    with claimed(results.folder, "output_dir"):
        segment_named(evaluator, dataset, names, results)


def segment_named(evaluator: Evaluator, dataset: Dataset, names: Mapping[str, ScanName], results: Results) -> None:
    """Segment scans whose names are known, by their paths, see `segment_new_scans`."""
    items: Sequence[Mapping[str, Any]] = dataset.data
    results.describe()
    waiting = [item for item in items if not results.is_done(names[scan_name(item)], item)]
    failed: dict[str, Exception] = {}
    for item, outcome in predict_scans(evaluator, Dataset(waiting, dataset.transform)):
        path = scan_name(item)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            results.write(names[path], item, outcome)
        except Exception as error:
            failed[path] = error
        del outcome  # else two scans are in memory while the next one is computed
    results.gather([name for path, name in names.items() if path not in failed], failed)
    before = f", {len(items) - len(waiting)} of them before" if len(waiting) < len(items) else ""
    reasons = f", reasons in {results.folder}/{FAILURES}" if failed else ""
    finish(len(items), failed, f"segmented{before}, results in {results.folder}{reasons}")
