"""The training of the Keras study on a GPU: 100 epochs of 7,917 slices of 192x224, and how busy the GPU is.

    python tests/benchmarks/time_gpu.py [--epochs 2] [--parts training …] [--limit_s 58] [--json gpu.json]
    python tests/benchmarks/time_gpu.py --device cpu --quick        # tries out whether everything runs

It runs the trainer of bundles/resunet.json as the command `training` does: loader, augmentation, network, loss, optimizer and
number formats are the bundle's. The slice store is written by this program where the bundle looks for it: 203 scans with 39
slices each, which are those of one phantom through its infarct, over and over. What is in them is no matter for the time.
Brain extraction and the making of a store, once in a data set's life, are not measured.

| part | what |
|---|---|
| training | whole epochs with nothing but the handler that seeds them |
| handlers | with all handlers of the bundle: after each epoch validation of some held-out scans, checkpoints, TensorBoard |
| breakdown | milliseconds of each stage of a step; the GPU is waited for after each, so their sum is more than a step |
| inference | the network alone for one scan, at half precision: fitting the window, and of 197x233x189, tiled |
| batch64 | as training, 64 slices at once in place of 32 |
| bf16 | steps at bfloat16 in place of float16, for both sizes of batches |
| search | steps with cuDNN's fastest kernels, which are not the same each time; the bundle asks for the same ones |
| compiled | steps through `torch.compile`; compiling takes a minute, so only when asked for |

Where only steps are measured, an epoch's time is computed from them. *Busy* is told in two ways: the share of the time in which
some kernel ran, as the driver samples it (NVML), and the time in which kernels ran in 20 steps under torch's profiler, as a
share of the time that such steps take without it. After `--limit_s` no further part begins; what was measured is printed and
written at once.
"""

import argparse
import gc
import json
import statistics
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from candidates.bundle import read_bundle
from candidates.machine import describe
from candidates.measured import installed
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer

from strokelesion.pipeline.synthesis.phantom import plan_scans, simulate_scan
from strokelesion.pipeline.training.slice_store import pack, store_path

