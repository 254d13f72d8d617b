"""Classes of lesions by their volume, the same in every table and figure."""

from collections.abc import Sequence
from math import inf

import pandas as pd

SIZE_EDGES_ML = (0, 0.1, 1, 10, 50, inf)
SIZE_NAMES = ("< 0.1", "0.1 to 1", "1 to 10", "10 to 50", "≥ 50")


def bin_sizes(volumes_ml: Sequence[float] | pd.Series) -> pd.Series:
    """Return the name of the size class of each lesion; a volume on an edge is in the upper class."""
    return pd.cut(pd.Series(volumes_ml, dtype=float), SIZE_EDGES_ML, right=False, labels=SIZE_NAMES)
