"""Which experiment is best and how sure that is: means with intervals, paired tests, false alarms.

The unit of chance is the person, not the scan: sessions of one person resemble each other. So intervals come from drawing
persons with replacement, and tests compare persons' means. An experiment is a network and a loss; its folds together
hold out each person once. Means are over the scans whose truth has the lesion class; what is predicted in the others
is counted in `false_alarms`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import NAMES

EXPERIMENT = ["network", "loss"]
SCAN = ["release", "subject", "session"]
# Columns of a table of scores that say which scan a row is about; all others are measures.
IDENTITY = [*EXPERIMENT, "fold", *NAMES, "lesion"]
TABLE = [*EXPERIMENT, "lesion", "scans", "persons", "dice", "low", "high", "difference", "p", "p_holm", "is_best"]
LESIONS = ("main", "sub", "both")
RANKED_BY = "main"
CONFIDENCE = 0.95
RESAMPLES = 2000
# Persons drawn at once: bounds the memory of a large cohort.
RESAMPLES_AT_ONCE = 200


def interval(values: pd.Series, persons: pd.Series) -> tuple[float, float, float]:
    """Return a mean over scans and its 95 % interval from resampling persons.

    Recipe (percentile bootstrap, Efron 1979): draw as many persons as there are, with replacement, 2,000 times; each time
    take the mean over their scans; the interval runs from the 2.5th to the 97.5th percentile. The draws are the same at
    each call.

    Args:
        values: one value a scan; NaN where the measure is not defined there, and left out.
        persons: whose scan each is.

    Returns:
        Mean, low and high. NaN where there is no value; low and high NaN where all are of one person.
    """
    known = values.astype(float).groupby(persons.to_numpy())
    sums, counts = known.sum().to_numpy(), known.count().to_numpy()
    measured = counts > 0
    if not measured.any():
        return float("nan"), float("nan"), float("nan")
    mean = float(sums.sum() / counts.sum())
    if measured.sum() == 1:
        return mean, float("nan"), float("nan")
    drawn = stats.bootstrap(
        (sums[measured], counts[measured]),
        mean_of_scans,
        paired=True,
        n_resamples=RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return mean, float(drawn.low), float(drawn.high)


def mean_of_scans(sums: NDArray[np.float64], counts: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
    """Return the mean over scans from each person's sum and number of scans."""
    means: NDArray[np.float64] = sums.sum(axis=axis) / counts.sum(axis=axis)
    return means


def paired_test(differences: pd.Series, persons: pd.Series) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test on persons' mean differences.

    1 where nobody differs, NaN without persons.
    """
    of_persons = differences.groupby(persons.to_numpy()).mean().dropna().to_numpy()
    if len(of_persons) == 0:
        return float("nan")
    if not np.any(of_persons):
        return 1.0
    return float(stats.wilcoxon(of_persons).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): the k-th smallest times (n - k + 1), never falling, at most 1."""
    ascending = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[ascending] = np.maximum.accumulate(np.asarray(p_values, dtype=float)[ascending] * factors).clip(max=1)
    return [float(p) for p in corrected]


def with_truth(scores: pd.DataFrame, lesion: str) -> pd.DataFrame:
    """Return the rows of one lesion class whose truth has it."""
    return scores[(scores["lesion"] == lesion) & (scores["truth_ml"] > 0)]


def best_experiment(scores: pd.DataFrame) -> tuple[str, str]:
    """Return network and loss of the highest mean Dice of main lesions, among the experiments with the most scans.

    An experiment that still lacks folds may have had the easy scans, and is not called best.

    Raises:
        UserError: when no scan has a main lesion.
    """
    if with_truth(scores, RANKED_BY).empty:
        raise UserError(f"no scan has a {RANKED_BY} lesion in its truth; expected some to compare experiments by.")
    ranked = with_truth(scores, RANKED_BY).groupby(EXPERIMENT)["dice"].agg(["count", "mean"]).reset_index()
    ranked = ranked.sort_values(["count", "mean", *EXPERIMENT], ascending=[False, False, True, True])
    network, loss = ranked.iloc[0][EXPERIMENT]
    return str(network), str(loss)


