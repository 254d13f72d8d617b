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


@given(cohorts, newcomers, folds_and_seed)
def test_a_new_site_moves_nobody(sites, others, folds_seed):
    elsewhere = {subject: f"{site} of others" for subject, site in others.items()}
    before, after = (assign_folds(all_sites, *folds_seed) for all_sites in (sites, sites | elsewhere))
    assert {subject: after[subject] for subject in before} == before


@given(cohorts, newcomers, folds_and_seed)
def test_those_placed_stay_and_newcomers_keep_the_folds_even(sites, others, folds_seed):
    before = assign_folds(sites, *folds_seed)
    assert before.keys() == sites.keys()
    assert all(max(counts) - min(counts) <= 1 for counts in sizes(before, sites, folds_seed[0]).values())
    after = assign_folds(sites | others, *folds_seed, known=before)
    assert list(after.items())[: len(before)] == list(before.items()), "those placed come first: a list only grows"
    for counts in sizes(after, sites | others, folds_seed[0]).values():
        assert max(counts) - min(counts) <= 1


@given(st.integers(2, 80), folds_and_seed)
def test_one_more_person_at_a_site_moves_at_most_one_at_each_edge_of_a_fold(count, folds_seed):
    sites = sites_of(["Site1"] * count)
    before, after = assign_folds(sites, *folds_seed), assign_folds({**sites, "new": "Site1"}, *folds_seed)
    assert sum(after[subject] != before[subject] for subject in before) < folds_seed[0]


@given(cohorts, newcomers, st.integers(1, 99), st.integers(0, 99))
def test_a_share_is_right_in_all_and_within_one_person_at_each_site_also_after_newcomers(sites, others, percent, seed):
    share = percent / 100
    before = assign_share(sites, share, seed)
    held_out = Counter(sites[person] for person, fold in before.items() if fold == 0)
    assert before.keys() == sites.keys()
    for site, count in Counter(sites.values()).items():
        assert abs(held_out[site] - share * count) < 1
    after = assign_share(sites | others, share, seed, known=before)
    assert list(after.items())[: len(before)] == list(before.items())
    for assigned in (before, after):
        assert abs(sum(fold == 0 for fold in assigned.values()) - share * len(assigned)) <= 0.5 + 1e-9


def test_persons_of_small_sites_spread_over_the_folds_by_seed_and_name():
    lonely = {f"sub-{number}": f"site {number}" for number in range(40)}
    assert set(assign_folds(lonely, folds=5).values()) == set(range(5))
    assert assign_folds(lonely, folds=5, seed=1) != assign_folds(lonely, folds=5)
    held_out = [{person for person, fold in assign_share(lonely, 0.2, seed).items() if fold == 0} for seed in range(2)]
    assert [len(persons) for persons in held_out] == [8, 8]
    assert held_out[0] != held_out[1]
    known = {f"sub-{site}{fold}": fold for site in range(40) for fold in range(5)}
    sites = {f"sub-{site}{fold}": f"site {site}" for site in range(40) for fold in range(5)}
    after = assign_folds(sites | {f"new-{site}": f"site {site}" for site in range(40)}, folds=5, known=known)
    assert {after[f"new-{site}"] for site in range(40)} == set(range(5))


@given(cohorts, newcomers)
def test_sites_keep_their_numbers_and_no_two_share_one(sites, others):
    before = assign_sites(sites)
    after = assign_sites(sites | others, before)
    assert list(after.items())[: len(before)] == list(before.items())
    numbers = {(site, after[person]) for person, site in (sites | others).items()}
    assert sorted(number for _, number in numbers) == list(range(len(set((sites | others).values()))))
