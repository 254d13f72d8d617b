"""A split is by person, even over sites, local, and once written it rules."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strokelesion.pipeline.datalist import Record, read_cohort
from strokelesion.pipeline.splits import COLUMNS, assign_folds, scored_records, split_cohort

SITES = ["Site1", "c0003", "R039", "NA"]


def scan(subject: str, site: str, session: str = "t01") -> Record:
    return Record(image="T1.nii", main_mask="mask.nii", subject=subject, session=session, site=site, release="R1.1")


def cohort(subjects: int, site: str = "Site1", first: int = 0) -> list[Record]:
    """Subjects with zero-padded numbers; every third has two sessions."""
    names = [f"{31768 + first + i:06d}" for i in range(subjects)]
    return [scan(name, site, f"t{t:02d}") for name in names for t in range(1, 3 if int(name) % 3 == 0 else 2)]


def subjects_of(records: list[Record]) -> set[str]:
    return {record["subject"] for record in records}


def sites_of(sites: list[str], prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{i:06d}": site for i, site in enumerate(sites)}


cohorts = st.lists(st.sampled_from(SITES), min_size=1, max_size=60).map(sites_of)
newcomers = st.lists(st.sampled_from([*SITES, "new"]), max_size=30).map(lambda sites: sites_of(sites, "new"))
folds_and_seed = st.tuples(st.integers(2, 7), st.integers(0, 99))


def sizes(placed: dict[str, int], sites: dict[str, str], folds: int) -> dict[str, list[int]]:
    counts = Counter((sites[subject], fold) for subject, fold in placed.items())
    return {site: [counts[site, fold] for fold in range(folds)] for site in set(sites.values())}


@given(cohorts, folds_and_seed)
def test_every_fold_has_its_share_of_every_site_within_one_subject(sites: dict[str, str], folds_seed: tuple[int, int]) -> None:
    placed = assign_folds(sites, *folds_seed)
    assert placed.keys() == sites.keys()
    for counts in sizes(placed, sites, folds_seed[0]).values():
        assert max(counts) - min(counts) <= 1


@given(cohorts, newcomers, folds_and_seed)
def test_a_new_site_moves_nobody(sites: dict[str, str], others: dict[str, str], folds_seed: tuple[int, int]) -> None:
    elsewhere = {subject: f"{site} of others" for subject, site in others.items()}
    assert sites.keys() <= (sites | elsewhere).keys()
    before, after = (assign_folds(all_sites, *folds_seed) for all_sites in (sites, sites | elsewhere))
    assert {subject: after[subject] for subject in before} == before


@given(cohorts, newcomers, folds_and_seed)
def test_listed_subjects_stay_and_newcomers_keep_the_folds_even(
    sites: dict[str, str], others: dict[str, str], folds_seed: tuple[int, int]
) -> None:
    before = assign_folds(sites, *folds_seed)
    listed = {subject: (sites[subject], fold) for subject, fold in before.items()}
    after = assign_folds(others, *folds_seed, listed=listed)
    assert list(after)[: len(before)] == list(before), "listed subjects come first: the file only grows"
    assert {subject: after[subject] for subject in before} == before
    for counts in sizes(after, sites | others, folds_seed[0]).values():
        assert max(counts) - min(counts) <= 1


@given(st.integers(2, 80), folds_and_seed)
def test_one_more_subject_at_a_site_moves_at_most_one_at_each_edge_of_a_fold(count: int, folds_seed: tuple[int, int]) -> None:
    sites = sites_of(["Site1"] * count)
    before, after = assign_folds(sites, *folds_seed), assign_folds({**sites, "new": "Site1"}, *folds_seed)
    assert sum(after[subject] != before[subject] for subject in before) < folds_seed[0]


@given(st.data())
def test_a_written_split_never_moves_anybody_whatever_comes_or_goes(data: st.DataObject) -> None:
    records = cohort(12) + cohort(5, "c0003", first=50)
    with TemporaryDirectory() as folder:
        path = Path(folder, "split.csv")
        known: dict[str, int] = {}
        for step in range(3):
            staying = data.draw(st.lists(st.sampled_from(records), min_size=15, unique_by=lambda record: record["subject"]))
            coming = cohort(data.draw(st.integers(0, 6)), data.draw(st.sampled_from(SITES)), first=100 * (step + 1))
            held_out = subjects_of(split_cohort(staying + coming, folds=3, fold=1, written=path).held_out)
            table = pd.read_csv(path, dtype={"subject": str})
            placed = dict(zip(table["subject"], table["fold"], strict=True))
            assert {subject: placed[subject] for subject in known} == known
            assert held_out == {s for s in subjects_of(staying + coming) if placed[s] == 1}
            known = placed


@pytest.mark.parametrize("fold", range(5))
def test_nobody_is_on_both_sides_and_every_scan_is_on_one(fold: int) -> None:
    records = cohort(31) + cohort(9, "c0003", first=60)
    split = split_cohort(records, fold=fold)
    assert not subjects_of(split.training) & subjects_of(split.held_out)
    assert sorted(map(str, split.training + split.held_out)) == sorted(map(str, records))


def test_every_subject_is_held_out_exactly_once() -> None:
    records = cohort(23)
    held_out = [subject for fold in range(4) for subject in subjects_of(split_cohort(records, 4, fold).held_out)]
    assert sorted(held_out) == sorted(subjects_of(records))


def test_a_subject_scanned_at_two_sites_stays_one_person() -> None:
    records = [*cohort(9), *(scan(f"{31768 + i:06d}", "c0003", "t09") for i in range(9))]
    split = split_cohort(records, folds=3)
    assert not subjects_of(split.training) & subjects_of(split.held_out)


def test_the_split_is_known_and_does_not_depend_on_the_order_of_records() -> None:
    records = cohort(8)
    # The order of `printf 0:031772 | sha256sum`; `printf 0:Site1 | sha256sum` ends in 0 mod 4.
    order = ["031772", "031768", "031769", "031775", "031771", "031773", "031770", "031774"]
    assert list(assign_folds(dict.fromkeys(order, "Site1"), folds=4).items()) == [
        (subject, rank // 2) for rank, subject in enumerate(order)
    ]
    assert subjects_of(split_cohort(records[::-1], 4).held_out) == subjects_of(split_cohort(records, 4).held_out)


def test_seeds_and_site_names_spread_small_sites_over_the_folds() -> None:
    lonely = {f"sub-{i}": f"site {i}" for i in range(40)}
    assert set(assign_folds(lonely, folds=5).values()) == set(range(5))
    assert assign_folds(lonely, folds=5, seed=1) != assign_folds(lonely, folds=5)


def test_a_split_of_a_miniature_release_is_written_and_read_back(release_dir: Callable[..., Path], tmp_path: Path) -> None:
    records = read_cohort(release_dir("R1.1", subjects=6))
    path = tmp_path / "runs" / "split.csv"
    first = split_cohort(records, folds=2, written=path)
    file = path.stat()
    assert split_cohort(records, folds=2, written=path) == first == split_cohort(records, folds=2)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (file.st_ino, file.st_mtime_ns), "untouched"
    assert [file.name for file in path.parent.iterdir()] == ["split.csv"], "nothing is left beside"
    assert list(pd.read_csv(path).columns) == COLUMNS


def test_newcomers_of_even_sites_spread_over_the_folds() -> None:
    listed = {f"sub-{site}{fold}": (f"site {site}", fold) for site in range(40) for fold in range(5)}
    newcomers = {f"new-{site}": f"site {site}" for site in range(40)}
    placed = assign_folds(newcomers, folds=5, listed=listed)
    assert {placed[subject] for subject in newcomers} == set(range(5))


def test_a_site_named_na_is_a_site_like_any_other_when_read_back(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    for subjects in (3, 4, 7, 12):
        split_cohort(cohort(subjects, "NA"), folds=3, written=path)
        table = pd.read_csv(path, keep_default_na=False)
        assert set(table["site"]) == {"NA"}
        assert table["fold"].value_counts().max() - table["fold"].value_counts().min() <= 1


def test_a_file_edited_by_hand_rules(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    split_cohort(cohort(6), folds=3, written=path)
    table = pd.read_csv(path, dtype=str)
    chosen = set(table["subject"][:4])
    table["fold"] = ["0"] * 4 + ["1", "2"]
    table.to_csv(path, index=False)
    assert subjects_of(split_cohort(cohort(6), folds=3, written=path).held_out) == chosen


def test_subjects_who_are_gone_stay_in_the_file_and_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "split.csv"
    split_cohort(cohort(20), folds=2, written=path)
    content = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        split_cohort(cohort(18), folds=2, written=path)
    assert path.read_bytes() == content
    assert "2 subjects" in caplog.text
    assert "031787" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 5}, "fold is 5; expected 0 to 4"),
        ({"fold": -1}, "fold is -1; expected 0 to 4"),
        ({"folds": 1}, "folds is 1; expected 2 or more"),
        ({"folds": 8}, "7 subjects; expected at least folds=8"),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_with_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_cohort(cohort(7), **options)


@pytest.mark.parametrize(("fold", "side"), [(0, "training"), (1, "held-out")])
def test_an_empty_side_is_refused_and_the_file_left_alone(tmp_path: Path, fold: int, side: str) -> None:
    path = tmp_path / "split.csv"
    rows = [(subject, "Site1", 0, 2, 0) for subject in sorted(subjects_of(cohort(4)))]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=f"The {side} side of fold {fold} is empty"):
        split_cohort(cohort(4), folds=2, fold=fold, written=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    ["", "subject,fold\n1,0\n", ",".join(COLUMNS) + "\n", ",".join(COLUMNS) + "\na,Site1,zero,2,0\n"],
    ids=["empty", "other columns", "no rows", "no numbers"],
)
def test_a_file_that_is_no_split_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"split\.csv is not a split file"):
        split_cohort(cohort(4), folds=2, written=path)
    assert path.read_text() == content


@pytest.mark.parametrize(("folds", "seed", "message"), [(4, 0, "written with folds=3"), (3, 7, "written with seed=0")])
def test_other_folds_or_seeds_than_the_file_are_refused(tmp_path: Path, folds: int, seed: int, message: str) -> None:
    path = tmp_path / "split.csv"
    split_cohort(cohort(9), folds=3, written=path)
    with pytest.raises(ValueError, match=message):
        split_cohort(cohort(9), folds=folds, seed=seed, written=path)


@pytest.mark.parametrize("row", ["031768,Site1,1,2,0", "031999,Site1,2,2,0"], ids=["twice", "outside"])
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, row: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text(f"{','.join(COLUMNS)}\n031768,Site1,0,2,0\n{row}\n")
    with pytest.raises(ValueError, match=row.split(",", maxsplit=1)[0]):
        split_cohort(cohort(4), folds=2, written=path)


def test_scored_records_are_those_a_written_split_holds_out_and_nothing_is_written(tmp_path):
    written = tmp_path / "split.csv"
    records = [scan(f"s{number}", "site") for number in range(10)]
    split = split_cohort(records, written=written)
    before = written.read_bytes()
    stranger = scan("stranger", "elsewhere")
    options = {"folds": 5, "fold": 0, "seed": 0, "written": written}
    assert scored_records([*records, stranger], "held_out", **options) == split.held_out
    assert scored_records([*records, stranger], "all", **options) == [*records, stranger]
    assert written.read_bytes() == before
    with pytest.raises(ValueError, match=r"holds out none of these 1 scans.*--scored all"):
        scored_records([stranger], "held_out", **options)
    with pytest.raises(ValueError, match="no split at"):
        scored_records(records, "held_out", **{**options, "written": tmp_path / "none.csv"})
