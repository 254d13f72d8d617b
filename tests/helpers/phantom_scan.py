"""One scan of the phantom in memory, with a large infarct of the middle cerebral artery."""

from strokelesion.pipeline.synthesis.infarct_plan import TERRITORIES, Infarct
from strokelesion.pipeline.synthesis.phantom import plan_scans, simulate_scan

INFARCT = Infarct(TERRITORIES[0], center_mm=(44, -8, 18), volume_ml=40)


def phantom_scan(voxel_mm, infarcts=(INFARCT,), **changes):
    """Return a sample with T1, lesion numbers, tissues and brain, each `(1, X, Y, Z)`; `changes` are those of the plan."""
    (plan,) = plan_scans(0, sites=1, seed=0)
    return simulate_scan({**plan, "infarcts": infarcts, **changes}, voxel_mm)
