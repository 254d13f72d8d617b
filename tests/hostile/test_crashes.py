"""kill -9 before any change of a file: the same command then finishes, and leaves the same bytes as if nothing had happened.

`pytest -m slow tests/hostile/test_crashes.py -s` kills each kind of work twelve times and more.
Without `-m slow` it is killed once or twice.
"""

import shutil

import crashing
import numpy as np
import pytest
from model_files import write_model
from stand_ins import DarkIsLesion

SEED = 7


@pytest.fixture(scope="module")
def inputs(phantom_dir, tmp_path_factory):
    """A cohort, two scans of it by themselves, and a model for them."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "data").symlink_to(phantom_dir)
    (folder / "scans").mkdir()
    for path in sorted(phantom_dir.rglob("*t1w*.nii.gz"))[:2]:
        shutil.copy(path, folder / "scans")
    write_model(folder / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion")
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    """Do each kind of work once without a disturbance: how often it changed files, the folder, and what it left.

    The first to train makes the slice store for all.
    """
    done = {}

    def do(work):
        if work not in done:
            out = tmp_path_factory.mktemp(work) / "out"
            done[work] = crashing.carry_out(work, out, inputs), out, crashing.left_behind(out)
            assert done[work][2]
        return done[work]

    return do


@pytest.mark.parametrize(("kills", "in_a_row"), [(1, 2), pytest.param(12, 3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("work", crashing.WORK)
def test_killed_work_ends_with_the_same_bytes(work, kills, in_a_row, undisturbed, inputs):
    """Kill work so many times, a few in a row and then let it end; compare what it left."""
    changes, out, expected = undisturbed(work)
    rng, killed, compared = np.random.default_rng(SEED), 0, 0
    while killed < kills:
        shutil.rmtree(out)
        for moment in rng.integers(1, changes, in_a_row, endpoint=True):
            killed += crashing.carry_out(work, out, inputs, killed_at=moment) is None
        crashing.carry_out(work, out, inputs)
        compared += 1
        found = crashing.left_behind(out)
        if work == "build_store":  # another run may be at work on a young part
            found = {name: content for name, content in found.items() if not name.endswith(".part")}
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
    print(f"\n{work}: {killed} kills, {compared} outcomes compared, none differs")