STUDY_EPOCHS, HELD_OUT_IN_R11 = 100, 46  # scans of a fifth of the persons of ATLAS R1.1
PARTS = ("training", "handlers", "breakdown", "inference", "batch64", "bf16", "search", "compiled")
DEFAULT_PARTS = PARTS[:-1]
COLUMNS = ("part", "batch", "format", "s an epoch", "slices/s", "ms a step", "100 epochs, min", "busy NVML %")
COLUMNS = (*COLUMNS, "busy kernels %", "kernel ms a step", "peak GiB", "remark")


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
    steps: int = 60
    profiled: int = 20
    epochs: int = 2
    least_batch: int = 32

    def synchronize(self) -> None:
        """Wait until the GPU has done all it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def now(self) -> float:
        """Return the time when the GPU is done."""
        self.synchronize()
        return time.perf_counter()


QUICK = {"scans": 4, "slices_each": 10, "held_out": 1, "held_out_slices": 8, "size": (48, 56), "spacing_mm": 4.0}
QUICK |= {"warm_up": 1, "steps": 2, "profiled": 2, "epochs": 1, "least_batch": 2}


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    part: str
    doubled: bool = False
    dtype: str = "float16"
    compiled: bool = False
    search: bool = False
    handlers: bool = False
    whole: bool = False

    def batch(self, plan: Plan) -> int:
        """Return how many slices go at once."""
        return plan.least_batch * (1 + self.doubled)

    @property
    def format(self) -> str:
        """What its row says beside the size of its batches."""
        return self.dtype + ", compiled" * self.compiled + ", searched kernels" * self.search


VARIANTS = (
    Variant("training", whole=True),
    Variant("handlers", whole=True, handlers=True),
    Variant("batch64", doubled=True, whole=True),
    Variant("bf16", dtype="bfloat16"),
    Variant("bf16", doubled=True, dtype="bfloat16"),
    Variant("search", search=True),
    Variant("search", doubled=True, search=True),
    Variant("compiled", compiled=True),
    Variant("compiled", doubled=True, compiled=True),
)


class Material:
    """A slice store for the bundle, of as many slices as the plan says.

    Args:
        folder: where all is written.
        plan: how much.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.image, self.label = phantom(plan.size)
        with_lesion = np.flatnonzero(self.label.flatten(1).any(dim=1))
        middle = np.arange(len(self.image))[len(self.image) // 2 - plan.held_out_slices // 2 :]
        self.training = self.records("training", plan.scans)
        self.held_out = self.records("held_out", plan.held_out)
        config = self.config(Variant("store"))
        for side, records, chosen in (
            ("train", self.training, np.resize(with_lesion, plan.slices_each)),
            ("validate", self.held_out, np.resize(middle, plan.held_out_slices)),
        ):
            transform = config.get_parsed_content(f"{side}::preprocessing")
            packed = pack(self.image[chosen], self.label[chosen])
            for record in records:
                path = store_path(record, transform, Path(config["cache_dir"]))
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, packed, allow_pickle=False)

    def records(self, side: str, count: int) -> list[dict[str, str]]:
        """Return records of scans, whose files are empty: their stores are there, so that nobody reads them."""
        folder = self.folder / side
        folder.mkdir(parents=True)
        records = [{"subject": f"{side}{number}", "session": "t01"} for number in range(count)]
        for record in records:
            path = folder / f"{record['subject']}.nii"
            path.touch()
            record["image"] = str(path)
        return records

    def config(self, variant: Variant, epochs: int = 1) -> ConfigParser:
        """Return the bundle with this material, for one way to train."""
        options = {
            "device": self.plan.device,
            "batch_size": variant.batch(self.plan),
            "epochs": epochs,
            "compile": variant.compiled,
        }
        options |= {"slices": "lesion", "spacing_mm": self.plan.spacing_mm, "amp": variant.dtype != "float32"}
        run_dir = self.folder / "runs" / f"{variant.part}_{time.monotonic_ns()}"
        config = read_bundle("resunet", self.folder, **options, run_dir=str(run_dir))
        config["sides"] = {
            "_target_": "strokelesion.pipeline.cohorts.splits.Split", "training": self.training, "held_out": self.held_out,
        }  # fmt: skip
        config["train"]["trainer"]["amp_kwargs"] = {"dtype": f"$torch.{variant.dtype}"}
        if not variant.handlers:
            kept = [one for one in config["train"]["handlers"] if one["_target_"].endswith("EpochSeeds")]
            config["train"]["handlers"] = kept
        config.parse()
        return config

    def engines(self, variant: Variant, epochs: int = 1) -> tuple[SupervisedTrainer, Engine]:
        """Return the trainer that `training` runs, and what validates for it."""
        config = self.config(variant, epochs)
        trainer: SupervisedTrainer = config.get_parsed_content("train::trainer")
        evaluator: Engine = config.get_parsed_content("validate::evaluator")
        if variant.search:
            trainer.add_event_handler(Events.EPOCH_STARTED, let_cudnn_search)
        return trainer, evaluator


def let_cudnn_search(trainer: Engine) -> None:
    """Take back what the seeding of an epoch has just said."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True


def phantom(size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slices `(D, 1, H, W)` of a phantom, tissue about 1, and their label maps; painted at 2 mm, shown at 1."""
    sample = simulate_scan(plan_scans(0, sites=1, seed=0, like_atlas=False)[0], 2.0, like_atlas=False)
    volumes = (each.as_tensor().float().permute(3, 0, 1, 2) for each in (sample["image"], sample["lesions"]))
    coarse, lesion = (F.interpolate(each.repeat_interleave(2, dim=0), size=size, mode="bilinear") for each in volumes)
    return coarse / coarse[coarse > 10].median(), (lesion > 0.5).to(torch.uint8)


class Utilization:
    """The share of time in which the GPU works, as its driver samples it, read in a thread."""

    PAUSE_S = 0.05

    def __init__(self) -> None:
        self.read = self.reader()
        self.samples: list[tuple[float, float]] = []
        threading.Thread(target=self.follow, daemon=True).start()

    @staticmethod
    def reader() -> Callable[[], float] | None:
        """Return what reads percent; None where nothing can."""
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            pynvml.nvmlDeviceGetUtilizationRates(handle)
            return lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        except Exception as error:
            print(f"no NVML ({error}); trying nvidia-smi", flush=True)
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

        def ask() -> float:
            return float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0])

        try:
            ask()
        except Exception as error:
            print(f"no nvidia-smi either ({error})", flush=True)
            return None
        return ask

    def follow(self) -> None:
        """Read until the program ends."""
        while self.read is not None:
            self.samples.append((time.perf_counter(), self.read()))
            time.sleep(self.PAUSE_S)

    def mean(self, begin_s: float, end_s: float) -> float:
        """Return the mean between two times; the driver's own window is up to a second, so the first one is left out."""
        begin_s += min(1.0, (end_s - begin_s) / 2)
        return statistics.fmean([percent for at_s, percent in self.samples if begin_s <= at_s <= end_s] or [nan])


