"""Define the columns of all tables once: names, JSON dictionaries beside the tables, and the rows of docs/outputs.md."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from strokelesion.pipeline.runtime.files import write_json, write_tsv


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        text: Meaning of the values.
        units: Units of the values; "" if they have none.
        levels: Meaning of each value, if there are only a few.
        is_count: Whether the values are whole numbers.
    """

    text: str
    units: str = ""
    levels: Mapping[str, str] = field(default_factory=dict)
    is_count: bool = False

    @property
    def entry(self) -> dict[str, Any]:
        """Return the column's entry in a BIDS dictionary."""
        parts = {"Description": self.text, "Units": self.units, "Levels": dict(self.levels)}
        return {key: value for key, value in parts.items() if value}


@dataclass(frozen=True)
class Table:
    """One table of a results folder: the meaning of a row, what a user does with it, and its columns by name."""

    text: str
    use: str
    columns: Mapping[str, Column]


_MNI = "in MNI152NLin2009aSym"
# Columns that identify a scan.
NAMED_BY = {
    "subject": Column("subject, without `sub-`"),
    "session": Column("session, without `ses-`"),
    "scan": Column("name of the scan: the start of the names of its files"),
}
TABLES = {
    "volumes": Table(
        "one row for each scan",
        "use volumes in statistics; read `warnings`",
        {
            **NAMED_BY,
            "lesions": Column("number of lesions: 26-connected components", is_count=True),
            "total_ml": Column("volume of all lesions, in the scan's own space", "mL"),
            "main_ml": Column("volume of the lesions of the class main", "mL"),
            "sub_ml": Column("volume of the lesions of the class sub", "mL"),
            "left_ml": Column("volume on the left of the middle plane of MNI space", "mL"),
            "right_ml": Column("volume on the right of the middle plane of MNI space", "mL"),
            "brain_ml": Column("volume of the brain, lesions included, before its surface is refined", "mL"),
            "mask": Column(
                "mask that the numbers are of",
                levels={"automatic": "that of the network", "manual": "one that a person corrected, see `corrections.tsv`"},
            ),
            "uncertainty": Column(
                "0 to 1, look first at the highest: 1 - expected Dice; without lesion, the highest probability"
            ),
            "warnings": Column("what is doubtful; `not assessed` if the scan may be no T1 of a whole brain"),
        },
    ),
    "lesions": Table(
        "one row for each lesion, the largest first",
        "use positions and sides",
        {
            **NAMED_BY,
            "lesion": Column("number of the lesion", is_count=True),
            "class": Column(
                "class of the whole lesion",
                levels={"main": "main lesion: label 1 of the dseg file", "sub": "sub-lesion: label 2 of the dseg file"},
            ),
            "volume_ml": Column("volume, in the scan's own space", "mL"),
            "brain_percent": Column("volume as a share of `brain_ml`", "%"),
            "mean_probability": Column("mean probability of lesion over the lesion"),
            "hemisphere": Column(
                "side of the centroid; `n/a`, like all x, if the scan does not say which side is left",
                levels={"left": "left of the middle plane of MNI space", "right": "right of it"},
            ),
            **{f"centroid_{axis}_mm": Column(f"{axis} of the centroid {_MNI}", "mm") for axis in "xyz"},
            **{f"peak_{axis}_mm": Column(f"{axis} of the most probable voxel {_MNI}", "mm") for axis in "xyz"},
            "gray_percent": Column("share of the lesion in the template's gray matter", "%"),
            "white_percent": Column("share of the lesion in the template's white matter", "%"),
        },
    ),
    "regions": Table(
        "one row for each scan and region of the atlas that contains lesion",
        "use lesion loads",
        {
            **NAMED_BY,
            "region": Column("name of the region"),
            "volume_ml": Column("volume of lesion in the region, in the scan's own space", "mL"),
            "region_percent": Column("share of the region that is lesion, in MNI space", "%"),
        },
    ),
    "rois": Table(
        "one row for each scan and ROI; probabilities count as shares of voxels",
        "use lesion loads of tracts",
        {
            **NAMED_BY,
            "roi": Column("name of the ROI's file"),
            "roi_ml": Column("volume of the ROI, in MNI space", "mL"),
            "volume_ml": Column("volume of lesion in the ROI, in the scan's own space", "mL"),
            "roi_percent": Column("share of the ROI that is lesion, in MNI space", "%"),
        },
    ),
    "corrections": Table(
        "one row for each scan with a manual mask, written by `measure`",
        "report how much was changed",
        {
            **NAMED_BY,
            "automatic_ml": Column("volume of the automatic mask", "mL"),
            "manual_ml": Column("volume of the manual mask", "mL"),
            "added_ml": Column("volume that was added", "mL"),
            "removed_ml": Column("volume that was removed", "mL"),
            "changed_ml": Column("sum of both", "mL"),
            "dice": Column("Dice of the two masks; `n/a` if both are empty"),
            "missed": Column("number of lesions of the manual mask without any automatic voxel", is_count=True),
            "false": Column("number of lesions of the automatic mask without any manual voxel", is_count=True),
            "initials": Column("initials of the person who drew the mask"),
            "date": Column("date and time at which it was drawn"),
        },
    ),
    "review_status": Table(
        "scans by decision, with mean volumes, written by `measure`",
        "report a review",
        {
            "status": Column("decision, as in `review.tsv`"),
            "scans": Column("number of scans", is_count=True),
            "automatic_ml": Column("mean volume of the automatic masks", "mL"),
            "record_ml": Column("mean volume of the masks of record: manual if there is one, else automatic", "mL"),
            "changed_ml": Column("mean volume that was added or removed", "mL"),
        },
    ),
    "review_sizes": Table(
        "lesions of accepted and corrected scans by size, written by `measure`",
        "see which lesions are missed",
        {
            "size_ml": Column("volumes of the lesions", "mL"),
            "lesions": Column("number of lesions in the masks of record", is_count=True),
            "missed": Column("those without any automatic voxel", is_count=True),
            "false": Column("number of automatic lesions without any voxel in the mask of record", is_count=True),
        },
    ),
    "group_sides": Table(
        "scans and lesion volumes by side",
        "report the group",
        {
            "side": Column(
                "side of the lesions of a scan",
                levels={
                    "left": "on the left of the middle plane of MNI space, the right has less than 5 % of the volume",
                    "right": "on the right, the left has less than 5 % of the volume",
                    "bilateral": "each side has at least 5 % of the volume",
                    "none": "no lesion",
                    "unknown": "not registered, not assessed, or the scan does not say which side is left",
                },
            ),
            "scans": Column("number of scans", is_count=True),
            "mean_ml": Column("mean lesion volume of these scans", "mL"),
            "median_ml": Column("median lesion volume of these scans", "mL"),
        },
    ),
    "failures": Table(
        "scans that failed, and why",
        "repair them, run the command again",
        {"scan": Column("path of the scan"), "reason": Column("why it failed")},
    ),
    "review": Table(
        "what reviewers decided about each scan, written by `review`",
        "use only accepted and corrected scans; a scan without a row is pending",
        {
            "scan": NAMED_BY["scan"],
            "status": Column(
                "decision about the mask",
                levels={
                    "pending": "not decided",
                    "accepted": "the automatic mask is right",
                    "corrected": "the manual mask is right",
                    "rejected": "not to be used",
                },
            ),
            "initials": Column("initials of the reviewer"),
            "date": Column("date and time of the decision"),
            "note": Column("note of the reviewer"),
            "mask_sha256": Column("SHA-256 of the mask file that the decision is about"),
        },
    ),
    "inputs": Table(
        "what was taken, what was not, and why",
        "check that no scan is missing",
        {
            "path": Column("file or folder that was found"),
            "taken": Column("whether it was segmented", levels={"yes": "it is a scan", "no": "it was left out"}),
            "scan": Column("name of the scan's results"),
            "reason": Column("why it was left out"),
        },
    ),
}


def rows_of(table: str, done: Iterable[tuple[Any, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows of a table from the sidecars of all scans, with the columns that identify the scan.

    Args:
        table: Key of `TABLES`.
        done: Names and sidecars of the scans.
    """
    return [
        {"subject": name.subject, "session": name.session or None, "scan": str(name), **row}
        for name, sidecar in done
        for row in sidecar["Tables"].get(table, [])
    ]


def write_with_dictionary(folder: str | Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as `<name>.tsv` and its columns as `<name>.json`, as BIDS requires.

    Args:
        folder: Folder of the table.
        name: Key of `TABLES`.
        rows: Values by column; unknown ones may be missing.
    """
    columns = TABLES[name].columns
    # Whole numbers beside n/a would get decimals.
    whole = {column: "Int64" for column, of_column in columns.items() if of_column.is_count}
    table = pd.DataFrame([[row.get(column) for column in columns] for row in rows], columns=list(columns)).astype(whole)
    write_tsv(Path(folder) / f"{name}.tsv", table)
    write_json(Path(folder) / f"{name}.json", {column: of_column.entry for column, of_column in columns.items()})
