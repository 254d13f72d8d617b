"""Checks of files, tables and persons, without opening a scan."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from strokelesion.pipeline.cohorts.metadata import Row, Table, scan_names, scans_of
from strokelesion.pipeline.cohorts.records import find_without_row
from strokelesion.pipeline.cohorts.survey import WITHOUT_ROW, WITHOUT_SITES, Survey, find_without_sites
from strokelesion.pipeline.runtime.errors import Issue

# Labels that the authors or users of a release reported as wrong.
KNOWN_BAD_LABELS = {("R2.0", "sub-r009s003")}


def find_refused_files(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each file that `read_cohort` refuses."""
    return (Issue(file, fault.each, fault.advice) for fault in survey.faults for file in fault.files)


def find_known_bad_labels(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each label in `KNOWN_BAD_LABELS`."""
    for record in survey.records:
        if (record["release"], record["subject"]) in KNOWN_BAD_LABELS:
            advice = "Look at it; move the scan away, or draw the mask anew."
            yield Issue(record["main_mask"], "is known to be wrong", advice)


def find_repeated_rows(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each row that names the same scan as another; the record contains only the last row."""
    for layout, tables in survey.tables.items():
        rows = [(table, number, name) for table, number, row in _rows(tables) for name in _scans_of(row, survey, layout)]
        count = Counter(name for _, _, name in rows)
        for table, number, name in rows:
            if count[name] > 1:
                yield Issue(table.path, f"row {number} is one of {count[name]} that name {name}", "Keep one row a scan.")


def find_rows_without_files(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each row without a scan in the data set, in tables that are not refused as a whole."""
    refused = {file for fault in survey.faults for file in fault.files}
    for layout, tables in survey.tables.items():
        for table, number, row in _rows(tables):
            if not _scans_of(row, survey, layout) and table.path not in refused:
                what = f"row {number} names {', '.join(scan_names(row)) or 'no scan'}, and there are no such files"
                yield Issue(table.path, what, "Nothing, if they were left out; else correct the name, or the site is lost.")


def find_files_without_rows(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each scan without a row, if the tables of its release have rows of other scans."""
    return (Issue(image, "has no row in the tables of its release", WITHOUT_ROW) for image in find_without_row(survey.records))


def find_tables_without_sites(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each table that should have a column of sites and has none."""
    return (Issue(table, "has no column of sites", WITHOUT_SITES) for table in find_without_sites(survey))


def find_left_out_masks(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each mask beside a lesion mask whose name does not say that it shows the lesion on T1."""
    advice = "Nothing, if it is no lesion mask of this T1; else rename it, for example to sub-01_label-lesion_mask.nii.gz."
    what = "is left out: its name does not say that it shows the lesion on T1"
    return (Issue(mask, what, advice) for mask in survey.left_out)


def find_padded_names(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each table with spaces around names of scans, as in the column Session of ATLAS R1.1."""
    for table in (table for tables in survey.tables.values() for table in tables if table.padded):
        what = f"has spaces around {table.padded} names of sessions or subjects"
        yield Issue(table.path, what, "Nothing here, they are removed; other software may find no row.")


def find_persons_in_two_releases(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each scan of a person who is also in an earlier release, according to tables or names."""
    releases = defaultdict(list)
    for record in survey.records:
        releases[record["person"]].append(record["release"])
    for record in survey.records:
        first, *_ = of_person = releases[record["person"]]
        if record["release"] != first:
            what = f"shows {record['person']}, who is also in {', '.join(sorted({*of_person} - {record['release']}))}"
            yield Issue(record["image"], what, "Nothing here, splits keep a person's scans together; other software may not.")


def find_hidden_files(survey: Survey) -> Iterator[Issue]:
    """Yield an issue for each file or folder that is ignored because its name starts with a dot."""
    return (Issue(file, "is hidden, and not read", "Remove it, or give it a name without a dot.") for file in survey.hidden)


def _rows(tables: Iterable[Table]) -> Iterator[tuple[Table, int, Row]]:
    """Return the rows that are not empty, with their numbers in a spreadsheet, where the header is row 1."""
    return ((table, number, row) for table in tables for number, row in enumerate(table.rows, start=2) if row)


def _scans_of(row: Row, survey: Survey, layout: str) -> set[str]:
    return scans_of(row, survey.names.get(layout, {}))
