"""Assign persons to folds: k folds or a share, balanced over the sites, or one fold per site.

The results depend only on names and seed. A hash orders the persons, so the order is the same on every machine. Persons who
have a fold already keep it. The fold None means: never held out.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

Placed = Mapping[str, int | None]


def assign_folds(sites: Mapping[str, str], folds: int, seed: int = 0, placed: Placed | None = None) -> dict[str, int | None]:
    """Return a fold for every person, with each site spread evenly over the folds.

    Recipe, for each site separately, so that a new site changes no fold at other sites:
        1. Order the persons by sha256("{seed}:{person}").
        2. fold = (floor(rank * folds / n_site) + offset) mod folds. These are blocks of ranks: one more person moves only
           persons at block edges. The offset is sha256("{seed}:{site}") mod folds, so small sites start in different folds.
        3. If persons of the site have folds already, each new person goes, in this order, to the fold with the fewest.

    Args:
        sites: Site of each person.
        folds: Number of folds.
        seed: Seed of the order.
        placed: Fold of each person who has one already; `sites` contains these persons too.

    Returns:
        Fold of each person: first the placed persons, unchanged, then the new ones.
    """
    assigned = dict(placed or {})
    taken: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
    for person, fold in assigned.items():
        taken[sites[person]][fold] += 1
    for site, persons in _newcomers(sites, assigned, seed).items():
        offset = _hash(seed, site) % folds
        count = len(persons)
        chosen = _fill(taken[site], count, folds, offset) if site in taken else _blocks(count, folds, offset)
        assigned.update(zip(persons, chosen, strict=True))
    return assigned


def assign_share(sites: Mapping[str, str], share: float, seed: int = 0, placed: Placed | None = None) -> dict[str, int | None]:
    """Return fold 0 for a share of the persons, about this share of each site, and None for the others.

    Recipe, the method of largest remainders, one person at a time:
        1. Order the persons of each site by sha256("{seed}:{person}").
        2. Hold out the next person of the site with the largest share * n_site - held_out_site, until round(share * n)
           persons are held out. Between equal sites, sha256("{seed}:{site}") decides.

    Args:
        sites: Site of each person.
        share: Share to hold out, above 0 and below 1.
        seed: Seed of the order.
        placed: Fold, 0 or None, of each person who has one already; `sites` contains these persons too.

    Returns:
        Fold of each person, 0 or None (training): first the placed persons, unchanged, then the new ones.
    """
    assigned = dict(placed or {})
    counts = Counter(sites.values())
    held_out = Counter(sites[person] for person, fold in assigned.items() if fold == 0)
    newcomers = _newcomers(sites, assigned, seed)
    assigned |= dict.fromkeys((person for persons in newcomers.values() for person in persons), None)
    seats = round(share * len(sites)) - held_out.total()
    for _ in range(min(seats, sum(map(len, newcomers.values())))):
        lack = {site: (share * counts[site] - held_out[site], _hash(seed, site)) for site, new in newcomers.items() if new}
        site = max(lack, key=lack.__getitem__)
        assigned[newcomers[site].pop(0)] = 0
        held_out[site] += 1
    return assigned


def assign_sites(sites: Mapping[str, str], placed: Placed | None = None) -> dict[str, int | None]:
    """Return folds that are the sites, numbered in the order of their names; new sites follow those with a number.

    Args:
        sites: Site of each person.
        placed: Fold of each person who has one already; `sites` contains these persons too.

    Returns:
        Fold of each person: first the placed persons, unchanged, then the new ones.
    """
    assigned = dict(placed or {})
    numbers = {sites[person]: fold for person, fold in assigned.items() if fold is not None}
    following = max(numbers.values(), default=-1) + 1
    numbers |= {site: number for number, site in enumerate(sorted(set(sites.values()) - numbers.keys()), following)}
    return assigned | {person: numbers[site] for person, site in sites.items() if person not in assigned}


def _newcomers(sites: Mapping[str, str], assigned: Placed, seed: int) -> dict[str, list[str]]:
    """Return the persons without a fold by site, in the order of their hashes."""
    newcomers = defaultdict(list)
    for person in sorted(sites.keys() - assigned.keys(), key=lambda person: _hash(seed, person)):
        newcomers[sites[person]].append(person)
    return dict(sorted(newcomers.items()))


def _hash(seed: int, name: str) -> int:
    return int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest(), 16)


def _blocks(count: int, folds: int, offset: int) -> list[int]:
    return [(rank * folds // count + offset) % folds for rank in range(count)]


def _fill(taken: Counter[int | None], count: int, folds: int, offset: int) -> list[int]:
    sizes = taken.copy()
    chosen = []
    for _ in range(count):
        fold = min(range(folds), key=lambda fold: (sizes[fold], (fold - offset) % folds))
        sizes[fold] += 1
        chosen.append(fold)
    return chosen
