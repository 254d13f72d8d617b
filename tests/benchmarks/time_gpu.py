"""The training of the Keras study on a GPU: 100 epochs of 7,917 slices of 192x224, and how busy the GPU is.

    python tests/benchmarks/time_gpu.py [--parts training …] [--json gpu.json]
    python tests/benchmarks/time_gpu.py --device cpu --quick        # tries out whether everything runs

It runs the trainer of bundles/resunet.json as the command `training` does: loader, augmentation, network, loss, optimizer and
number formats are the bundle's. The slice store, 203 scans with 39 slices each, is written by this program; what they show
is no matter for the time. Finding brains and making a store are not measured.

| part | what |
|---|---|
| training | whole epochs with nothing but the handler that seeds them |
| handlers | with all handlers of the bundle: after each epoch validation of some held-out scans, checkpoints, TensorBoard |
| batch64 | as training, 64 slices at once in place of 32 |

*Busy* is the time in which kernels ran in 20 steps under torch's profiler, as a share of the time of such steps without it.
"""

import argparse
import gc
import json
import time
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from candidates.bundle import keep_seeding, read_bundle
from candidates.measured import installed, machine
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from strokelesion.pipeline.training.slice_store import pack, store_path

STUDY_EPOCHS = 100
PARTS = ("training", "handlers", "batch64")
FIGURES = ("s an epoch", "slices/s", "ms a step", "100 epochs, min", "busy %", "kernel ms a step")
COLUMNS = ("part", "batch", *FIGURES, "peak GiB", "remark")


