"""The training of the Keras study on a GPU: 100 epochs of 7,917 slices of 192x224, and how busy the GPU is.

    python tests/benchmarks/time_gpu.py [--parts training …] [--json gpu.json]
    python tests/benchmarks/time_gpu.py --device cpu --quick        # tries out whether everything runs

It runs the trainer of bundles/resunet.json as the command `training` does: loader, augmentation, network, loss, optimizer and
number formats are the bundle's. The slice store, 203 scans with 39 slices each, is written by this program from the slices of
one phantom through its infarct. Brain extraction and the making of a store are not measured.

| part | what |
|---|---|
| training | whole epochs with nothing but the handler that seeds them |
| handlers | with all handlers of the bundle: after each epoch validation of some held-out scans, checkpoints, TensorBoard |
| breakdown | milliseconds of each stage of a step; the GPU is waited for after each, so their sum is more than a step |
| inference | the network alone for one scan, at half precision: fitting the window, and of 197x233x189, tiled |
| batch64 | as training, 64 slices at once in place of 32 |

*Busy* is told in two ways: the share of the time in which some kernel ran, as the driver samples it (NVML), and the time in
which kernels ran in 20 steps under torch's profiler, as a share of the time that such steps take without it.
"""

import argparse
import gc
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from math import nan
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from candidates.bundle import keep_seeding, read_bundle
from candidates.measured import installed, machine
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from strokelesion.pipeline.cohorts.phantom_anatomy import Stroke, render
from strokelesion.pipeline.training.slice_store import pack, store_path

STUDY_EPOCHS = 100
INFARCT = Stroke(center_mm=(44, -8, 18), aspect=(0.8, 1.4, 1.1), volume_ml=40, darkness=0.8, rim_mm=2)
SAMPLED_STEPS = 10
PARTS = ("training", "handlers", "breakdown", "inference", "batch64")
FIGURES = ("s an epoch", "slices/s", "ms a step", "100 epochs, min", "busy NVML %", "busy kernels %", "kernel ms a step")
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
    whole: tuple[int, int, int] = (197, 233, 189)
    spacing_mm: float = 1.0
    warm_up: int = 20
    steps: int = 32
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

    def peak_gib(self) -> float:
        """Return the most memory of the GPU that was in use."""
        return nan if self.device == "cpu" else torch.cuda.max_memory_allocated() / 2**30


QUICK = {"scans": 4, "slices_each": 10, "held_out": 1, "held_out_slices": 8, "size": (48, 56), "spacing_mm": 4.0}
QUICK |= {"whole": (48, 60, 8), "warm_up": 1, "steps": 3, "profiled": 2, "epochs": 1, "batch": 2}


class Material:
    """A slice store for the bundle in a folder, of as many slices as the plan says."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.image, label = phantom(plan.size)
        (folder / "empty.nii").touch()  # of all scans: their stores are there, so that nobody reads it
        scan = {"session": "t01", "image": str(folder / "empty.nii")}
        counts = {"training": plan.scans, "held_out": plan.held_out}
        self.sides = {side: [{"subject": f"{side}{n}", **scan} for n in range(count)] for side, count in counts.items()}
        with_lesion = np.flatnonzero(label.flatten(1).any(dim=1))
        middle = np.arange(len(label))[len(label) // 2 - plan.held_out_slices // 2 :]
        self.write_store("train", "training", np.resize(with_lesion, plan.slices_each), label)
        self.write_store("validate", "held_out", np.resize(middle, plan.held_out_slices), label)

    def write_store(self, section: str, side: str, chosen: np.ndarray, label: torch.Tensor) -> None:
        """Write the chosen slices as the store of each scan of a side."""
        config = self.config(self.plan.batch)
        transform = config.get_parsed_content(f"{section}::preprocessing")
        for record in self.sides[side]:
            path = store_path(record, transform, Path(config["cache_dir"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, pack(self.image[chosen], label[chosen]), allow_pickle=False)

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


def phantom(size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slices `(D, 1, H, W)` of a phantom, tissue about 1, and their label maps; painted at 2 mm, shown at 1."""
    image, (mask,) = render([INFARCT], 2.0, 1.0, np.random.default_rng(0), np.random.default_rng(1))
    volumes = (torch.from_numpy(np.ascontiguousarray(each)).float()[None].permute(3, 0, 1, 2) for each in (image, mask))
    coarse, lesion = (F.interpolate(each.repeat_interleave(2, dim=0), size=size, mode="bilinear") for each in volumes)
    return coarse / coarse[coarse > 10].median(), (lesion > 0.5).to(torch.uint8)


