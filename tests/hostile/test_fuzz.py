"""Damaged files in every format: refused in words or read rightly; never a crash, a hang, or memory without end.

A few hundred cases here; `pytest -m slow tests/hostile/test_fuzz.py -s` tries 10,500. A case is a kind and a number:
`fuzzing.write_damaged(folder, kind, number)` writes it again.
"""

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import fuzzing
import pytest

# Of waiting, not of work: that is limited to MOST_CPU_S.
PATIENCE_S = 600


def try_all(folder, kind, numbers):
    """Read cases in one process beside this one; return how many were refused and survived, and all others by number."""
    counts, lost = Counter(), {}
    context = multiprocessing.get_context("spawn")

    def start():
        return ProcessPoolExecutor(1, mp_context=context, initializer=fuzzing.prepare, initargs=(folder,))

    pool = start()
    before = pool.submit(fuzzing.memory_bytes).result()
    for number in numbers:
        try:
            outcome, memory = pool.submit(fuzzing.attempt, folder, kind, number).result(PATIENCE_S)
        except BrokenProcessPool:
            outcome, memory = "crash or hang", 0
            pool = start()
        if memory > before + fuzzing.MOST_BYTES:
            outcome = f"{memory - before} bytes of memory"
        counts[outcome] += 1
        if outcome not in ("refused", "survived"):
            lost[number] = outcome
    pool.shutdown()
    return counts, lost


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_damaged_files_are_refused_or_read_rightly(kind, tmp_path):
    counts, lost = try_all(tmp_path, kind, range(60))
    assert lost == {}
    assert counts["refused"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_many_damaged_files_are_refused_or_read_rightly(kind, tmp_path):
    counts, lost = try_all(tmp_path, kind, range(1500))
    print(f"\n{kind}: {dict(counts)}")
    assert lost == {}