@dataclass
class Watch:
    """Let a trainer run: a warm-up, then whole epochs or some steps that are timed, then steps under the profiler."""

    trainer: SupervisedTrainer
    variant: Variant
    plan: Plan
    epochs_s: list[float] = field(default_factory=list)
    scan_s: list[float] = field(default_factory=list)
    spans: list[tuple[float, float, int, int]] = field(default_factory=list)  # begin, end, slices, steps
    kernels_ms: float = nan
    longest: list[tuple[str, float]] = field(default_factory=list)

    def run(self) -> None:
        """Do all of it."""
        self.slices = self.steps = 0
        self.profiler: Any = None
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self.count)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        self.trainer.run()

    def begin(self) -> None:
        """Time from now on."""
        self.begun_s, self.slices, self.steps = self.plan.now(), 0, 0

    def end(self) -> float:
        """Keep what was done since."""
        end_s = self.plan.now()
        self.spans.append((self.begun_s, end_s, self.slices, self.steps))
        return end_s - self.begun_s

    def count(self, engine: Engine) -> None:
        """A step is done."""
        self.slices += len(engine.state.batch["image"])
        self.steps += 1
        within = engine.state.iteration
        if engine.state.epoch == 1:
            if within == self.plan.warm_up:
                if self.variant.whole:
                    engine.terminate_epoch()
                else:
                    self.begin()
            if not self.variant.whole and within == self.plan.warm_up + self.plan.steps:
                self.end()
                self.start_profiler()
        elif engine.state.epoch == self.plan.epochs + 2 and self.profiler is None:
            if self.variant.handlers:
                engine.terminate()
            else:
                self.start_profiler()
        if self.profiler is not None and self.steps == self.plan.profiled:
            self.stop_profiler()
            engine.terminate()

    def end_epoch(self, engine: Engine) -> None:
        """An epoch is over, with all that the bundle does after it."""
        if not self.variant.whole or self.profiler is not None:
            return
        if engine.state.epoch > 1:
            self.epochs_s.append(self.end())
        if engine.state.epoch <= self.plan.epochs + 1:
            self.begin()

    def start_profiler(self) -> None:
        """See every kernel from now on."""
        kind = torch.profiler.ProfilerActivity.CPU if self.plan.device == "cpu" else torch.profiler.ProfilerActivity.CUDA
        self.profiler = torch.profiler.profile(activities=[kind])
        self.plan.synchronize()
        self.profiler.start()
        self.steps = 0

    def stop_profiler(self) -> None:
        """Add up what was seen."""
        self.plan.synchronize()
        self.profiler.stop()
        wanted = torch.autograd.DeviceType.CPU if self.plan.device == "cpu" else torch.autograd.DeviceType.CUDA
        events = [
            one for one in self.profiler.events()
            if one.device_type == wanted and not getattr(one, "is_user_annotation", False)
        ]  # fmt: skip
        self.kernels_ms = covered((one.time_range.start, one.time_range.end) for one in events) / 1000 / self.plan.profiled
        totals: dict[str, float] = defaultdict(float)
        for one in events:
            totals[one.name] += (one.time_range.end - one.time_range.start) / 1000 / self.plan.profiled
        self.longest = sorted(totals.items(), key=lambda item: -item[1])[:12]


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of spans."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


class Table:
    """Rows of a markdown table, printed and written as they come."""

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self.path, self.about, self.rows, self.details = path, about, list[dict[str, Any]](), list[Any]()
        print(about, "", *(f"| {' | '.join(cells)} |" for cells in (COLUMNS, ["---"] * len(COLUMNS))), sep="\n", flush=True)

    def add(self, row: dict[str, Any]) -> None:
        """Take a row; what it does not say stays empty."""
        self.rows.append(row)
        print("|", " | ".join(shown(row.get(column, "")) for column in COLUMNS), "|", flush=True)
        self.write()

    def detail(self, name: str, figures: Any) -> None:
        """Keep what is too much for a row."""
        self.details.append({"name": name, "figures": figures})
        self.write()

    def write(self) -> None:
        """Write all there is."""
        if self.path is not None:
            self.path.write_text(json.dumps({"about": self.about, "rows": self.rows, "details": self.details}, indent=2))


