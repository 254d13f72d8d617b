"""Compare experiments: means with intervals, paired tests, and false alarms.

The statistical unit is the person, not the scan, because sessions of one person resemble each other. Intervals resample
persons with replacement, and tests compare the persons' means. An experiment is a network and a loss; its folds together
hold out each person once. Means are over the scans whose truth has the lesion class; `count_false_alarms` counts predictions in
the other scans.
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
# Columns of a table of scores that identify a row; all others are measures.
IDENTITY = [*EXPERIMENT, "fold", "seed", *NAMES, "lesion"]
TABLE = [*EXPERIMENT, "lesion", "scans", "persons", "dice", "low", "high", "difference", "p", "p_holm", "is_best"]
LESIONS = ("main", "sub", "both")
RANKED_BY = "main"
CONFIDENCE = 0.95
RESAMPLES = 2000
# Resamples drawn at once; this limits the memory for a large cohort.
RESAMPLES_AT_ONCE = 200


def bootstrap_interval(values: pd.Series, persons: pd.Series) -> tuple[float, float, float]:
    """Return the mean over scans and its 95 % interval from resampling persons.

    Recipe (percentile bootstrap, Efron 1979): draw as many persons as there are, with replacement, 2,000 times. Each time
    take the mean over their scans. The interval runs from the 2.5th to the 97.5th percentile. Every call uses the same
    draws.

    Args:
        values: One value per scan. NaN means that the measure is undefined, and is left out.
        persons: Person of each scan.

    Returns:
        Mean, low and high. All are NaN without values; low and high are NaN if all values are from one person.
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
        average_scans,
        paired=True,
        n_resamples=RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return mean, float(drawn.low), float(drawn.high)


