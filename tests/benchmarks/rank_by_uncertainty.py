"""Whether the uncertainty of a scan says which scans to correct first.

    python tests/benchmarks/compose_new_site.py HEADS MASKS FOLDER
    python tests/benchmarks/rank_by_uncertainty.py FOLDER [--cohorts test pool general]

The pretrained model segments scans that were held out, as prepared for the network at 1 mm. The table has, for each order of
correcting them, Spearman's correlation of its value with Dice, and the area under "mean Dice of all scans after the first k
were corrected", k from 0 to all; a corrected scan has a Dice of 1.

    uncertainty   `estimate_uncertainty`
    entropy       entropy of the probabilities, divided by their sum
    outside       share of the probability that lies outside the mask
    small first   the smallest lesion volume found
    large first   the largest lesion volume found
    random        mean over 1,000 orders
    best          the lowest Dice
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from adapt_new_site import predict
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.special import entr
from scipy.stats import spearmanr

from strokelesion.pipeline.lesions.uncertainty import LEAST_PROBABILITY, estimate_uncertainty
from strokelesion.pipeline.options.model_options import model_file
from strokelesion.pipeline.options.workflow import bundle_root

ORDERS = {"uncertainty": 1, "entropy": 1, "outside": 1, "small first": -1, "large first": 1}


def measure(cohort: Path) -> pd.DataFrame:
    """Return Dice and the values of `ORDERS` of each scan of a cohort."""
    rows = []
    for subject, probabilities, truth, decide in predict(cohort, str(model_file("pretrained", bundle_root()))):
        mask = decide.decide(MetaTensor(probabilities, affine=np.eye(4)))[0].numpy() > 0
        lesion, true = probabilities[1:].sum(0).clamp(0, 1).numpy(), truth.numpy()
        likely = lesion >= LEAST_PROBABILITY
        mass = float(lesion[likely].sum()) + 1e-6
        rows.append(
            {
                "cohort": cohort.name,
                "subject": subject,
                "dice": 2 * float((mask & true).sum()) / float(mask.sum() + true.sum()),
                "uncertainty": estimate_uncertainty(mask, lesion),
                "entropy": float((entr(lesion) + entr(1 - lesion))[likely].sum()) / mass,
                "outside": float(lesion[likely & ~mask].sum()) / mass,
                "small first": mask.sum() / 1000,
                "large first": mask.sum() / 1000,
            }
        )
    return pd.DataFrame(rows)


def area(dice: NDArray[np.float64], order: NDArray[np.intp]) -> float:
    """Return the area under mean Dice after the first k scans of an order were corrected."""
    lacking = 1 - dice[order]
    return 1 - float(np.mean([lacking[k:].sum() for k in range(len(dice) + 1)])) / len(dice)


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Return correlation and area of each order."""
    dice, rng = table["dice"].to_numpy(), np.random.default_rng(0)
    rows = {
        name: (spearmanr(sign * table[name], dice).statistic, area(dice, np.argsort(-sign * table[name], kind="stable")))
        for name, sign in ORDERS.items()
    }
    rows["random"] = (0.0, float(np.mean([area(dice, rng.permutation(len(dice))) for _ in range(1000)])))
    rows["best"] = (-1.0, area(dice, np.argsort(dice)))
    return pd.DataFrame(rows, index=["correlation", "area"]).T


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cohorts", nargs="+", default=["test", "pool", "general"])
    arguments = parser.parse_args()
    table = pd.concat([measure(arguments.folder / cohort) for cohort in arguments.cohorts], ignore_index=True)
    print(table.round(3).to_string(index=False))
    print(compare(table).round(3).to_string())


if __name__ == "__main__":
    main()
