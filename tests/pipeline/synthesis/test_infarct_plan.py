"""Planned infarcts lie in their territories, have the stated volumes, and are as many as stated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strokelesion.pipeline.synthesis.infarct_plan import draw_infarcts


@settings(max_examples=100)
@given(seed=st.integers(0, 2**31))
def test_infarcts_keep_to_their_territories_and_sides(seed):
    infarcts = draw_infarcts(np.random.default_rng(seed))
    assert infarcts[0].volume_ml == max(infarct.volume_ml for infarct in infarcts)
    for infarct in infarcts:
        x, y, z = infarct.territory.center_mm
        assert infarct.volume_ml <= infarct.territory.most_ml
        assert np.linalg.norm(np.subtract((abs(infarct.center_mm[0]), *infarct.center_mm[1:]), (x, y, z))) < 35
        assert (infarct.side == "Right") == (infarct.center_mm[0] > 0)


def test_volumes_and_numbers_are_distributed_as_stated():
    cohort = [draw_infarcts(np.random.default_rng([0, number])) for number in range(600)]
    totals_ml = [sum(infarct.volume_ml for infarct in infarcts) for infarcts in cohort]
    np.testing.assert_allclose(np.quantile(totals_ml, (0.25, 0.5, 0.75)), (8, 15, 30), rtol=0.3)
    assert np.mean([len(infarcts) > 1 for infarcts in cohort]) == pytest.approx(0.5, abs=0.1)
