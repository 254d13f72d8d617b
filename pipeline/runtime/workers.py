"""Work on many scans at once: in threads of this process, or in processes of their own, which do not wait for each other."""

import os
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context, parent_process

import torch

# Of threads that share one interpreter a third brings nothing.
THREADS = 2


def workers(processes: int, threads: int = THREADS) -> Executor:
    """Return a pool: so many processes with one thread each, or, with 0, threads of this process.

    Processes start anew (`spawn`), because a copy of a process that has used CUDA or OpenMP hangs; what they are given must
    be picklable. They end with the process that started them, also when that is killed.
    """
    if processes == 0:
        return ThreadPoolExecutor(max_workers=threads)
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=begin)


def begin() -> None:
    """Make this process a worker."""
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end, too."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
