"""Tables as people and spreadsheets write them: encodings, separators, spellings of subjects, names of the column of sites."""

import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.metadata import Table, read_table, rows_by_scan, simplify, site_of, spellings

ROWS = [["participant_id", "site", "age"], ["sub-01", "Köln", "51"], ["sub-02", "Zürich, Süd", "52"]]


def of(*rows):
    return Table("", list(rows))


def table(separator, ending="\r\n"):
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in ROWS]
    return ending.join(map(separator.join, quoted)) + ending


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("separator", ["\t", ";", ","])
@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_each_encoding_and_separator_gives_the_same_rows(tmp_path, encoding, separator, suffix):
    path = tmp_path / f"participants{suffix}"
    path.write_bytes(table(separator).encode(encoding))
    assert read_table(str(path)).rows == [
        {"participant_id": "sub-01", "site": "Köln", "age": 51},
        {"participant_id": "sub-02", "site": "Zürich, Süd", "age": 52},
    ]


def test_old_line_ends_and_spaces_around_names_of_columns_are_read(tmp_path):
    (tmp_path / "participants.tsv").write_text(table("\t", "\r").replace("site", " site "), newline="")
    assert [row["site"] for row in read_table(str(tmp_path / "participants.tsv")).rows] == ["Köln", "Zürich, Süd"]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3\n4,5,6,7\n"])
def test_no_table_is_refused_with_the_reason(tmp_path, content):
    (tmp_path / "participants.csv").write_bytes(content)
    with pytest.raises(UserError, match="Error"):
        read_table(str(tmp_path / "participants.csv"))


@pytest.mark.parametrize("column", ["participant_id", "Subject", "ID", "Participant ID", "sub"])
@pytest.mark.parametrize("cell", ["sub-01", "SUB-01", "sub_01", "sub01", "01", "1", 1])
def test_a_subject_is_found_in_each_spelling(column, cell):
    assert simplify(str(cell)) == "1"
    assert spellings({"sub-01", "sub-10"}).keys() == {"sub-01", "sub-10", "~1", "~10"}
    assert rows_by_scan([of({column: cell})], spellings({"sub-01", "sub-10"})) == {"sub-01": {column: cell}}


def test_a_spelling_of_two_subjects_names_none_and_an_exact_name_its_own():
    names = spellings({"sub-01", "sub-001"})
    assert rows_by_scan([of({"participant_id": 1})], names) == {}
    assert rows_by_scan([of({"participant_id": "sub-001"})], names).keys() == {"sub-001"}


def test_a_number_of_a_site_names_no_subject():
    assert rows_by_scan([of({"site_id": 1, "family_id": "01"})], spellings({"sub-01"})) == {}


@pytest.mark.parametrize("column", ["site", "Site", "SITE", "site_id", "Site ID", "center", "Centre", "Study Site"])
def test_a_site_is_found_in_each_column_of_sites(column):
    assert site_of({"participant_id": "sub-01", column: 3}) == "3"


def test_of_several_columns_the_site_wins_and_without_any_there_is_none():
    assert site_of({"center": "b", "Site": "a"}) == "a"
    assert site_of({"participant_id": "sub-01", "age": 3}) == ""