@dataclass(frozen=True)
class Plan:
    """How much there is to do."""

    device: str = "cuda"
    scans: int = 203
    slices_each: int = 39
    held_out: int = 4
    held_out_slices: int = 150
    size: tuple[int, int] = (192, 224)
    spacing_mm: float = 1.0
    warm_up: int = 20
    profiled: int = 20
    epochs: int = 2
    batch: int = 32

    def now(self) -> float:
        """Return the time when the GPU has done all it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def release(self) -> None:
        """Give memory back; engines and their handlers hold each other."""
        gc.collect()
        if self.device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


QUICK = {"scans": 4, "slices_each": 10, "held_out": 1, "held_out_slices": 8, "size": (48, 56), "spacing_mm": 4.0}
QUICK |= {"warm_up": 1, "profiled": 2, "epochs": 1, "batch": 2}


class Material:
    """A slice store for the bundle in a folder, of as many slices as the plan says."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        (folder / "empty.nii").touch()  # of all scans: their stores are there, so that nobody reads it
        scan = {"session": "t01", "image": str(folder / "empty.nii")}
        counts = {"training": plan.scans, "held_out": plan.held_out}
        self.sides = {side: [{"subject": f"{side}{n}", **scan} for n in range(count)] for side, count in counts.items()}
        self.write_store("train", self.sides["training"], plan.slices_each)
        self.write_store("validate", self.sides["held_out"], plan.held_out_slices)

    def write_store(self, section: str, records: list[dict[str, str]], slices: int) -> None:
        """Write slices of noise with a square lesion as the store of each scan."""
        height, width = self.plan.size
        image, label = torch.rand(slices, 1, height, width), torch.zeros(slices, 1, height, width, dtype=torch.uint8)
        label[..., height // 3 : height // 2, width // 3 : width // 2] = 1
        config = self.config(self.plan.batch)
        transform = config.get_parsed_content(f"{section}::preprocessing")
        for record in records:
            path = store_path(record, transform, Path(config["cache_dir"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, pack(image, label), allow_pickle=False)

    def config(self, batch: int, epochs: int = 1, handlers: bool = False) -> Any:
        """Return the bundle with this material."""
        options = {"device": self.plan.device, "batch_size": batch, "epochs": epochs, "spacing_mm": self.plan.spacing_mm}
        run_dir = str(self.folder / "runs" / str(time.monotonic_ns()))
        config = read_bundle("resunet", self.folder, slices="lesion", amp=True, run_dir=run_dir, **options)
        config["sides"] = {"_target_": "strokelesion.pipeline.cohorts.splits.Split", **self.sides}
        config["train"]["trainer"]["amp_kwargs"] = {"dtype": "$torch.float16"}
        if not handlers:
            return keep_seeding(config)
        config.parse()
        return config


class Watch:
    """Watch a trainer: a warm-up, then whole epochs that are timed, then an epoch whose first steps are profiled."""

    def __init__(self, trainer: SupervisedTrainer, plan: Plan) -> None:
        self.plan, self.at_s, self.kernels_ms = plan, list[float](), nan
        kind = torch.profiler.ProfilerActivity.CPU if plan.device == "cpu" else torch.profiler.ProfilerActivity.CUDA
        self.profiler, self.profiled = torch.profiler.profile(activities=[kind]), 0
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.count)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.at_s.append(plan.now()))

    def count(self, engine: Engine) -> None:
        """A step is done."""
        if engine.state.iteration == self.plan.warm_up:
            engine.terminate_epoch()
        if engine.state.epoch == self.plan.epochs + 2:
            if self.profiled == 0:
                self.plan.now()
                self.profiler.start()
            self.profiled += 1
            if self.profiled > self.plan.profiled:
                self.stop_profiler()
                engine.terminate()

    def stop_profiler(self) -> None:
        """Add up the time in which kernels ran, which may overlap."""
        self.plan.now()
        self.profiler.stop()
        wanted = torch.autograd.DeviceType.CPU if self.plan.device == "cpu" else torch.autograd.DeviceType.CUDA
        events = [one for one in self.profiler.events() if one.device_type == wanted]
        spans = [one.time_range for one in events if not getattr(one, "is_user_annotation", False)]
        begin, end = np.array(sorted((span.start, span.end) for span in spans)).T
        reached = np.maximum.accumulate(np.concatenate([[-np.inf], end[:-1]]))
        self.kernels_ms = float(np.maximum(0, end - np.maximum(begin, reached)).sum()) / 1000 / self.plan.profiled


class Table:
    """Rows of a markdown table, printed and written as they come."""

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self.path, self.content = path, {"about": about, "rows": list[dict[str, Any]]()}
        print(about, "", *(f"| {' | '.join(cells)} |" for cells in (COLUMNS, ["---"] * len(COLUMNS))), sep="\n", flush=True)

    def add(self, **row: Any) -> None:
        """Take a row; what it does not say stays empty."""
        self.content["rows"].append(row)
        cells = (row.get(column, "") for column in COLUMNS)
        print("|", " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells), "|", flush=True)
        if self.path is not None:
            self.path.write_text(json.dumps(self.content, indent=2))


def train(part: str, material: Material, table: Table) -> None:
    """Measure one way to train."""
    plan, has_handlers, batch = material.plan, part == "handlers", material.plan.batch * (1 + (part == "batch64"))
    plan.release()
    config = material.config(batch, plan.epochs + (1 if has_handlers else 2), has_handlers)
    trainer, evaluator = (config.get_parsed_content(name) for name in ("train::trainer", "validate::evaluator"))
    assert len(trainer.data_loader.sampler) == plan.scans * plan.slices_each
    watch, validations_s = Watch(trainer, plan), list[float]()
    for event in (Events.STARTED, Events.COMPLETED):
        evaluator.add_event_handler(event, lambda: validations_s.append(plan.now()))
    trainer.run()
    spans = list(pairwise(watch.at_s[: plan.epochs + 1]))
    epoch_s = median(end - begin for begin, end in spans)
    step_ms = 1000 * fmean(end - begin for begin, end in spans) / len(trainer.data_loader)
    row: dict[str, Any] = {"part": part, "batch": batch, "s an epoch": epoch_s, "ms a step": step_ms}
    row |= {"slices/s": plan.scans * plan.slices_each / epoch_s, "100 epochs, min": STUDY_EPOCHS * epoch_s / 60}
    row |= {"busy %": 100 * watch.kernels_ms / step_ms, "kernel ms a step": watch.kernels_ms}
    row["peak GiB"] = nan if plan.device == "cpu" else torch.cuda.max_memory_allocated() / 2**30
    remark = f"{len(spans)} epochs"
    if has_handlers:
        each_s = [end - begin for begin, end in zip(validations_s[::2], validations_s[1::2], strict=True)]
        scan_s = median(each_s[1:] or each_s) / plan.held_out
        remark += f", {plan.held_out} scans validated after each, {1000 * scan_s:.0f} ms a scan"
    table.add(**row, remark=remark)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    plan = Plan(**{**(QUICK if arguments.quick else {}), "device": arguments.device})
    gpu = torch.cuda.get_device_name() if arguments.device != "cpu" else "none"
    versions = {**installed(("torch", "monai", "pytorch-ignite")), "cudnn": torch.backends.cudnn.version()}
    table = Table(arguments.json, {**machine(), "gpu": gpu, **versions})
    with TemporaryDirectory() as folder:
        material = Material(Path(folder), plan)
        for part in arguments.parts:
            train(part, material, table)


if __name__ == "__main__":
    main()