def average_scans(sums: NDArray[np.float64], counts: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
    """Return the mean over scans from each person's sum and number of scans."""
    means: NDArray[np.float64] = sums.sum(axis=axis) / counts.sum(axis=axis)
    return means


def compute_p_value(differences: pd.Series, persons: pd.Series) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test on persons' mean differences.

    The value is 1 if no person differs, and NaN without persons.
    """
    of_persons = differences.groupby(persons.to_numpy()).mean().dropna().to_numpy()
    if len(of_persons) == 0:
        return float("nan")
    if not np.any(of_persons):
        return 1.0
    return float(stats.wilcoxon(of_persons).pvalue)


def correct_p_values(p_values: Sequence[float]) -> list[float]:
    """Return corrected p-values (Holm 1979): the k-th smallest of n times (n - k + 1), never decreasing, at most 1."""
    ascending = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[ascending] = np.maximum.accumulate(np.asarray(p_values, dtype=float)[ascending] * factors).clip(max=1)
    return [float(p) for p in corrected]


def select_with_truth(scores: pd.DataFrame, lesion: str) -> pd.DataFrame:
    """Return the rows of one lesion class, for the scans whose truth has the class."""
    return scores[(scores["lesion"] == lesion) & (scores["truth_ml"] > 0)]


def find_best_experiment(scores: pd.DataFrame) -> tuple[str, str]:
    """Return network and loss with the highest mean Dice of main lesions, among the experiments with the most scans.

    An experiment with missing folds cannot be the best, because it may contain only the easy scans.

    Raises:
        UserError: when no scan has a main lesion.
    """
    if select_with_truth(scores, RANKED_BY).empty:
        raise UserError(f"no scan has a {RANKED_BY} lesion in its truth; expected some to compare experiments by.")
    ranked = select_with_truth(scores, RANKED_BY).groupby(EXPERIMENT)["dice"].agg(["count", "mean"]).reset_index()
    ranked = ranked.sort_values(["count", "mean", *EXPERIMENT], ascending=[False, False, True, True])
    network, loss = ranked.iloc[0][EXPERIMENT]
    return str(network), str(loss)


def group_by_experiment(scores: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield network and loss of each experiment with its rows, in alphabetical order."""
    for (network, loss), rows in scores.groupby(EXPERIMENT, sort=True):
        yield (str(network), str(loss)), rows


def compare(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the table of experiments: mean Dice with its interval, and the test against the best.

    Returns:
        One row per experiment and lesion class: network, loss, lesion, scans, persons, dice, low, high, difference (mean
        Dice minus that of the best, over the scans that both have), p (Wilcoxon), p_holm (corrected for the number of
        other experiments within the lesion class; NaN for the best itself) and is_best.
    """
    best = find_best_experiment(scores)
    rows = [row for lesion in LESIONS for row in compare_class(select_with_truth(scores, lesion), lesion, best)]
    return pd.DataFrame(rows, columns=TABLE)


def compare_class(scores: pd.DataFrame, lesion: str, best: tuple[str, str]) -> list[dict[str, object]]:
    """Return the rows of `compare` for one lesion class, from the scans that have it."""
    of_best = scores[(scores["network"] == best[0]) & (scores["loss"] == best[1])]
    rows = {name: compare_experiment(rows, of_best) for name, rows in group_by_experiment(scores)}
    p_values = {name: row["p"] for name, row in rows.items() if name != best and not np.isnan(row["p"])}
    corrected = dict(zip(p_values, correct_p_values(list(p_values.values())), strict=True))
    return [
        {"network": name[0], "loss": name[1], "lesion": lesion, "is_best": name == best}
        | row
        | {"p_holm": corrected.get(name, float("nan"))}
        for name, row in rows.items()
    ]


def compare_experiment(rows: pd.DataFrame, best: pd.DataFrame) -> dict[str, float]:
    """Return mean and interval, and the difference and test against the best experiment over the scans that both have."""
    mean, low, high = bootstrap_interval(rows["dice"], rows["person"])
    pairs = rows.merge(best, on=SCAN, suffixes=("", "_best"))
    differences = pairs["dice"] - pairs["dice_best"]
    counts = {"scans": len(rows), "persons": rows["person"].nunique()}
    means = {"dice": mean, "low": low, "high": high, "difference": differences.mean()}
    return {**counts, **means, "p": compute_p_value(differences, pairs["person"])}


def tabulate_runs(scores: pd.DataFrame) -> pd.DataFrame:
    """Return what each training gave: one row per experiment, seed and lesion class.

    Returns:
        network, loss, seed, lesion; scans, dice, low and high as in `compare`; keras_dice and keras_dice_limit, means over all
        scans; and empty, the share of scans with the class in which no voxel of it was predicted. A network that collapsed to
        background has an empty share of 1.
    """
    rows = []
    for (network, loss, seed, lesion), of_run in scores.groupby([*EXPERIMENT, "seed", "lesion"], sort=True):
        having = of_run[of_run["truth_ml"] > 0]
        mean, low, high = bootstrap_interval(having["dice"], having["person"])
        by_slice = [of_run[measure].mean() for measure in ("keras_dice", "keras_dice_limit")]
        rows.append((network, loss, seed, lesion, len(having), mean, low, high, *by_slice, (having["pred_ml"] == 0).mean()))
    columns = ["scans", "dice", "low", "high", "keras_dice", "keras_dice_limit", "empty"]
    return pd.DataFrame(rows, columns=[*EXPERIMENT, "seed", "lesion", *columns])


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean and interval of every measure: one row per experiment, lesion class and measure.

    `scans` counts the scans where the measure is defined. For example, a surface distance needs both surfaces.
    """
    measures = [column for column in scores.columns if column not in IDENTITY]
    rows = []
    for (network, loss), of_experiment in group_by_experiment(scores):
        for lesion in LESIONS:
            of_class = select_with_truth(of_experiment, lesion)
            for metric in measures:
                mean, low, high = bootstrap_interval(of_class[metric], of_class["person"])
                scans = int(of_class[metric].notna().sum())
                rows.append((network, loss, lesion, metric, mean, low, high, scans))
    return pd.DataFrame(rows, columns=[*EXPERIMENT, "lesion", "metric", "mean", "low", "high", "scans"])


def count_false_alarms(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions in scans without the lesion class: one row per experiment and class.

    `share`, with its interval, is the share of these scans with any predicted voxel. `mean_ml` is the mean predicted volume
    over all these scans.
    """
    rows = []
    for (network, loss), of_experiment in group_by_experiment(scores):
        for lesion in LESIONS:
            without = of_experiment[(of_experiment["lesion"] == lesion) & (of_experiment["truth_ml"] == 0)]
            alarms = without["pred_ml"] > 0
            share, low, high = bootstrap_interval(alarms, without["person"])
            rows.append((network, loss, lesion, len(without), int(alarms.sum()), share, low, high, without["pred_ml"].mean()))
    columns = [*EXPERIMENT, "lesion", "scans", "with_alarm", "share", "low", "high", "mean_ml"]
    return pd.DataFrame(rows, columns=columns)
