"""Folds are even over sites, local, known, and those who are placed stay."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from strokelesion.pipeline.cohorts.folds import assign_folds, assign_share, assign_sites

SITES = ["Site1", "c0003", "R039", "NA"]


def sites_of(sites, prefix=""):
    return {f"{prefix}{i:06d}": site for i, site in enumerate(sites)}


cohorts = st.lists(st.sampled_from(SITES), min_size=1, max_size=60).map(sites_of)
newcomers = st.lists(st.sampled_from([*SITES, "new"]), max_size=30).map(lambda sites: sites_of(sites, "new"))
folds_and_seed = st.tuples(st.integers(2, 7), st.integers(0, 99))


def sizes(placed, sites, folds):
    counts = Counter((sites[subject], fold) for subject, fold in placed.items())
    return {site: [counts[site, fold] for fold in range(folds)] for site in set(sites.values())}


@given(cohorts, folds_and_seed)
def test_every_fold_has_its_share_of_every_site_within_one_person(sites, folds_seed):
    placed = assign_folds(sites, *folds_seed)
    assert placed.keys() == sites.keys()
    for counts in sizes(placed, sites, folds_seed[0]).values():
        assert max(counts) - min(counts) <= 1


@given(cohorts, newcomers, folds_and_seed)
def test_a_new_site_moves_nobody(sites, others, folds_seed):
    elsewhere = {subject: f"{site} of others" for subject, site in others.items()}
    before, after = (assign_folds(all_sites, *folds_seed) for all_sites in (sites, sites | elsewhere))
    assert {subject: after[subject] for subject in before} == before


@given(cohorts, newcomers, folds_and_seed)
def test_those_placed_stay_and_newcomers_keep_the_folds_even(sites, others, folds_seed):
    before = assign_folds(sites, *folds_seed)
    after = assign_folds(sites | others, *folds_seed, known=before)
    assert list(after.items())[: len(before)] == list(before.items()), "those placed come first: a list only grows"
    for counts in sizes(after, sites | others, folds_seed[0]).values():
        assert max(counts) - min(counts) <= 1


@given(st.integers(2, 80), folds_and_seed)
def test_one_more_person_at_a_site_moves_at_most_one_at_each_edge_of_a_fold(count, folds_seed):
    sites = sites_of(["Site1"] * count)
    before, after = assign_folds(sites, *folds_seed), assign_folds({**sites, "new": "Site1"}, *folds_seed)
    assert sum(after[subject] != before[subject] for subject in before) < folds_seed[0]


def test_seeds_and_site_names_spread_small_sites_over_the_folds():
    lonely = {f"sub-{i}": f"site {i}" for i in range(40)}
    assert set(assign_folds(lonely, folds=5).values()) == set(range(5))
    assert assign_folds(lonely, folds=5, seed=1) != assign_folds(lonely, folds=5)


def test_newcomers_of_even_sites_spread_over_the_folds():
    placed = {f"sub-{site}{fold}": fold for site in range(40) for fold in range(5)}
    sites = {f"sub-{site}{fold}": f"site {site}" for site in range(40) for fold in range(5)}
    newcomers = {f"new-{site}": f"site {site}" for site in range(40)}
    after = assign_folds(sites | newcomers, folds=5, known=placed)
    assert {after[subject] for subject in newcomers} == set(range(5))


@given(cohorts, st.integers(1, 99), st.integers(0, 99))
def test_a_share_is_right_in_all_and_within_one_person_at_each_site(sites, percent, seed):
    share = percent / 100
    placed = assign_share(sites, share, seed)
    held_out = Counter(sites[person] for person, fold in placed.items() if fold == 0)
    assert placed.keys() == sites.keys()
    assert abs(held_out.total() - share * len(sites)) <= 0.5 + 1e-9
    for site, count in Counter(sites.values()).items():
        assert abs(held_out[site] - share * count) < 1


@given(cohorts, newcomers, st.integers(1, 99))
def test_those_placed_stay_and_newcomers_bring_a_share_back_to_what_was_asked(sites, others, percent):
    share = percent / 100
    before = assign_share(sites, share)
    after = assign_share(sites | others, share, known=before)
    assert list(after.items())[: len(before)] == list(before.items())
    held_out = sum(fold == 0 for fold in after.values())
    assert abs(held_out - share * len(after)) <= 0.5 + 1e-9


def test_a_share_of_small_sites_is_not_nobody_and_not_the_same_sites_for_each_seed():
    lonely = {f"sub-{i}": f"site {i}" for i in range(40)}
    held_out = [{person for person, fold in assign_share(lonely, 0.2, seed).items() if fold == 0} for seed in range(2)]
    assert [len(persons) for persons in held_out] == [8, 8]
    assert held_out[0] != held_out[1]


@given(cohorts, newcomers)
def test_sites_keep_their_numbers_and_no_two_share_one(sites, others):
    before = assign_sites(sites)
    after = assign_sites(sites | others, before)
    assert list(after.items())[: len(before)] == list(before.items())
    numbers = {(site, after[person]) for person, site in (sites | others).items()}
    assert sorted(number for _, number in numbers) == list(range(len(set((sites | others).values()))))


def test_the_folds_are_known():
    # The order of `printf 0:031772 | sha256sum`; `printf 0:Site1 | sha256sum` ends in 0 mod 4.
    order = ["031772", "031768", "031769", "031775", "031771", "031773", "031770", "031774"]
    assert list(assign_folds(dict.fromkeys(order, "Site1"), folds=4).items()) == [
        (subject, rank // 2) for rank, subject in enumerate(order)
    ]


def test_newcomers_alone_make_up_for_what_others_left_out():
    placed = {f"sub-{i}": None for i in range(9)}
    sites = dict.fromkeys([*placed, "new"], "Site1")
    assert assign_share(sites, 0.5, known=placed) == {**placed, "new": 0}
