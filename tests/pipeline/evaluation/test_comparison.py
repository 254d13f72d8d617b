"""Statistics against loops and answers derived on paper; persons, not scans, are the unit of chance."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strokelesion.pipeline.evaluation.comparison import (
    bootstrap_interval,
    compare,
    compute_p_value,
    correct_p_values,
    count_false_alarms,
    find_best_experiment,
    summarize,
)

# Two runs of 2,000 draws differ in their percentiles by about this, for values spread as the tests' are.
DRAWS_TOLERANCE = 0.02


def a_row(subject, dice, network="UNet", loss="cce", lesion="main", truth_ml=3.0, **more):
    identity = {"network": network, "loss": loss, "fold": "0", "release": "R1.1", "site": "Site1"}
    names = {"person": subject, "subject": subject, "session": "t01"}
    return {**identity, **names, "lesion": lesion, "truth_ml": truth_ml, "pred_ml": 2.0, "dice": dice, **more}


def table_of(network, dices, **more):
    return pd.DataFrame([a_row(f"s{number}", dice, network, **more) for number, dice in enumerate(dices)])


def interval_by_loops(values, persons):
    generator = np.random.default_rng(7)
    names = sorted(set(persons))
    means = []
    for _ in range(2000):
        drawn = []
        for person in generator.choice(names, len(names)):
            drawn += [value for value, owner in zip(values, persons, strict=True) if owner == person]
        means.append(np.mean(drawn))
    return np.mean(values), np.percentile(means, 2.5), np.percentile(means, 97.5)


def test_intervals_equal_a_loop_that_draws_persons():
    generator = np.random.default_rng(0)
    persons = [f"p{number}" for number in generator.integers(0, 30, 50)]
    values = generator.beta(2, 2, 50)
    found = bootstrap_interval(pd.Series(values), pd.Series(persons))
    np.testing.assert_allclose(found, interval_by_loops(values, persons), atol=DRAWS_TOLERANCE)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.randoms())
def test_intervals_hold_the_mean_and_do_not_hang_on_the_order_of_scans(values, random):
    persons = pd.Series([f"p{number}" for number in range(len(values))])
    mean, low, high = bootstrap_interval(pd.Series(values), persons)
    assert mean == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= max(values) + 1e-9
    order = random.sample(range(len(values)), len(values))
    shuffled = pd.Series(values).iloc[order], persons.iloc[order]
    assert bootstrap_interval(*shuffled) == (mean, low, high)


def test_one_person_has_a_mean_but_no_interval_and_undefined_values_are_left_out():
    mean, low, high = bootstrap_interval(pd.Series([0.2, 0.4, np.nan]), pd.Series(["a", "a", "b"]))
    assert mean == pytest.approx(0.3)
    assert np.isnan([low, high]).all()
    assert np.isnan(bootstrap_interval(pd.Series([np.nan]), pd.Series(["a"]))).all()


def test_wilcoxon_of_six_persons_who_all_improve_is_two_in_sixty_four():
    """Of 2^6 equally likely signs two are as extreme: all up, all down."""
    differences = pd.Series([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert compute_p_value(differences, pd.Series(list("abcdef"))) == pytest.approx(2 / 64)
    assert compute_p_value(differences * 0, pd.Series(list("abcdef"))) == 1
    # Sessions of one person are one observation: three persons, two of 2^3 signs.
    assert compute_p_value(differences, pd.Series(list("aabbcc"))) == pytest.approx(2 / 8)


def test_holm_by_hand():
    """Sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04; never falling, so .06 at the end."""
    assert correct_p_values([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_p_values([0.6, 0.7]) == [1, 1]
    assert correct_p_values([]) == []


def test_the_best_is_tested_against_each_other_over_the_scans_that_both_have():
    scores = pd.concat(
        [table_of("ResUNet", [0.8, 0.7, 0.9, 0.6]), table_of("UNet", [0.1, 0.2, 0.1, 0.2]), table_of("SegNet", [1.0])],
        ignore_index=True,
    )
    assert find_best_experiment(scores) == ("ResUNet", "cce")
    rows = compare(scores).set_index("network")
    assert rows["is_best"].to_dict() == {"ResUNet": True, "SegNet": False, "UNet": False}
    assert rows["scans"].to_dict() == {"ResUNet": 4, "SegNet": 1, "UNet": 4}
    assert rows.loc["UNet", "difference"] == pytest.approx(-0.6)
    assert rows.loc["SegNet", "difference"] == pytest.approx(0.2)
    # Four persons, all down: two of 2^4 signs; two comparisons, so Holm doubles the smaller p.
    assert rows.loc["UNet", "p"] == pytest.approx(2 / 16)
    assert rows.loc["UNet", "p_holm"] == pytest.approx(2 / 8)
    assert np.isnan(rows.loc["ResUNet", "p_holm"])


def test_scans_without_the_class_count_as_false_alarms_and_nowhere_else():
    scores = pd.DataFrame(
        [
            a_row("a", 0.5, lesion="sub", truth_ml=1.0, pred_ml=4.0),
            a_row("b", np.nan, lesion="sub", truth_ml=0.0, pred_ml=3.0),
            a_row("c", np.nan, lesion="sub", truth_ml=0.0, pred_ml=0.0),
        ]
    )
    alarms = count_false_alarms(scores).set_index("lesion").loc["sub"]
    assert (alarms["scans"], alarms["with_alarm"], alarms["share"], alarms["mean_ml"]) == (2, 1, 0.5, 1.5)
    means = summarize(scores).set_index(["lesion", "metric"])
    assert means.loc[("sub", "dice"), ["mean", "scans"]].tolist() == [0.5, 1]
    assert means.loc[("sub", "pred_ml"), ["mean", "scans"]].tolist() == [4.0, 1]