def experiments(scores: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield network and loss of each experiment, in alphabetical order, with its rows."""
    for (network, loss), rows in scores.groupby(EXPERIMENT, sort=True):
        yield (str(network), str(loss)), rows


def compare(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the table of experiments: mean Dice with its interval, and the test against the best.

    Returns:
        A row an experiment and lesion class: network, loss, lesion, scans, persons, dice, low, high, difference (its mean
        Dice less that of the best, over the scans that both have), p (Wilcoxon), p_holm (corrected for the number of
        others within the lesion class; NaN for the best itself) and is_best.
    """
    best = best_experiment(scores)
    rows = [row for lesion in LESIONS for row in compare_class(with_truth(scores, lesion), lesion, best)]
    return pd.DataFrame(rows, columns=TABLE)


def compare_class(scores: pd.DataFrame, lesion: str, best: tuple[str, str]) -> list[dict[str, object]]:
    """Return the rows of `compare` for one lesion class, from the scans that have it."""
    of_best = scores[(scores["network"] == best[0]) & (scores["loss"] == best[1])]
    rows = {name: compare_experiment(rows, of_best) for name, rows in experiments(scores)}
    p_values = {name: row["p"] for name, row in rows.items() if name != best and not np.isnan(row["p"])}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [
        {"network": name[0], "loss": name[1], "lesion": lesion, "is_best": name == best}
        | row
        | {"p_holm": corrected.get(name, float("nan"))}
        for name, row in rows.items()
    ]


def compare_experiment(rows: pd.DataFrame, best: pd.DataFrame) -> dict[str, float]:
    """Return mean, interval, and difference from and test against the best experiment over the scans that both have."""
    mean, low, high = interval(rows["dice"], rows["person"])
    pairs = rows.merge(best, on=SCAN, suffixes=("", "_best"))
    differences = pairs["dice"] - pairs["dice_best"]
    counts = {"scans": len(rows), "persons": rows["person"].nunique()}
    means = {"dice": mean, "low": low, "high": high, "difference": differences.mean()}
    return {**counts, **means, "p": paired_test(differences, pairs["person"])}


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean and interval of every measure: a row an experiment, lesion class and measure.

    `scans` counts those where the measure is defined: a surface distance, for one, needs both surfaces.
    """
    measures = [column for column in scores.columns if column not in IDENTITY]
    rows = []
    for (network, loss), of_experiment in experiments(scores):
        for lesion in LESIONS:
            of_class = with_truth(of_experiment, lesion)
            for metric in measures:
                mean, low, high = interval(of_class[metric], of_class["person"])
                scans = int(of_class[metric].notna().sum())
                rows.append((network, loss, lesion, metric, mean, low, high, scans))
    return pd.DataFrame(rows, columns=[*EXPERIMENT, "lesion", "metric", "mean", "low", "high", "scans"])


def false_alarms(scores: pd.DataFrame) -> pd.DataFrame:
    """Return what is predicted in scans without the lesion class: a row an experiment and class.

    `share` of the scans has any predicted voxel, with its interval; `mean_ml` is the volume predicted, over all of them.
    """
    rows = []
    for (network, loss), of_experiment in experiments(scores):
        for lesion in LESIONS:
            without = of_experiment[(of_experiment["lesion"] == lesion) & (of_experiment["truth_ml"] == 0)]
            alarms = without["pred_ml"] > 0
            share, low, high = interval(alarms, without["person"])
            rows.append((network, loss, lesion, len(without), int(alarms.sum()), share, low, high, without["pred_ml"].mean()))
    columns = [*EXPERIMENT, "lesion", "scans", "with_alarm", "share", "low", "high", "mean_ml"]
    return pd.DataFrame(rows, columns=columns)
