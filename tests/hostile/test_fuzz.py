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


class Reader:
    """One process beside this one that reads damaged files, again and again; a crash makes another one."""

    def __init__(self, folder):
        self.folder, self.pool = folder, None
        self.start()
        self.before = self.pool.submit(fuzzing.memory_bytes).result()

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, mp_context=context, initializer=fuzzing.prepare, initargs=(self.folder,))

    def outcome(self, kind, number):
        """Read one case; return what became of it."""
        try:
            outcome, memory = self.pool.submit(fuzzing.attempt, self.folder, kind, number).result(PATIENCE_S)
        except BrokenProcessPool:
            self.start()
            return "crash or hang"
        return outcome if memory <= self.before + fuzzing.MOST_BYTES else f"{memory - self.before} bytes of memory"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    reader = Reader(tmp_path_factory.mktemp("damaged"))
    yield reader
    reader.pool.shutdown()


@pytest.mark.parametrize("kind", fuzzing.KINDS)
@pytest.mark.parametrize("cases", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_damaged_files_are_refused_or_read_rightly(cases, kind, reader):
    outcomes = {number: reader.outcome(kind, number) for number in range(cases)}
    counts = Counter(outcomes.values())
    print(f"\n{kind}: {dict(counts)}")
    assert {number: outcome for number, outcome in outcomes.items() if outcome not in ("refused", "survived")} == {}
    assert counts["refused"] > 5
