"""Gather the results of all scans: tables, the page of all scans, and what else has one file for all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strokelesion.pipeline.derivatives.outputs import OUTPUTS
from strokelesion.pipeline.derivatives.scan_pages import DoneScan
from strokelesion.pipeline.derivatives.table_columns import rows_of, write_with_dictionary


def gather_results(folder: Path, wanted: Mapping[str, Any], done: Sequence[DoneScan], failed: Mapping[str, str]) -> None:
    """Write the shared files of all wanted outputs, and the table of failures; remove those of outputs that are not wanted.

    Args:
        folder: Folder of the results.
        wanted: Outputs that are wanted, as `find_wanted` returns them.
        done: Names and sidecars of the scans that are done with the current settings, in the order of the tables.
        failed: Reasons of failures by path of the scan.
    """
    for output in OUTPUTS:
        if output.name not in wanted:
            for path in output.shared_paths(folder):
                path.unlink(missing_ok=True)
            continue
        for table in output.tables:
            write_with_dictionary(folder, table, rows_of(table, done))
        if output.gather is not None:
            output.gather(folder, done, failed, wanted[output.name])
    write_with_dictionary(folder, "failures", [{"scan": scan, "reason": reason} for scan, reason in failed.items()])
