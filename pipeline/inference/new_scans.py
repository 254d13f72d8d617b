"""Segment new scans one by one: skip finished scans, continue after failures, and write the tables at the end.

A scan is done when its sidecar exists and holds the SHA-256 of the scan and the current settings.

Several processes may share the work in two ways. Processes of torch's launcher divide the scans, and the first process gathers
the tables. Independent runs can each segment one part or, without tables, some of the scans; a last run over all scans, or the
command `group`, writes the tables.

`measuring.py` decides which voxels are lesion, and `results.py` writes.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.data import Dataset
from monai.engines import Evaluator

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.provenance import earlier_names, require_own
from strokelesion.pipeline.derivatives.result_names import ScanName, name_scans
from strokelesion.pipeline.derivatives.table_columns import write_with_dictionary
from strokelesion.pipeline.finding.scans import Scans, common_folder, scan_name
from strokelesion.pipeline.inference.prediction import failure, finish, predict_scans
from strokelesion.pipeline.inference.results import Results
from strokelesion.pipeline.lesions.measuring import find_start
from strokelesion.pipeline.runtime.errors import format_issue
from strokelesion.pipeline.runtime.locks import claimed
from strokelesion.pipeline.runtime.processes import is_first, merged, share

logger = logging.getLogger(__name__)
Names = Mapping[str, ScanName]
# Table of all that was found, beside the results.
INPUTS = "inputs.tsv"
NO_RESULT = "it has no result with these settings; run `inference` first"
FIRST_BYTE = 2**31


def segment_new_scans(
    evaluator: Evaluator, dataset: Dataset, results: Results, part: tuple[int, int] | None = None, tables: bool = True
) -> None:
    """Segment the scans that are not done yet; write the results of each scan and the tables of all scans.

    Args:
        evaluator: Evaluator whose output holds `scan` `(1, X, Y, Z)`, class probabilities on its grid, `pred` `(3, X, Y, Z)`,
            and, if there is a brain mask, `scan_brain` `(1, X, Y, Z)`.
        dataset: Scans as `find_scans` lists them, with the transform that loads them.
        results: Data set that the results are written to.
        part: Number of the part to segment and count of all parts. Then only the scans of this part are segmented, and no
            tables are written. None segments all scans.
        tables: Whether to write tables and pages of all scans. If not, other runs may segment other scans to the same folder.

    Raises:
        UserError: when there is no scan, two scans have the same name, the folder holds a result of another scan under the
            name of one of these, or another run uses the folder, unless each run segments another part.
        SystemExit: with status 1 when any scan failed; the other scans are still segmented.
    """
    names = name_all(dataset, results)
    number, count = part or (1, 1)
    alone = part is None and tables
    own_byte = number if part else byte_of(names)
    with claimed(results.folder, "output_dir", None if alone else own_byte):
        with idist.one_rank_first():
            if is_first():
                begin(dataset, names, results, alone)
        own = Dataset(dataset.data[number - 1 :: count], dataset.transform)
        before, failed = segment_share(evaluator, own, names, results)
        if is_first():
            if alone:
                gather(names, results, failed)
            which = f"of part {number}/{count} " if part else ""
            reasons = f", reasons in {results.folder}/failures.tsv" if failed and alone else ""
            finish(len(own), failed, f"{which}segmented{said(before)}, results in {results.folder}{reasons}")


def describe_group(dataset: Dataset, results: Results) -> None:
    """Write the tables and pages of all scans from results that are there, as `segment_new_scans` does at its end, and maps.

    Raises:
        UserError: as `segment_new_scans`; and when no scan has a result with the current settings.
        SystemExit: with status 1 when a scan has no result with the current settings.
    """
    results = replace(results, wanted={**results.wanted, "group": True})
    names = name_all(dataset, results)
    with claimed(results.folder, "output_dir"):
        paths = map(scan_name, dataset.data)
        missing = {
            path: NO_RESULT for path, item in zip(paths, dataset.data, strict=True) if not results.is_done(names[path], item)
        }
        if len(missing) == len(names):
            raise UserError(
                f"{results.folder} has no result of these scans with these settings; expected some. Give the options that the "
                "scans were segmented with, or segment them first."
            )
        begin(dataset, names, results, alone=True)
        gather(names, results, missing)
        finish(len(names), missing, f"described, results in {results.folder}")


def name_all(dataset: Dataset, results: Results) -> Names:
    """Return the name of each scan by its path; raise UserError as `segment_new_scans` says."""
    items: Sequence[Mapping[str, Any]] = dataset.data
    if not items:
        raise UserError("got no scans; expected a file, a folder or a glob: --scans /data/new.")
    results.require_possible(items)
    names = dict(zip(map(scan_name, items), name_scans(items, common_folder(items)), strict=True))
    # The command `evaluating` has a folder of its own, and replaces the predictions in it.
    if isinstance(items, Scans) and not results.overwrite:
        require_own(Path(results.folder), {names[scan_name(item)]: item for item in items})
    return names


def byte_of(names: Names) -> int:
    """Return the byte of the lock file that stands for these scans; those of parts come before it."""
    return FIRST_BYTE + int(hashlib.sha256(os.fsencode(" ".join(sorted(names)))).hexdigest()[:7], 16)


def begin(dataset: Dataset, names: Names, results: Results, alone: bool) -> None:
    """Write what describes the folder; a run that is alone there also removes half-written files and lists its scans."""
    left_out = getattr(dataset.data, "left_out", ())
    logger.info("%s", list_inputs(names, left_out))
    results.describe(dataset.data)  # runs that share the folder write the same links, by which sources are named
    if alone:
        results.clear(list(names.values()))
        write_inputs(Path(results.folder), names, left_out)


def gather(names: Names, results: Results, failed: Mapping[str, str]) -> None:
    """Write the tables and pages of these scans, and of all others in the folder with the same settings."""
    done = [name for path, name in names.items() if path not in failed]
    results.gather([*done, *earlier_names(Path(results.folder), names.values())], failed)


def list_inputs(names: Names, left_out: Sequence[tuple[str, str]]) -> str:
    """Return the first scans that are taken, and the first files or folders that are left out with the reason."""
    taken = [f"{path} -> {name}" for path, name in names.items()]
    lists = {
        "scan is taken" if len(taken) == 1 else "scans are taken": taken,
        "file or folder is left out" if len(left_out) == 1 else "files or folders are left out": list(map(": ".join, left_out)),
    }
    return "".join(format_issue(what, files, "") for what, files in lists.items()) + f"The whole list is {INPUTS}."


def write_inputs(folder: Path, names: Names, left_out: Iterable[tuple[str, str]]) -> None:
    """Write the table of what was found: scans with the names of their results, and what is left out, with the reason."""
    taken = [{"path": path, "taken": "yes", "scan": str(name)} for path, name in names.items()]
    write_with_dictionary(folder, "inputs", [*taken, *({"path": path, "taken": "no", "reason": why} for path, why in left_out)])


def segment_share(evaluator: Evaluator, dataset: Dataset, names: Names, results: Results) -> tuple[int, dict[str, str]]:
    """Segment this process's share of the scans, and wait for the other processes.

    Returns:
        Number of scans that were done before, and reasons of failures by path in the order of the scans; over all processes.
    """
    own = share(dataset.data)
    waiting = [item for item in own if not results.is_done(names[scan_name(item)], item)]
    failed: dict[str, str] = {}
    beside = None if results.needed_register is None else find_start
    for item, outcome in predict_scans(evaluator, Dataset(waiting, dataset.transform), beside):
        path = scan_name(item)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            results.write(names[path], item, outcome)
        except Exception as error:
            failed[path] = failure(path, error)
        del outcome  # otherwise two scans are in memory while the next one is computed
    everyones = merged(failed)
    ordered = {path: everyones[path] for path in map(scan_name, dataset.data) if path in everyones}
    return int(idist.all_reduce(len(own) - len(waiting))), ordered


def said(before: int) -> str:
    """Return the text about scans that were done before; empty if there are none."""
    return f", {before} of them before" if before else ""
