"""A split is by person, even over sites, local, and once written it rules: in each of the four ways."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import Record, link_persons
from strokelesion.pipeline.cohorts.split_files import COLUMNS
from strokelesion.pipeline.cohorts.splits import list_parts, scored_records, split_cohort

SITES = ["Site1", "c0003", "R039", "NA"]
LINKS = {"indi": "INDI Subject ID", "r12": "ATLAS 1.2 Subject ID"}
WAYS = ["3-fold", "leave-one-site-out", "0.3"]


def scan(subject, site, session="t01", release="R1.1", **links):
    """A scan; `indi` and `r12` are what R2.0's table says of the subject's names in the first releases."""
    record = Record(
        image="T1.nii", main_mask="mask.nii", subject=subject, person=subject, session=session, site=site, release=release
    )
    if links:
        record["metadata"] = {LINKS[name]: cell for name, cell in links.items()}
    return record


def cohort(subjects, site="Site1", first=0):
    """Subjects with zero-padded numbers; every third has two sessions."""
    names = [f"{31768 + first + i:06d}" for i in range(subjects)]
    return [scan(name, site, f"t{t:02d}") for name in names for t in range(1, 3 if int(name) % 3 == 0 else 2)]


def subjects_of(records):
    return {record["subject"] for record in records}


def names_of(records):
    """All names that anything says of the persons: who shares one is the same person."""
    rows = (record.get("metadata", {}) for record in records)
    cells = (cell for row in rows for column, cell in row.items() if column in LINKS.values())
    return subjects_of(records) | {f"{cell:06d}" if isinstance(cell, int) else str(cell) for cell in cells}


def write_list(folder, folds, name="list.csv"):
    """A list as people write it, with a column of their own."""
    pd.DataFrame({"note": "x", "subject": list(folds), "fold": list(folds.values())}).to_csv(folder / name, index=False)
    return str(folder / name)


def placed_in(path):
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return dict(zip(table["subject"], table["fold"], strict=True))


@st.composite
def linked_cohorts(draw):
    """R1.1, R2.0 and R3.0 side by side, with sessions, other sites later on, and names that several subjects share."""
    records = []
    for number in draw(st.sets(st.integers(0, 12), min_size=3)):
        sessions = draw(st.integers(1, 3))
        records += [scan(f"{31768 + number:06d}", f"Site{draw(st.integers(1, 4))}", f"t{t:02d}") for t in range(sessions)]
    for number in draw(st.sets(st.integers(0, 12))):
        # A few names for many subjects: chains come by themselves.
        links = draw(
            st.fixed_dictionaries(
                {}, optional={"indi": st.integers(31768, 31790), "r12": st.integers(1, 9).map(lambda n: f"c0003s{n:04d}")}
            )
        )
        site = f"R{draw(st.integers(1, 3)):03d}"
        releases = draw(st.sampled_from([["R2.0"], ["R3.0"], ["R2.0", "R3.0"]]))
        records += [scan(f"sub-{number:02d}", site, "ses-1", release, **links) for release in releases]
    return link_persons(records)


def splits_of(records, split, folds=None, **options):
    """The splits of these folds, or of all parts, but those that leave a side empty."""
    found = []
    for fold in list_parts(records, split) if folds is None else folds:
        try:
            found.append(split_cohort(records, split, fold, **options))
        except ValueError as error:
            if "is empty" not in str(error):
                raise
    return found


def assert_divides(split, records):
    assert not names_of(split.training) & names_of(split.held_out)
    assert sorted(map(str, split.training + split.held_out)) == sorted(map(str, records))


@settings(max_examples=60)
@given(linked_cohorts(), st.sampled_from(["2-fold", "3-fold", "leave-one-site-out", "0.3", "list"]), st.data())
def test_nobody_is_on_both_sides_in_whatever_release_session_or_chain_of_links(records, split, data):
    with TemporaryDirectory() as folder:
        if split == "list":
            persons = sorted({record["person"] for record in records})
            folds = {person: data.draw(st.sampled_from([0, 2, ""])) for person in persons[1:]} | {persons[0]: 0}
            split = write_list(Path(folder), {record["subject"]: folds[record["person"]] for record in records})
        enough = len({record["person"] for record in records}) >= 3
        for sides in splits_of(records, split) if enough else []:
            assert_divides(sides, records)


@settings(max_examples=40)
@given(linked_cohorts(), st.sampled_from(["2-fold", "leave-one-site-out", "0.3"]), st.data())
def test_nobody_is_on_both_sides_of_a_written_split_when_more_of_the_same_persons_come(records, split, data):
    known = data.draw(st.sets(st.sampled_from(sorted(subjects_of(records))), min_size=1))
    first = [record for record in records if record["subject"] in known]
    with TemporaryDirectory() as folder:
        written = Path(folder, "split.csv")
        if len({record["person"] for record in first}) < 2 or not splits_of(first, split, written=written):
            return
        before = placed_in(written)
        folds = [int(fold) for fold in set(before.values()) - {""}]
        for sides in splits_of(records, split, folds, written=written):
            assert_divides(sides, records)
        assert {subject: placed_in(written)[subject] for subject in before} == before


@given(linked_cohorts(), st.data())
def test_a_list_that_puts_a_person_on_two_sides_is_refused_and_any_other_divides(records, data):
    folds = {subject: data.draw(st.integers(0, 1)) for subject in sorted(subjects_of(records))}
    sides_of = {person: {folds[r["subject"]] for r in records if r["person"] == person} for person in names_of(records)}
    with TemporaryDirectory() as folder:
        split = write_list(Path(folder), folds)
        if any(len(sides) > 1 for sides in sides_of.values()):
            with pytest.raises(UserError, match="puts one person's subjects on two sides"):
                list_parts(records, split)
        else:
            for sides in splits_of(records, split):
                assert_divides(sides, records)


@pytest.fixture
def written(tmp_path):
    return tmp_path / "split.csv"


# The two smallest of `printf 0:031768 | sha256sum`; `printf 0:Site1 | sha256sum` ends in 0 mod 4. Of 12 persons a quarter is 3:
# two of the eight and one of the four; 0:031820 is the smallest of c0003.
@pytest.mark.parametrize(
    ("records", "split", "held_out"),
    [
        (cohort(8), "4-fold", {"031772", "031768"}),
        (cohort(8) + cohort(4, "c0003", first=50), "0.25", {"031772", "031768", "031820"}),
    ],
)
def test_the_split_is_known_and_does_not_depend_on_the_order_of_records(records, split, held_out):
    for order in (records, records[::-1]):
        assert subjects_of(split_cohort(order, split).held_out) == held_out


@pytest.mark.parametrize("names", [["NA", "Site10", "Site2"], ["1", "2", "3"]])
def test_leaving_a_site_out_by_its_name_or_its_number_holds_out_all_of_it_and_nothing_else(names):
    records = cohort(5, names[2]) + cohort(3, names[1], first=20) + cohort(4, names[0], first=40)
    assert list_parts(records, "leave-one-site-out") == names
    for number, name in enumerate(names):
        split = split_cohort(records, "leave-one-site-out", name)
        assert split.held_out == [record for record in records if record["site"] == name]
        # A number that is the name of a site means the name.
        assert str(number) in names or split_cohort(records, "leave-one-site-out", number) == split


def test_a_list_of_folds_is_followed_and_its_empty_folds_are_never_held_out(tmp_path):
    split = write_list(tmp_path, {"031771": 4, "031768": 1, "031770": None, "031769": 1})
    assert "1.0" in Path(split).read_text(), "as programs write whole numbers beside empty cells"
    assert list_parts(cohort(4), split) == [1, 4]
    assert subjects_of(split_cohort(cohort(4), split, 1).held_out) == {"031768", "031769"}
    with pytest.raises(UserError, match=r"fold is 2; allowed with split=.*list\.csv are 1, 4"):
        split_cohort(cohort(4), split, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_plain_list_of_subjects_holds_them_out(tmp_path, encoding):
    path = tmp_path / "held out.CSV"
    path.write_text("subject\n031769\n031768\n", encoding=encoding)
    assert list_parts(cohort(4), str(path)) == [0]
    assert subjects_of(split_cohort(cohort(4), str(path)).held_out) == {"031768", "031769"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("031768\n031769\n", r"no column subject: its first line is '031768'. Expected a header there"),
        ("subject;fold\n031768;0\n", r"its first line is 'subject;fold'"),
        ("", "cannot be read as a CSV table"),
        (None, "cannot be read as a CSV table"),
        ("subject\n", "holds nobody out"),
        ("subject,fold\n031768,\n031769,\n031770,\n", "holds nobody out"),
        ("subject\n031768\n031769\n031768\n", r"twice: 031768\. "),
        ("subject\n031768\n31769\n999999\n", "not in the cohort: 31769, 999999"),
        ("subject\n" + "\n".join(map(str, range(30))), "16, 17 and 20 more"),
        ("subject,fold\n031768,0\n", "lacks these subjects of the cohort: 031769, 031770"),
        ("subject,fold\n031768,0\n031769,one\n031770,-1\n", "no whole number: 031769, 031770"),
        ("subject,fold\n031768,0\n031769,0.5\n031770,1\n", "no whole number: 031769"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        split_cohort(cohort(3), str(path))
    assert str(path) in str(error.value)


def test_a_written_list_needs_no_list_any_more_but_refuses_a_changed_one_and_another_cohort(tmp_path, written):
    split = str(tmp_path / "list.csv")
    Path(split).write_text("subject\n031768\n")
    first = split_cohort(cohort(4), split, written=written)
    content = written.read_bytes()
    for other in (3, 5):
        with pytest.raises(UserError, match=r"written from the list .* for another cohort.*03177[12]"):
            split_cohort(cohort(other), split, written=written)
    Path(split).write_text("subject\n031768\n031770\n")
    with pytest.raises(UserError, match=r"list\.csv has changed since .*split\.csv was written"):
        scored_records(cohort(4), "held_out", split, 0, 0, written)
    Path(split).unlink()
    assert split_cohort(cohort(4), split, written=written) == first
    assert written.read_bytes() == content


@given(st.sampled_from(WAYS), st.data())
def test_a_written_split_never_moves_anybody_whatever_comes_or_goes(split, data):
    records = cohort(12, "A") + cohort(5, "c0003", first=50)
    with TemporaryDirectory() as folder:
        path = Path(folder, "split.csv")
        known = {}
        for step in range(3):
            staying = data.draw(st.lists(st.sampled_from(records), min_size=15, unique_by=lambda record: record["subject"]))
            coming = cohort(data.draw(st.integers(0, 6)), data.draw(st.sampled_from(SITES)), first=100 * (step + 1))
            held_out = subjects_of(split_cohort(staying + coming, split, 0, written=path).held_out)
            placed = placed_in(path)
            assert {subject: placed[subject] for subject in known} == known
            assert held_out == {s for s in subjects_of(staying + coming) if placed[s] == "0"}
            known = placed


@pytest.mark.parametrize("split", WAYS)
def test_a_split_is_written_once_read_back_and_can_be_the_list_of_another_run(tmp_path, split):
    records = cohort(7, "NA") + cohort(5, "c0003", first=50)
    path = tmp_path / "runs" / "split.csv"
    first = split_cohort(records, split, written=path)
    file = path.stat()
    assert split_cohort(records, split, written=path) == first == split_cohort(records, split)
    assert split_cohort(records, str(path), written=tmp_path / "other.csv") == first
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (file.st_ino, file.st_mtime_ns), "untouched"
    assert [file.name for file in path.parent.iterdir()] == ["split.csv"], "nothing is left beside"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(table.columns) == COLUMNS
    assert set(table["split"]) == {split}
    assert set(table["site"]) == {"NA", "c0003"}


def test_a_file_edited_by_hand_rules(written):
    split_cohort(cohort(6), "3-fold", written=written)
    table = pd.read_csv(written, dtype=str)
    table.assign(fold=["0"] * 3 + ["1", "2", ""]).to_csv(written, index=False)
    assert subjects_of(split_cohort(cohort(6), "3-fold", written=written).held_out) == set(table["subject"][:3])


def test_subjects_who_are_gone_stay_in_the_file_and_are_logged(written, caplog):
    split_cohort(cohort(20), "2-fold", written=written)
    content = written.read_bytes()
    with caplog.at_level(logging.WARNING):
        split_cohort(cohort(18), "2-fold", written=written)
    assert written.read_bytes() == content
    assert "2 subjects" in caplog.text
    assert "031787" in caplog.text


def test_a_link_that_came_later_and_joins_both_sides_is_refused_by_name(written):
    records = [*cohort(4), scan("sub-1", "R001", release="R2.0")]
    held_out = split_cohort(records, "2-fold", written=written).held_out
    other = next(s for s in subjects_of(records[:-1]) if (s in subjects_of(held_out)) != ("sub-1" in subjects_of(held_out)))
    linked = link_persons([*cohort(4), scan("sub-1", "R001", release="R2.0", indi=int(other))])
    for request in (
        lambda: split_cohort(linked, "2-fold", written=written),
        lambda: scored_records(linked, "held_out", "2-fold", 0, 0, written),
    ):
        with pytest.raises(UserError, match=rf"on two sides, 2 subjects in all: {other} .*sub-1 \(person {other}\)"):
            request()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 5}, "fold is 5; allowed with split=5-fold are 0, 1, 2, 3, 4"),
        ({"fold": -1}, "fold is -1; allowed"),
        ({"fold": "Site1"}, "fold is 'Site1'; allowed with split=5-fold are 0"),
        ({"split": "8-fold"}, "7 persons; expected at least 8"),
        ({"split": "1-fold"}, "split is '1-fold'; allowed are 5-fold .*leave-one-site-out.*0.2.*FILE.csv"),
        ({"split": "0.2", "fold": 1}, "fold is 1; allowed with split=0.2 are 0"),
        ({"split": "0.01"}, "The held-out side of fold 0 is empty with split=0.01"),
        ({"split": "leave-one-site-out"}, "The training side of fold 0 is empty"),
        ({"split": "leave-one-site-out", "fold": "Site2"}, "fold is 'Site2'; allowed with split=leave-one-site-out are Site1"),
        ({"split": "leave-one-site-out", "fold": 1}, "fold is 1; allowed .* Site1"),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_with_what_can(options, message):
    with pytest.raises(UserError, match=message):
        split_cohort(cohort(7), **options)


HEADER = ",".join(COLUMNS) + "\n"
FIRST = HEADER + "031768,031768,Site1,0,{split},0\n"


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("2-fold", "", "cannot be read as a CSV table"),
        ("2-fold", "subject,fold\n1,0\n", "not a split file"),
        ("2-fold", HEADER, "not a split file"),
        ("2-fold", HEADER + "a,a,Site1,zero,2-fold,0\n", "no whole number: a"),
        ("2-fold", FIRST.replace("{split}", "3-fold"), "written with split=3-fold, but split=2-fold"),
        ("leave-one-site-out", FIRST.replace("{split}", "3-fold"), "written with split=3-fold"),
        ("2-fold", FIRST.replace(",0\n", ",7\n"), "written with seed=7"),
        ("2-fold", FIRST + "031768,031768,Site1,1,{split},0\n", "twice: 031768"),
        ("2-fold", FIRST + "031999,031999,Site1,2,{split},0\n", r"puts \['031999'\] in folds that split=2-fold does not have"),
        ("leave-one-site-out", FIRST + "031999,031999,Site1,1,{split},0\n", r"puts \['031768'\] in folds"),
        ("0.2", FIRST + "031999,031999,Site1,1,{split},0\n", r"puts \['031999'\] in folds"),
    ],
)
def test_a_file_that_is_no_split_or_another_one_is_refused_and_left_alone(written, split, content, message):
    content = content.replace("{split}", split)
    written.write_text(content)
    with pytest.raises(UserError, match=rf"split\.csv .*{message}"):
        split_cohort(cohort(4), split, written=written)
    assert written.read_text() == content


@pytest.mark.parametrize(("fold", "side"), [(0, "training"), (1, "held-out")])
def test_an_empty_side_is_refused_and_the_file_left_alone(written, fold, side):
    content = HEADER + "".join(f"{subject},{subject},Site1,0,2-fold,0\n" for subject in sorted(subjects_of(cohort(4))))
    written.write_text(content)
    with pytest.raises(UserError, match=f"The {side} side of fold {fold} is empty"):
        split_cohort(cohort(4), "2-fold", fold, written=written)
    assert written.read_text() == content


@pytest.mark.parametrize("split", WAYS)
def test_scored_records_are_those_a_written_split_holds_out_and_nothing_is_written(tmp_path, written, split):
    records = cohort(10) + cohort(4, "c0003", first=50)
    held_out = split_cohort(records, split, written=written).held_out
    before = written.read_bytes()
    stranger = scan("stranger", "elsewhere")
    options = {"split": split, "fold": 0, "seed": 0, "written": written}
    assert scored_records([*records, stranger], "held_out", **options) == held_out
    assert scored_records([*records, stranger], "all", **options) == [*records, stranger]
    assert written.read_bytes() == before
    with pytest.raises(UserError, match=r"holds out none of these 1 scans.*--scored all"):
        scored_records([stranger], "held_out", **options)
    with pytest.raises(UserError, match="no split at"):
        scored_records(records, "held_out", **{**options, "written": tmp_path / "none.csv"})
