"""Checks of files, tables and persons, without opening a scan."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from strokelesion.pipeline.cohorts.layouts import Survey
from strokelesion.pipeline.cohorts.metadata import Row, Table, scan_names
from strokelesion.pipeline.doctor.complaint import Complaint

# Labels that the authors or users of a release reported as wrong.
KNOWN_BAD_LABELS = {("R2.0", "sub-r009s003")}


def incomplete(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each file that `read_cohort` refuses."""
    return (Complaint(file, fault.each, fault.advice) for fault in survey.faults for file in fault.files)


def known_bad(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each label in `KNOWN_BAD_LABELS`."""
    for record in survey.records:
        if (record["release"], record["subject"]) in KNOWN_BAD_LABELS:
            yield Complaint(
                record["main_mask"], "is known to be wrong", "Look at it; move the scan away, or draw the mask anew."
            )


def rows_twice(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each row that names the same scan as another; the record contains only the last row."""
    for layout, tables in survey.tables.items():
        rows = [(table, number, name) for table, number, row in _rows(tables) for name in _scans_of(row, survey, layout)]
        count = Counter(name for _, _, name in rows)
        for table, number, name in rows:
            if count[name] > 1:
                yield Complaint(table.path, f"row {number} is one of {count[name]} that name {name}", "Keep one row a scan.")


def rows_without_files(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each row without a scan in the data set."""
    for layout, tables in survey.tables.items():
        for table, number, row in _rows(tables):
            if not _scans_of(row, survey, layout):
                names = ", ".join(scan_names(row)) or "no scan"
                yield Complaint(
                    table.path, f"row {number} names {names}, and there are no such files", "Nothing, if they were left out."
                )


def files_without_rows(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each scan without a row, if the tables of its release have rows of other scans."""
    listed = {record["release"] for record in survey.records if "metadata" in record}
    for record in survey.records:
        if record["release"] in listed and "metadata" not in record:
            yield Complaint(record["image"], "has no row in the tables of its release", "Add one, if its site or side matters.")


def padded_names(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each table with spaces around names of scans, as in the column Session of ATLAS R1.1."""
    for table in (table for tables in survey.tables.values() for table in tables):
        if table.padded:
            what = f"has spaces around {table.padded} names of sessions or subjects"
            yield Complaint(table.path, what, "Nothing here, they are taken off; other software may find no row.")


def persons_twice(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each scan of a person who is also in an earlier release, according to tables or names."""
    releases = defaultdict(list)
    for record in survey.records:
        releases[record["person"]].append(record["release"])
    for record in survey.records:
        others = sorted({*releases[record["person"]]} - {record["release"]})
        if others and record["release"] != releases[record["person"]][0]:
            what = f"shows {record['person']}, who is also in {', '.join(others)}"
            yield Complaint(
                record["image"], what, "Nothing here, splits keep a person's scans together; other software may not."
            )


def hidden_files(survey: Survey) -> Iterator[Complaint]:
    """Yield an issue for each file or folder that is ignored because its name starts with a dot."""
    return (Complaint(file, "is hidden, and not read", "Remove it, or give it a name without a dot.") for file in survey.hidden)


def _rows(tables: Iterable[Table]) -> Iterator[tuple[Table, int, Row]]:
    """Return the rows that are not empty, with their numbers in a spreadsheet, where the header is row 1."""
    return ((table, number, row) for table in tables for number, row in enumerate(table.rows, start=2) if row)


def _scans_of(row: Row, survey: Survey, layout: str) -> set[str]:
    return set(scan_names(row)) & survey.names.get(layout, set())