def shown(value: Any) -> str:
    """Return a cell."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def train(variant: Variant, material: Material, utilization: Utilization, table: Table) -> None:
    """Measure one way to train."""
    plan = material.plan
    started_s = time.perf_counter()
    trainer, evaluator = material.engines(variant, plan.epochs + 2 if variant.whole else 1)
    an_epoch = len(trainer.data_loader.sampler)
    assert an_epoch == plan.scans * plan.slices_each, an_epoch
    watch = Watch(trainer, variant, plan)
    validations_s = validation_times(evaluator, plan)
    watch.run()
    elapsed_s, slices, steps = (sum(values) for values in zip(*((e - b, n, k) for b, e, n, k in watch.spans), strict=True))
    epoch_s = statistics.median(watch.epochs_s) if watch.epochs_s else an_epoch * elapsed_s / slices
    step_ms = 1000 * elapsed_s / steps
    remark = f"{len(watch.epochs_s)} epochs" if watch.epochs_s else f"{steps} steps"
    row: dict[str, Any] = {"part": variant.part, "batch": variant.batch(plan), "format": variant.format}
    row |= {"s an epoch": epoch_s, "slices/s": an_epoch / epoch_s, "ms a step": step_ms}
    row |= {"100 epochs, min": STUDY_EPOCHS * epoch_s / 60, "busy kernels %": 100 * watch.kernels_ms / step_ms}
    row |= {"busy NVML %": statistics.fmean(utilization.mean(b, e) for b, e, *_ in watch.spans)}
    row |= {"kernel ms a step": watch.kernels_ms, "peak GiB": peak_gib(plan)}
    if variant.handlers:
        scan_s = statistics.median(validations_s[1:] or validations_s) / plan.held_out
        remark += f", {plan.held_out} scans validated after each, {1000 * scan_s:.0f} ms a scan"
        remark += f": of {HELD_OUT_IN_R11}, {HELD_OUT_IN_R11 * scan_s:.1f} s"
    table.add({**row, "remark": f"{remark}; {time.perf_counter() - started_s:.1f} s in all"})
    table.detail(
        f"{variant}", {"epochs_s": watch.epochs_s, "longest_kernels_ms": watch.longest, "validations_s": validations_s}
    )


def validation_times(evaluator: Engine, plan: Plan) -> list[float]:
    """Return a list that gets the seconds of each validation."""
    begun_s: list[float] = []
    seconds: list[float] = []
    evaluator.add_event_handler(Events.STARTED, lambda engine: begun_s.append(plan.now()))
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: seconds.append(plan.now() - begun_s[-1]))
    return seconds


def peak_gib(plan: Plan) -> float:
    """Return the most memory of the GPU that was in use."""
    return nan if plan.device == "cpu" else torch.cuda.max_memory_allocated() / 2**30


def break_down(material: Material, table: Table) -> None:
    """Measure the stages of a step, one after the other."""
    plan = material.plan
    for variant in (Variant("breakdown"), Variant("breakdown", doubled=True)):
        trainer, _ = material.engines(variant)
        spent_ms: dict[str, list[float]] = defaultdict(list)
        iterator = iter(trainer.data_loader)
        for _ in range(min(plan.steps // 2 + 2, len(trainer.data_loader))):
            for name, elapsed_ms in staged_step(trainer, iterator, plan):
                spent_ms[name].append(elapsed_ms)
        figures = {name: statistics.median(values[1:]) for name, values in spent_ms.items()}
        told = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
        row = {"part": "breakdown", "batch": variant.batch(plan), "format": variant.format}
        table.add({**row, "remark": f"ms a step, waiting after each: {told}; sum {sum(figures.values()):.2f}"})
        table.detail(f"{variant}", figures)
        del trainer, iterator
        release(plan)


def staged_step(trainer: SupervisedTrainer, iterator: Any, plan: Plan) -> Iterable[tuple[str, float]]:
    """Take a step as MONAI's trainer does, and yield each stage's name and milliseconds."""
    at_s = plan.now()

    def lap(name: str) -> tuple[str, float]:
        nonlocal at_s
        before_s, at_s = at_s, plan.now()
        return name, 1000 * (at_s - before_s)

    batch = next(iterator)
    yield lap("loading")
    image, label = trainer.prepare_batch(batch, trainer.state.device, trainer.non_blocking)
    yield lap("augmentation")
    trainer.network.train()
    trainer.optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cuda", enabled=trainer.amp, **trainer.amp_kwargs):
        logits = trainer.inferer(image, trainer.network)
        yield lap("forward")
        loss = trainer.loss_function(logits, label).mean()
        yield lap("loss")
    (trainer.scaler.scale(loss) if trainer.scaler else loss).backward()
    yield lap("backward")
    if trainer.scaler:
        trainer.scaler.step(trainer.optimizer)
        trainer.scaler.update()
    else:
        trainer.optimizer.step()
    yield lap("optimizer")


@torch.no_grad()
def infer(material: Material, table: Table) -> None:
    """Measure the network alone for a scan, as the bundle's inferer computes it, without and with neighbors."""
    plan = material.plan
    for neighbors in (0, 2):
        release(plan)
        options = {"device": plan.device, "neighbors": neighbors, "spacing_mm": plan.spacing_mm}
        config = read_bundle("resunet", material.folder, **options)
        inferer, network = (config.get_parsed_content(name) for name in ("inferer", "network"))
        network.eval()
        depth = 189 if plan.size == Plan.size else 8
        whole = (197, 233, depth) if plan.size == Plan.size else (*plan.size, depth)
        volume = material.image[:, 0].permute(1, 2, 0)[None, None].float()
        for shape in dict.fromkeys([(*plan.size, depth), whole]):
            scan = F.interpolate(volume, size=shape, mode="trilinear").to(plan.device)
            seconds = []
            for _ in range(4):
                begun_s = plan.now()
                with torch.autocast("cuda", enabled=plan.device != "cpu"):
                    inferer(scan, network)
                seconds.append(plan.now() - begun_s)
            told = f"{'x'.join(map(str, shape))}, {neighbors} neighbors: {statistics.median(seconds[1:]):.4f} s, network alone"
            table.add({"part": "inference", "format": "float16", "peak GiB": peak_gib(plan), "remark": told})


