"""What can only be seen when all scans have been: one beside the others of its site, and beside its table."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from strokelesion.pipeline.cohorts.metadata import Row
from strokelesion.pipeline.doctor.complaint import Complaint
from strokelesion.pipeline.doctor.scan import Sighting

HEMISPHERES = {"left": "LH", "right": "RH"}
# A lesion lies on one side when so much of it does.
ONE_SIDED = 0.9
# A site tells left from right by its images when it has so many scans, so alike; a mirrored one is so unlike the others.
LEAST_SCANS, LEAST_LIKENESS, MOST_UNLIKENESS = 6, 0.3, -0.3


def same_image(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Scans that are equal voxel by voxel."""
    first: dict[str, str] = {}
    for seen in sightings:
        image = seen.record["image"]
        twin = first.setdefault(seen.digest, image)
        if twin != image:
            yield Complaint(image, f"holds the same voxels as {twin}", "Keep one of them, or find the scan that it should be.")


def mirrored_by_table(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Scans whose main lesion is on the other side than their table says.

    Tells whoever was mirrored from whoever was not where the rest of the site agrees with the table; where it does not, the
    site or its rows may be mirrored as a whole. Lesions on both sides tell nothing.
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
    """Scans whose asymmetry is the reverse of the rest of their site, see `asymmetry`.

    Only where scans of a site resemble each other in what is not symmetric. Heads that are mirrored with their brains' own
    asymmetry alone are too alike for this: what tells is the coil and how the face was cut off.
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
    """Return the side that a row of metadata gives the lesion, "left" or "right"; "" where it names both or none.

    From R1.x's column of the primary stroke's hemisphere, else from the columns that count strokes or lesions by hemisphere.
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
    """Correlation of each row with the sum of the others."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    others = unit.sum(axis=0) - unit
    return np.asarray((unit * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-9))
