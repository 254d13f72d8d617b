"""Plans of the phantom's infarcts: where they are and how large, before any image."""

from typing import NamedTuple

import numpy as np

MAIN_MEDIAN_ML, MAIN_LOG_DEVIATION, MAIN_LEAST_ML, MAIN_MOST_ML = 15.0, 1.0, 5.0, 140.0
SUB_LEAST_ML, SUB_MOST_ML = 0.05, 1.0
SUB_COUNT_ODDS = (0.5, 0.25, 0.15, 0.1)
# Standard deviation of a lesion's center around that of its territory.
JITTER_MM = 5.0


class Territory(NamedTuple):
    """Typical location of infarcts, on the right side: artery, location, center in MNI space and volume of the largest."""

    vessel: str
    location: str
    center_mm: tuple[float, float, float]
    most_ml: float


TERRITORIES = (
    Territory("MCA", "Cortical", (45, -10, 20), np.inf),  # whole artery
    Territory("MCA", "Cortical", (45, 20, 22), 60),  # superior division
    Territory("MCA", "Cortical", (50, -42, 18), 60),  # inferior division
    Territory("ACA", "Cortical", (9, 38, 34), 30),
    Territory("PCA", "Cortical", (15, -80, 6), 40),
    Territory("Lenticulostriate", "Subcortical", (26, 2, 6), 15),
    Territory("MCA", "Subcortical", (25, -14, 30), 8),  # corona radiata
    Territory("PCA", "Subcortical", (12, -18, 8), 2.5),  # thalamus
    Territory("PICA", "Cerebellum", (26, -64, -42), 25),
    Territory("Basilar", "Brainstem", (5, -26, -34), 2.5),
)


class Infarct(NamedTuple):
    """Plan of one infarct: territory, center in MNI space, and volume of its mask there before it is fitted to the head."""

    territory: Territory
    center_mm: tuple[float, ...]
    volume_ml: float

    @property
    def side(self) -> str:
        """Return the hemisphere."""
        return "Right" if self.center_mm[0] > 0 else "Left"

    @property
    def radius_mm(self) -> float:
        """Return the radius of a ball of this volume."""
        return float((1000 * self.volume_ml * 3 / (4 * np.pi)) ** (1 / 3))


def draw_infarcts(rng: np.random.Generator) -> list[Infarct]:
    """Return one main lesion, then small lesions that lie apart from it and from each other."""
    main_ml, *rest_ml = draw_volumes_ml(rng)
    infarcts = [draw_infarct(main_ml, rng)]
    for volume_ml in rest_ml:
        small = draw_infarct(volume_ml, rng)
        if all(are_apart(small, other) for other in infarcts):
            infarcts.append(small)
    return infarcts


def draw_volumes_ml(rng: np.random.Generator) -> list[float]:
    """Return the volumes of the lesions of a subject, that of the main lesion first."""
    main_ml = np.clip(rng.lognormal(np.log(MAIN_MEDIAN_ML), MAIN_LOG_DEVIATION), MAIN_LEAST_ML, MAIN_MOST_ML)
    subs = rng.choice(len(SUB_COUNT_ODDS), p=SUB_COUNT_ODDS)
    return [float(main_ml), *np.exp(rng.uniform(np.log(SUB_LEAST_ML), np.log(SUB_MOST_ML), subs)).tolist()]


def draw_infarct(volume_ml: float, rng: np.random.Generator) -> Infarct:
    """Return an infarct near the center of a territory that is large enough, on a random side."""
    fitting = [territory for territory in TERRITORIES if volume_ml <= territory.most_ml]
    territory = fitting[rng.integers(len(fitting))]
    x, y, z = rng.normal(territory.center_mm, JITTER_MM).tolist()
    return Infarct(territory, (float(rng.choice([-1, 1])) * max(x, 4.0), y, z), volume_ml)


def are_apart(one: Infarct, other: Infarct) -> bool:
    """Return whether healthy tissue remains between two lesions, with a margin for their irregular outlines."""
    distance_mm = np.linalg.norm(np.subtract(one.center_mm, other.center_mm))
    return bool(distance_mm > 1.6 * (one.radius_mm + other.radius_mm) + 6)
