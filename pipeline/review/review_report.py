"""Write the report of a review: scans by decision, volumes before and after, and which lesions were missed, by size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from strokelesion.pipeline.derivatives.result_names import ScanName
from strokelesion.pipeline.derivatives.scan_images import with_sidecar
from strokelesion.pipeline.derivatives.scan_pages import AGREEMENT_PICTURE, REVIEW_SIZES, REVIEW_STATUS
from strokelesion.pipeline.derivatives.table_columns import write_with_dictionary
from strokelesion.pipeline.lesions.lesion_sizes import SIZE_NAMES, bin_sizes
from strokelesion.pipeline.pictures import draw_agreement, encode_png
from strokelesion.pipeline.review.decisions import ACCEPTED, CORRECTED, PENDING, STATUSES, Decision, read_decisions
from strokelesion.pipeline.runtime.files import write_bytes

Records = Sequence[tuple[ScanName, Mapping[str, Any]]]


def write_review_report(folder: Path, records: Records) -> None:
    """Write tables and chart of a review; remove them if nothing was decided.

    Args:
        folder: Folder of the results.
        records: Names and sidecars of all scans, as `of_record` returns these.
    """
    decisions = read_decisions(folder)
    if not decisions:
        for file in (*with_sidecar(f"{REVIEW_STATUS}.tsv"), *with_sidecar(f"{REVIEW_SIZES}.tsv"), AGREEMENT_PICTURE):
            (folder / file).unlink(missing_ok=True)
        return
    scans = pd.DataFrame([volumes_row(sidecar, decisions.get(str(name), Decision()).status) for name, sidecar in records])
    is_decided = scans["status"].isin((ACCEPTED, CORRECTED))
    decided = [sidecar for (_, sidecar), taken in zip(records, is_decided, strict=True) if taken]
    write_with_dictionary(folder, REVIEW_STATUS, status_rows(scans))
    write_with_dictionary(folder, REVIEW_SIZES, size_rows(decided))
    shown = scans[is_decided].dropna()
    title = f"n = {len(shown)} accepted and corrected scans"
    figure = draw_agreement(shown["automatic_ml"], shown["record_ml"], ("automatic", "reviewed"), title)
    write_bytes(folder / AGREEMENT_PICTURE, encode_png(figure))


def volumes_row(sidecar: Mapping[str, Any], status: str = PENDING) -> dict[str, Any]:
    """Return decision and volumes of a scan; those of a scan that was not assessed are nan."""
    total_ml = sidecar["Tables"]["volumes"][0]["total_ml"]
    (change,) = sidecar["Tables"].get("corrections", [{"automatic_ml": total_ml, "changed_ml": 0.0}])
    amounts = {"automatic_ml": change["automatic_ml"], "record_ml": total_ml, "changed_ml": change["changed_ml"]}
    return {"status": status, **{name: np.nan if value is None else value for name, value in amounts.items()}}


def status_rows(scans: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each decision, see `volumes_row`: number of scans and their mean volumes."""
    groups = {status: scans[scans["status"] == status] for status in STATUSES}
    return [
        {"status": status, "scans": len(group), **group[["automatic_ml", "record_ml", "changed_ml"]].mean()}
        for status, group in groups.items()
    ]


def size_rows(sidecars: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each size class: lesions of the masks of record, those missed, and false automatic ones.

    In an accepted mask every lesion was found, and none is false.
    """
    found: dict[str, list[float]] = {"found_ml": [], "missed_ml": [], "false_ml": []}
    for sidecar in sidecars:
        accepted = {"found_ml": [lesion["volume_ml"] for lesion in sidecar["Tables"]["lesions"]]}
        for kind, volumes in sidecar.get("Lesions", accepted).items():
            found[kind] += volumes
    counts = {kind: bin_sizes(volumes).value_counts(sort=False).tolist() for kind, volumes in found.items()}
    rows = zip(SIZE_NAMES, counts["found_ml"], counts["missed_ml"], counts["false_ml"], strict=True)
    return [{"size_ml": size, "lesions": hits + misses, "missed": misses, "false": wrong} for size, hits, misses, wrong in rows]
