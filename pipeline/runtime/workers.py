"""Work on many scans in parallel: in threads of this process, or in separate processes, which share no interpreter lock."""

import os
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context, parent_process

import torch

# A third thread brings no speed, because all threads share one interpreter.
THREADS = 2


def workers(processes: int, threads: int = THREADS) -> Executor:
    """Return a pool of `processes` processes with one thread each, or of threads of this process if `processes` is 0.

    Processes are started with `spawn`, because a fork of a process that has used CUDA or OpenMP hangs; their arguments must
    be picklable. They end with the process that started them, also if it is killed.
    """
    if processes == 0:
        return ThreadPoolExecutor(max_workers=threads)
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=begin)


def begin() -> None:
    """Set up this process as a worker: one thread, and an end together with its parent."""
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait until the parent process ends, then end this process too."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
