"""Who goes into which fold: k folds or a share, even over the sites, or one fold a site.

Pure functions of names. The order of persons is that of a hash, so that it is the same on every machine. Those who are
placed already stay where they are; None is the fold of somebody who is never held out.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

Placed = Mapping[str, int | None]


def assign_folds(sites: Mapping[str, str], folds: int, seed: int = 0, placed: Placed | None = None) -> dict[str, int | None]:
    """Give every person a fold, each site spread evenly over the folds.

    Recipe, within each site on its own, so that a new site moves nobody elsewhere:
        1. Order the persons by sha256("{seed}:{person}").
        2. fold = (floor(rank * folds / n_site) + offset) mod folds: blocks, so that one more person shifts only those
           at their edges. The offset is sha256("{seed}:{site}") mod folds: small sites do not all land in fold 0.
        3. At a site with persons who are placed the new ones go, in the same order, each to the fold that has the fewest.

    Args:
        sites: Site of each person.
        folds: Number of folds.
        seed: Seed of the order.
        placed: Fold of the persons who are placed already; they too are in `sites`.

    Returns:
        Fold of each person: first those placed, as they were, then the new ones.
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
    """Hold out a share of the persons as fold 0, about that share of each site.

    Recipe, the method of largest remainders given one seat at a time:
        1. Order the persons of each site by sha256("{seed}:{person}").
        2. Hold out the next person of the site that lacks most, share * n_site - held_out_site, until round(share * n)
           persons are held out. Among equals sha256("{seed}:{site}") decides.

    Args:
        sites: Site of each person.
        share: Share to hold out, above 0 and below 1.
        seed: Seed of the order.
        placed: 0 or None for the persons who are placed already; they too are in `sites`.

    Returns:
        0, or None for training, for each person: first those placed, as they were, then the new ones.
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
    """Make every site a fold: numbered in the order of their names, new ones after those that have their number.

    Args:
        sites: Site of each person.
        placed: Fold of the persons who are placed already; they too are in `sites`.

    Returns:
        Fold of each person: first those placed, as they were, then the new ones.
    """
    assigned = dict(placed or {})
    numbers = {sites[person]: fold for person, fold in assigned.items() if fold is not None}
    following = max(numbers.values(), default=-1) + 1
    numbers |= {site: number for number, site in enumerate(sorted(set(sites.values()) - numbers.keys()), following)}
    return assigned | {person: numbers[site] for person, site in sites.items() if person not in assigned}


def _newcomers(sites: Mapping[str, str], assigned: Placed, seed: int) -> dict[str, list[str]]:
    """By site, in order, those who have no place yet."""
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