class Watch:
    """Watch a trainer: a warm-up, then whole epochs that are timed, then an epoch whose first steps are profiled."""

    def __init__(self, trainer: SupervisedTrainer, plan: Plan) -> None:
        self.plan, self.at_s, self.kernels_ms, self.driver = plan, list[float](), nan, list[float]()
        kind = torch.profiler.ProfilerActivity.CPU if plan.device == "cpu" else torch.profiler.ProfilerActivity.CUDA
        self.profiler, self.profiled = torch.profiler.profile(activities=[kind]), 0
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.count)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.at_s.append(plan.now()))

    def count(self, engine: Engine) -> None:
        """A step is done."""
        if engine.state.iteration == self.plan.warm_up:
            engine.terminate_epoch()
        elif engine.state.iteration % SAMPLED_STEPS == 0:
            with suppress(Exception):  # no GPU, or no NVML
                self.driver.append(torch.cuda.utilization())
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
    row |= {"busy NVML %": fmean(watch.driver or [nan]), "peak GiB": plan.peak_gib()}
    row |= {"busy kernels %": 100 * watch.kernels_ms / step_ms, "kernel ms a step": watch.kernels_ms}
    remark = f"{len(spans)} epochs"
    if has_handlers:
        each_s = [end - begin for begin, end in zip(validations_s[::2], validations_s[1::2], strict=True)]
        scan_s = median(each_s[1:] or each_s) / plan.held_out
        remark += f", {plan.held_out} scans validated after each, {1000 * scan_s:.0f} ms a scan"
    table.add(**row, remark=remark)


def break_down(material: Material, table: Table) -> None:
    """Measure the stages of a step, one after the other, for both sizes of batches."""
    for batch in (material.plan.batch, 2 * material.plan.batch):
        material.plan.release()
        trainer = material.config(batch).get_parsed_content("train::trainer")
        spent_ms: dict[str, list[float]] = defaultdict(list)
        batches = iter(trainer.data_loader)
        for _ in range(min(material.plan.steps, len(trainer.data_loader))):
            at_s = material.plan.now()
            for name in take_step(trainer, batches):
                before_s, at_s = at_s, material.plan.now()
                spent_ms[name].append(1000 * (at_s - before_s))
        told = ", ".join(f"{name} {median(values[1:]):.2f}" for name, values in spent_ms.items())
        table.add(part="breakdown", batch=batch, remark=f"ms a step, waiting after each: {told}")


def take_step(trainer: SupervisedTrainer, batches: Iterator[Any]) -> Iterator[str]:
    """Take a step as MONAI's trainer does, and yield the name of each stage after it."""
    batch = next(batches)
    yield "loading"
    image, label = trainer.prepare_batch(batch, trainer.state.device, trainer.non_blocking)
    yield "augmentation"
    trainer.network.train()
    trainer.optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cuda", enabled=trainer.amp, **trainer.amp_kwargs):
        logits = trainer.inferer(image, trainer.network)
        yield "forward"
        loss = trainer.loss_function(logits, label).mean()
        yield "loss"
    (trainer.scaler.scale(loss) if trainer.scaler else loss).backward()
    yield "backward"
    if trainer.scaler:
        trainer.scaler.step(trainer.optimizer)
        trainer.scaler.update()
    else:
        trainer.optimizer.step()
    yield "optimizer"


@torch.no_grad()
def infer(material: Material, table: Table) -> None:
    """Measure the network alone for a scan, as the bundle's inferer computes it, without and with neighbors."""
    plan = material.plan
    volume = material.image[:, 0].permute(1, 2, 0)[None, None].float()
    for neighbors, shape in product((0, 2), ((*plan.size, plan.whole[2]), plan.whole)):
        plan.release()
        config = read_bundle("resunet", material.folder, device=plan.device, neighbors=neighbors, spacing_mm=plan.spacing_mm)
        inferer, network = (config.get_parsed_content(name) for name in ("inferer", "network"))
        network.eval()
        scan, at_s = F.interpolate(volume, size=shape, mode="trilinear").to(plan.device), [plan.now()]
        for _ in range(4):
            with torch.autocast("cuda", enabled=plan.device != "cpu"):
                inferer(scan, network)
            at_s.append(plan.now())
        scan_s = median(end - begin for begin, end in pairwise(at_s[1:]))
        told = f"{'x'.join(map(str, shape))}, {neighbors} neighbors: {scan_s:.4f} s, network alone"
        table.add(**{"part": "inference", "peak GiB": plan.peak_gib(), "remark": told})


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
            {"breakdown": break_down, "inference": infer}.get(part, partial(train, part))(material, table)


if __name__ == "__main__":
    main()
