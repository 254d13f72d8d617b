"""Pools of threads and of processes: the same results, and no process outlives the one that it works for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from strokelesion.pipeline.runtime.workers import workers

KILLED = """
import os, signal, time
from strokelesion.pipeline.runtime.workers import workers

if __name__ == "__main__":
    pool = workers(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("processes", [0, 1])
def test_pools_compute(processes):
    with workers(processes) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]


def test_processes_have_one_thread_each():
    with workers(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
        assert pool.submit(os.getpid).result() != os.getpid()


def is_alive(process):
    """Whether a process goes on; those that ended wait for somebody to ask how."""
    state = Path(f"/proc/{process}/stat")
    return state.exists() and ") Z" not in state.read_text()


def test_a_worker_ends_with_the_process_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not is_alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker goes on without its parent")