def release(plan: Plan) -> None:
    """Give memory back; engines and their handlers hold each other."""
    gc.collect()
    if plan.device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def about(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures were measured on."""
    gpu = torch.cuda.get_device_name() if arguments.device != "cpu" else "none"
    return {
        **describe(),
        "gpu": gpu,
        **installed(("torch", "monai", "pytorch-ignite")),
        "cudnn": torch.backends.cudnn.version(),
    }


def main() -> None:
    """Measure and print."""
    started_s = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--epochs", type=int, help="whole epochs timed after the warm-up")
    parser.add_argument("--held_out", type=int, help="scans validated after each epoch")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=DEFAULT_PARTS)
    parser.add_argument("--limit_s", type=float, default=58.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    given = {name: value for name in ("epochs", "held_out") if (value := getattr(arguments, name)) is not None}
    plan = Plan(**{**(QUICK if arguments.quick else {}), **given, "device": arguments.device})
    table, utilization = Table(arguments.json, about(arguments)), Utilization()
    with TemporaryDirectory() as folder:
        material = Material(Path(folder), plan)
        release(plan)
        table.detail("seconds until the store was written", time.perf_counter() - started_s)
        work: dict[str, list[Callable[[], None]]] = defaultdict(list)
        work["breakdown"].append(lambda: break_down(material, table))
        work["inference"].append(lambda: infer(material, table))
        for variant in VARIANTS:
            work[variant.part].append(lambda variant=variant: train(variant, material, utilization, table))
        for part, task in [(name, task) for name in PARTS if name in arguments.parts for task in work[name]]:
            if time.perf_counter() - started_s > arguments.limit_s:
                table.add({"part": part, "remark": "left out: the time is up"})
                continue
            try:
                task()
            except Exception as error:  # the other parts still tell something
                table.add({"part": part, "remark": f"failed: {type(error).__name__}: {error}"[:300].replace("\n", " ")})
            release(plan)
    print(f"\n{time.perf_counter() - started_s:.1f} s in all", flush=True)


if __name__ == "__main__":
    main()
