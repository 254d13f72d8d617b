"""Connected components against SciPy on the whole volume, and what is made of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from strokelesion.transforms.components import components, largest_component, least_voxels, peaks, without_small

masks = npst.arrays(bool, (7, 5, 6), elements=st.sampled_from([True, False, False, False]))


@pytest.mark.parametrize(("neighbors", "reach"), [(6, 1), (26, 3)])
@given(mask=masks, least=st.integers(0, 5))
def test_components_are_those_of_the_whole_volume_in_order(neighbors, reach, mask, least):
    expected, count = ndimage.label(mask, ndimage.generate_binary_structure(3, reach))
    numbers, sizes = components(torch.as_tensor(mask), neighbors)
    assert np.array_equal(numbers, expected)
    assert sizes.tolist() == [(expected == number).sum() for number in range(count + 1)]
    large = np.isin(expected, [number for number in range(1, count + 1) if sizes[number] >= least])
    assert np.array_equal(without_small(mask, least, neighbors), large)


@given(mask=masks, values=npst.arrays(np.float32, (7, 5, 6), elements=st.floats(0, 1, width=32)))
def test_the_largest_is_one_piece_of_the_most_voxels_and_peaks_are_maxima(mask, values):
    numbers, sizes = components(mask)
    largest = largest_component(mask)
    assert largest.sum() == max([0, *sizes[1:]])
    assert len(np.unique(numbers[largest])) <= 1
    found = peaks(values, numbers, len(sizes))
    assert found.tolist() == [0, *(values[numbers == number].max() for number in range(1, len(sizes)))]


@pytest.mark.parametrize(
    ("volume_ml", "voxel_ml", "voxels"), [(0.06, 0.02, 3), (0.061, 0.02, 4), (0.007, 0.0010000003, 7), (0, 1, 0)]
)
def test_rounding_of_a_voxels_volume_does_not_ask_for_one_more(volume_ml, voxel_ml, voxels):
    assert least_voxels(volume_ml, voxel_ml) == voxels
