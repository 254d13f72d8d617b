"""Commands in several processes that know of each other, as torch's launcher starts them.

The processes are forks of one that has imported everything, see `crashing`; `test_distributed` uses the launcher itself, too.
"""

import os
import socket
from multiprocessing.connection import wait

import torch
from configured import configured
from crashing import QUICK, run_command, start
from stand_ins import DarkIsLesion
from torch import nn

from strokelesion.pipeline.runtime.files import write_json


class DarkAtALevel(DarkIsLesion):
    """The same with a weight, as networks to train have."""

    def __init__(self, dark=0.5):
        super().__init__()
        self.dark = nn.Parameter(torch.tensor(dark))


def run(command, bundle, out, **options):
    """Run a command; its exit status, if it has one, goes to a file."""
    try:
        run_command(command, bundle, **options)
    except SystemExit as end:
        (out / f"status_{os.environ.get('RANK', 0)}").write_text(str(end.code))


def validate(bundle, out, **options):
    """Validate a fresh network once, and write the metrics of this process."""
    evaluator = configured(bundle, **{**QUICK, **options}).get_parsed_content("validate::evaluator")
    evaluator.run()
    write_json(
        out / f"metrics_{os.environ.get('RANK', 0)}.json", {**evaluator.state.metrics, "scans": evaluator.state.iteration}
    )


def together(count, work, *given, **options):
    """Do work in so many processes at once, and return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [start(in_place, {"RANK": rank, "LOCAL_RANK": rank, **meeting}, work, given, options) for rank in range(count)]
    running = list(processes)
    while running:
        wait([process.sentinel for process in running])
        if any(process.exitcode for process in processes):  # the others would wait for it
            for process in running:
                process.kill()
        running = [process for process in running if process.is_alive()]
    return [process.exitcode for process in processes]


def in_place(place, work, given, options):
    """Do work in this process, which the launcher would have given a place among others."""
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    work(*given, **options)
