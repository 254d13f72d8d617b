"""New scans, one by one: which are done already, how the others go, and what is to be said at the end.

A scan is done when its sidecar stands there with the SHA-256 of the scan and the settings that would make it again.

Several processes may share the work: those that torch's launcher started, of which the first gathers the tables when all are
done, or runs that know nothing of each other and take a part each; a last one, of the whole, then finds all done and gathers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
from monai.data import Dataset
from monai.engines import Evaluator

from strokelesion.networks import UserError
from strokelesion.pipeline.inference.derivatives import ScanName, name_scans
from strokelesion.pipeline.inference.results import FAILURES, Results
from strokelesion.pipeline.inference.scans import common_folder, failure, finish, predict_scans, scan_name
from strokelesion.pipeline.runtime.locks import claimed
from strokelesion.pipeline.runtime.processes import is_first, merged, share

Names = Mapping[str, ScanName]


def segment_new_scans(evaluator: Evaluator, dataset: Dataset, results: Results, part: tuple[int, int] | None = None) -> None:
    """Segment the scans that are not done yet, write what is wanted of each, and the tables of all.

    Args:
        evaluator: whose output holds `scan` `(1, X, Y, Z)`, class probabilities on its grid, `pred` `(3, X, Y, Z)`, and, where
            the brain was looked for, `scan_brain` `(1, X, Y, Z)`.
        dataset: scans as `find_scans` lists them, and how they are loaded.
        results: what is written, and where.
        part: number and count of the parts that the scans are divided into; then only the scans of this part are segmented,
            and no tables are written.

    Raises:
        UserError: when there is no scan, two scans have one name, or another run writes to the same folder or has the
            same part.
        SystemExit: with status 1 when any scan failed; the others are done all the same.
    """
    items: Sequence[Mapping[str, Any]] = dataset.data
    if not items:
        raise UserError("got no scans; expected a file, a folder or a glob: --scans /data/new.")
    names = dict(zip(map(scan_name, items), name_scans(items, common_folder(items)), strict=True))
    with claimed(results.folder, "output_dir", part):
        if part is None:
            segment_all(evaluator, dataset, names, results)
        else:
            segment_part(evaluator, dataset, names, results, part)


def segment_all(evaluator: Evaluator, dataset: Dataset, names: Names, results: Results) -> None:
    """Segment scans whose names are known, by their paths, and write the tables, see `segment_new_scans`."""
    with idist.one_rank_first():
        if is_first():
            results.clear(list(names.values()))
            results.describe()
    before, failed = segment_share(evaluator, dataset, names, results)
    if is_first():
        results.gather([name for path, name in names.items() if path not in failed], failed)
        reasons = f", reasons in {results.folder}/{FAILURES}" if failed else ""
        finish(len(names), failed, f"segmented{said(before)}, results in {results.folder}{reasons}")


def segment_part(evaluator: Evaluator, dataset: Dataset, names: Names, results: Results, part: tuple[int, int]) -> None:
    """Segment the scans of a part."""
    number, count = part
    own = Dataset(dataset.data[number - 1 :: count], dataset.transform)
    before, failed = segment_share(evaluator, own, names, results)
    if is_first():
        finish(len(own), failed, f"of part {number}/{count} segmented{said(before)}, results in {results.folder}")


def segment_share(evaluator: Evaluator, dataset: Dataset, names: Names, results: Results) -> tuple[int, dict[str, str]]:
    """Segment this process's share of the scans, and wait for the others.

    Returns:
        How many scans were done before, and why others failed, by their paths, in the order of the scans; of all processes.
    """
    own = share(dataset.data)
    waiting = [item for item in own if not results.is_done(names[scan_name(item)], item)]
    failed: dict[str, str] = {}
    for item, outcome in predict_scans(evaluator, Dataset(waiting, dataset.transform)):
        path = scan_name(item)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            results.write(names[path], item, outcome)
        except Exception as error:
            failed[path] = failure(path, error)
        del outcome  # else two scans are in memory while the next one is computed
    everyones = merged(failed)
    ordered = {path: everyones[path] for path in map(scan_name, dataset.data) if path in everyones}
    return int(idist.all_reduce(len(own) - len(waiting))), ordered


def said(before: int) -> str:
    """Return what is said of scans that were done before."""
    return f", {before} of them before" if before else ""
