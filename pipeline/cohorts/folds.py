"""Assign persons to folds: k folds or a share, balanced over the sites, or one fold per site.

The results depend only on names and seed. A hash orders the persons, so the order is the same on every machine. The fold None
means: never held out.

All three functions take the site of each person, and the folds of the persons who have one already (`known`; `sites` contains
these persons too). They return the fold of each person: first the known folds, unchanged, then those of the new persons.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

Folds = Mapping[str, int | None]


def assign_folds(sites: Mapping[str, str], folds: int, seed: int = 0, known: Folds | None = None) -> dict[str, int | None]:
    """Return one of `folds` folds for every person, with each site spread evenly over the folds.

    Recipe, for each site separately, so that a new site changes no fold at other sites:
        1. Order the persons by sha256("{seed}:{person}").
        2. fold = (floor(rank * folds / n_site) + offset) mod folds. These are blocks of ranks: one more person moves only
           persons at block edges. The offset is sha256("{seed}:{site}") mod folds, so small sites start in different folds.
        3. If persons of the site have folds already, each new person goes, in this order, to the fold with the fewest.
    """
    assigned = dict(known or {})
    sizes: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
    for person, fold in assigned.items():
        sizes[sites[person]][fold] += 1
    for site, persons in _order_new_persons(sites, assigned, seed).items():
        offset = _hash(seed, site) % folds
        if site not in sizes:
            assigned |= {person: (rank * folds // len(persons) + offset) % folds for rank, person in enumerate(persons)}
            continue
        for person in persons:
            assigned[person] = fold = min(range(folds), key=lambda fold: (sizes[site][fold], (fold - offset) % folds))
            sizes[site][fold] += 1
    return assigned


def assign_share(sites: Mapping[str, str], share: float, seed: int = 0, known: Folds | None = None) -> dict[str, int | None]:
    """Return fold 0 for a share of the persons (above 0, below 1), about this share of each site, and None for the others.

    Recipe, the method of largest remainders, one person at a time:
        1. Order the persons of each site by sha256("{seed}:{person}").
        2. Hold out the next person of the site with the largest share * n_site - held_out_site, until round(share * n)
           persons are held out. Between equal sites, sha256("{seed}:{site}") decides.
    """
    assigned = dict(known or {})
    counts = Counter(sites.values())
    held_out = Counter(sites[person] for person, fold in assigned.items() if fold == 0)
    waiting = _order_new_persons(sites, assigned, seed)
    assigned |= dict.fromkeys((person for persons in waiting.values() for person in persons), None)
    seats = round(share * len(sites)) - held_out.total()
    for _ in range(min(seats, sum(map(len, waiting.values())))):
        lack = {site: (share * counts[site] - held_out[site], _hash(seed, site)) for site, new in waiting.items() if new}
        site = max(lack, key=lack.__getitem__)
        assigned[waiting[site].pop(0)] = 0
        held_out[site] += 1
    return assigned


def assign_sites(sites: Mapping[str, str], known: Folds | None = None) -> dict[str, int | None]:
    """Return folds that are the sites, numbered in the order of their names; new sites follow those with a number."""
    assigned = dict(known or {})
    numbers = {sites[person]: fold for person, fold in assigned.items() if fold is not None}
    following = max(numbers.values(), default=-1) + 1
    numbers |= {site: number for number, site in enumerate(sorted(set(sites.values()) - numbers.keys()), following)}
    return assigned | {person: numbers[site] for person, site in sites.items() if person not in assigned}


def _order_new_persons(sites: Mapping[str, str], assigned: Folds, seed: int) -> dict[str, list[str]]:
    """Return the persons without a fold by site, in the order of their hashes."""
    new = defaultdict(list)
    for person in sorted(sites.keys() - assigned.keys(), key=lambda person: _hash(seed, person)):
        new[sites[person]].append(person)
    return dict(sorted(new.items()))


def _hash(seed: int, name: str) -> int:
    return int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest(), 16)
