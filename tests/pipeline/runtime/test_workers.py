"""Pools of threads and of processes: the same results, and no process outlives the one that it works for."""

import os
import subprocess
import sys

import pytest
import torch

from strokelesion.pipeline.runtime.workers import workers

# Names its worker, and is then killed; the worker inherits its standard output.
KILLED = """
import os, signal
from strokelesion.pipeline.runtime.workers import workers

if __name__ == "__main__":
    pool = workers(1)
    print(pool.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("processes", [0, 1])
def test_pools_compute_and_processes_have_one_thread_each(processes):
    with workers(processes) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]
        if processes:
            assert pool.submit(torch.get_num_threads).result() == 1
        assert (pool.submit(os.getpid).result() == os.getpid()) is (processes == 0)


def test_a_worker_ends_with_the_process_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert int(process.stdout.readline()) != process.pid
        assert process.stdout.read() == ""  # ends when the last process has ended that can write there
