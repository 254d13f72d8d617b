"""Checks that compare each scan with the other scans of its site and with its table."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from strokelesion.pipeline.cohorts.metadata import Row
from strokelesion.pipeline.doctor.complaint import Complaint
from strokelesion.pipeline.doctor.scan import Sighting

HEMISPHERES = {"left": "LH", "right": "RH"}
# A lesion is on one side if at least this share of its volume is.
ONE_SIDED = 0.9
# Least number and median correlation of the scans of a site to detect mirrored ones, and largest correlation of a mirrored one.
LEAST_SCANS, LEAST_LIKENESS, MOST_UNLIKENESS = 6, 0.3, -0.3


def same_image(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Yield an issue for each scan with the same voxels as an earlier one."""
    first: dict[str, str] = {}
    for seen in sightings:
        image = seen.record["image"]
        twin = first.setdefault(seen.digest, image)
        if twin != image:
            yield Complaint(image, f"holds the same voxels as {twin}", "Keep one of them, or find the scan that it should be.")


def mirrored_by_table(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Yield an issue for each scan whose main lesion is on the opposite side to its table.

    If the other scans of the site agree with the table, this scan or its row is probably mirrored. Otherwise the whole site or
    all its rows may be mirrored. Lesions on both sides are not checked.
    """
    known = [(seen, side) for seen in sightings if (side := side_in_table(seen.record.get("metadata", {}))) and _side(seen)]
    agreeing = Counter(seen.record["site"] for seen, side in known if side == _side(seen))
    scans = Counter(seen.record["site"] for seen, _ in known)
    for seen, side in known:
        if side != _side(seen):
            site = seen.record["site"]
            others = f"{agreeing[site]} of {scans[site]} scans of {site} agree with it"
            what = f"has its lesion on the {_side(seen)}, and the table says {side}; {others}"
            yield Complaint(seen.record["image"], what, "Look at it: scan and mask, or the row, may be mirrored.")


def mirrored_by_image(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Yield an issue for each scan whose asymmetry is opposite to the other scans of its site, see `asymmetry`.

    This requires scans of a site with similar asymmetry. The asymmetry of the brain alone is too small to detect mirroring. The
    asymmetry from the coil and from defacing is large enough.
    """
    for (_, site), seen in _by_site(sightings).items():
        likeness = _likeness(np.stack([one.asymmetry.ravel() for one in seen]))
        if len(seen) < LEAST_SCANS or np.median(likeness) < LEAST_LIKENESS:
            continue
        for one, alike in zip(seen, likeness, strict=True):
            if alike < MOST_UNLIKENESS:
                what = f"is lopsided the other way than the {len(seen)} scans of {site} (correlation {alike:.2f})"
                yield Complaint(one.record["image"], what, "Look at it: it may be mirrored.")


def side_in_table(row: Row) -> str:
    """Return the side of the lesion in a row of metadata, "left" or "right"; "" if the row names both sides or none.

    Sources: the column of the primary stroke's hemisphere (R1.x), else the numbers of strokes or lesions per hemisphere.
    """
    hemisphere = next((str(cell).lower() for column, cell in row.items() if column.endswith("Hemisphere")), "")
    counts = {side: sum(bool(row[column]) for column in row if f" {code} " in column) for side, code in HEMISPHERES.items()}
    one_sided = [side for side, count in counts.items() if count] if not hemisphere else [hemisphere]
    return one_sided[0] if len(one_sided) == 1 and one_sided[0] in HEMISPHERES else ""


def _side(seen: Sighting) -> str:
    return "right" if seen.right_share >= ONE_SIDED else "left" if seen.right_share <= 1 - ONE_SIDED else ""


def _by_site(sightings: Iterable[Sighting]) -> dict[tuple[str, str], list[Sighting]]:
    sites = defaultdict(list)
    for seen in sightings:
        sites[seen.record["release"], seen.record["site"]].append(seen)
    return sites


def _likeness(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correlation of each row with the sum of the others."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    others = unit.sum(axis=0) - unit
    return np.asarray((unit * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-9))
