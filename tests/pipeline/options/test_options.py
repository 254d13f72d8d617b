"""Options: their values, what is said of wrong ones, and that the command line, Python and bundle files are checked alike."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import monai.bundle
import pytest
from checkout import ROOT
from fire import Fire
from model_files import write_model

from strokelesion.networks import CommandLineError, ResUNet, UserError
from strokelesion.pipeline.models.model_files import write_checkpoint
from strokelesion.pipeline.options import option_checks
from strokelesion.pipeline.options.bundle_files import bundle_root, options_taken
from strokelesion.pipeline.options.command_names import COMMANDS
from strokelesion.pipeline.options.option_checks import check, require_command
from strokelesion.pipeline.options.option_table import as_markdown
from strokelesion.pipeline.options.settings import OPTIONS, Settings, options_in
from strokelesion.pipeline.runtime.errors import show_error, user_error

BUNDLES = ("resunet", "unet", "segnet", "resunet_synthetic", "brain", "adapt", "synthesis", "experiments")
RESUNET = str(ROOT / "bundles/resunet.json")
# Takes the place of a command's steps: it prints what the options have become.
SHOW = "$print('shown', @epochs, @loss, @planes, @resume, @run_dir)"
MOST_BASIC_OPTIONS = 15
NAN, INF = float("nan"), float("inf")
NEARLY_SPLITS = ["5fold", "5-folds", "1-fold", "0-fold", "k-fold", 5, 0, 1.0, -0.2, "20%", True, None, "", ".csv", "list.txt"]


class ForgetsItsKey:
    """A transform with a fault."""

    def __call__(self, data):
        return {"image": data["no such key"]}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(command, bundle="resunet", **options):
    monai.bundle.run(command, config_file=str(ROOT / f"bundles/{bundle}.json"), logging_file=False, **options)


def refused(command, bundle="resunet", **options):
    """Run a command that is refused, and return what a user is told."""
    with pytest.raises(RuntimeError) as error:
        run(command, bundle, **options)
    told = user_error(error.value)
    assert isinstance(told, CommandLineError)
    assert told.exit_status == 2
    return str(told)


def shown(error, capsys):
    """Return what Python prints of an error that ends the program, and the exit status."""
    status = 1
    try:
        show_error(type(error), error, error.__traceback__)
    except SystemExit as end:
        status = end.code
    return capsys.readouterr().err, status


def printed(capsys):
    """Return what `SHOW` printed."""
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("shown")]


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        *(("amp", word, False) for word in ("false", "False", False)),
        *(("amp", word, True) for word in ("true", "TRUE", True)),
        ("epochs", 3, 3),
        ("lesion_share", 1, 1.0),
        ("overlap", 0, 0.0),
        ("min_component_ml", 0, 0.0),
        ("min_component_ml", None, None),
        ("neighbors", 8, 8),
        ("seed", 2**31, 2**31),
        ("slice_mm", (224, 256), (224.0, 256.0)),
        ("slice_mm", [224, 256], (224.0, 256.0)),
        ("crop_mm", None, None),
        ("planes", "axial", ("axial",)),
        ("planes", "axial,coronal", ("axial", "coronal")),
        ("planes", ["coronal", "axial", "coronal"], ("coronal", "axial")),
        ("planes", "all", ("axial", "coronal", "sagittal")),
        ("spacing_mm", 2, (2.0, 2.0, 2.0)),
        ("spacing_mm", [1, 1, 3], (1.0, 1.0, 3.0)),
        ("run_dir", Path("/data/run"), "/data/run"),
        ("part", "3/16", (3, 16)),
        ("losses", "dice,cce", ("dice", "cce")),
        *(("split", form, form) for form in ("5-fold", "10-fold", "leave-one-site-out", "a/held out.csv", "A.CSV", ".25")),
        ("split", 0.2, "0.2"),
        *(("fold", part, part) for part in (0, 7, "Site1", "NA", "031768")),
    ],
)
def test_values_become_what_they_mean(name, given, value):
    found = getattr(check({name: given}), name)
    assert found == value
    assert isinstance(found, type(value))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("schedule", ["linear"], "allowed are constant, cosine."),
        ("amp", ["no", 1], "allowed are true, false."),
        ("epochs", [0, 1.5, 3.0, True, "3"], "allowed is a whole number of at least 1."),
        ("seed", [-1], "from 0 to 2147483648"),
        ("neighbors", [9], "a whole number from 0 to 8"),
        ("learning_rate", [0, NAN, "fast", True], "a number above 0 and at most 1"),
        ("overlap", [1], "from 0 to below 1"),
        ("min_peak", [1.1], "from 0 to 1"),
        ("min_component_ml", [-0.1, NAN, INF, "small"], "a number of ml of at least 0"),
        ("slice_mm", [[192], [16, 224], [NAN, 224], "192x224"], "two numbers of mm from 32 to 1024, such as [192,224]"),
        ("crop_mm", [[16, 224], [64, NAN]], "from 32 to 1024"),
        ("planes", ["oblique", []], "allowed are all, or some of axial, coronal, sagittal, with commas."),
        ("networks", ["vnet"], "all, or some of unet, segnet, resunet"),
        ("spacing_mm", [[1, 1], True, [0, 1, 1], [1, NAN, 1], "[1,1,1]"], "one or three numbers of mm from 0.1 to 10, such as"),
        ("part", ["17/16", "0/16", 3, (17, 16), (0, 16)], "from 1/16 to 16/16 where there are 16"),
        ("device", ["gpu"], "allowed are auto, cpu, cuda or cuda:N."),
        ("name", [1], "allowed is text. Quote a name that looks like a number twice: '\"01\"'."),
        ("dataset_dir", [["a", "b"]], "allowed is text"),
        ("fold", [-1, 0.5, True, None, "", " ", [0]], "allowed are a whole number of at least 0 and the name of a site."),
        *(("split", NEARLY_SPLITS, form) for form in ("5-fold", "leave-one-site-out", "0.2", "FILE.csv")),
    ],
)
def test_wrong_values_are_refused_with_the_choices(name, values, message):
    for value in values:
        with pytest.raises(CommandLineError) as error:
            check({name: value})
        assert str(error.value).startswith(f"--{name} got {value!r}; allowed ")
        assert message in str(error.value)


def test_all_wrong_values_are_named_at_once(elsewhere):
    message = refused("training", epochs=0, amp="no", planes="oblique", loss="dise", batch_size=8)
    assert sorted(line.split()[0] for line in message.splitlines()) == ["--amp", "--epochs", "--loss", "--planes"]
    assert "--loss got 'dise'; allowed are cce, dice, cce_dice, cce_lesion." in message.splitlines()
    assert refused("training", loss=["dice"]).endswith("allowed are cce, dice, cce_dice, cce_lesion.")


def test_compiling_needs_a_compiler_and_says_so(monkeypatch, elsewhere):
    monkeypatch.setattr(option_checks.shutil, "which", lambda name: None)
    message = refused("training", compile="true")
    assert re.search(r"--compile got true, and there is no C\+\+ compiler.*or leave --compile out", message)
    option_checks.require_consistent(check({"compile": "false"}))
    monkeypatch.setattr(option_checks.shutil, "which", lambda name: f"/usr/bin/{name}")
    option_checks.require_consistent(check({"compile": "true"}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"planes": "axial,coronal", "spacing_mm": [1, 1, 3]}, "expected cubes.*or --planes axial"),
        ({"init": "last.pt", "resume": "true"}, "--init last.pt and --resume true; allowed is one of them"),
        ({"crop_mm": [256, 256]}, "expected crops up to the extent of slices"),
        ({"device": "cuda:63"}, "--device got cuda:63, and this machine has"),
    ],
)
def test_options_that_contradict_each_other_or_the_machine_are_refused(options, message, elsewhere):
    assert re.search(message, refused("training", **options))
    for name in options if len(options) > 1 else ():
        option_checks.require_consistent(check({name: options[name]} if name != "planes" else {"planes": "all"}))


def test_an_unknown_command_is_answered_with_those_of_the_bundle_file(elsewhere):
    commands = "training, evaluating, inference, group, release, export, package, doctor, scoring"
    assert refused("train") == f"got the command 'train'; allowed are {commands}."
    assert "'network'; allowed are training" in refused("network")
    assert "'training'; allowed are experiments, reporting" in refused("training", "experiments")
    assert "'inference'; allowed are training, release" in refused("inference", "brain")


@pytest.mark.parametrize(("bundle", "command"), [("resunet", "evaluating"), ("resunet", "release"), ("synthesis", "synthesis")])
def test_a_command_of_one_process_refuses_several(bundle, command, monkeypatch, elsewhere):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refused(command, bundle).startswith(f"got 2 processes for {command}, which takes one. Start it without ")
    require_command("training", {"training": []})


def test_an_unknown_option_is_answered_with_the_nearest(elsewhere):
    assert "got the option --epoch, which training does not take. Did you mean --epochs? Allowed are " in refused(
        "training", epoch=3
    )
    assert "--spacing, which synthesis does not take. Did you mean --spacing_mm?" in refused(
        "synthesis", "synthesis", spacing=2
    )
    assert "--color, which inference does not take. Allowed are " in refused("inference", color="red")
    # Also where only Python's classes are used, which know of no command line.
    workflow = monai.bundle.ConfigWorkflow(RESUNET, workflow_type="train", logging_file=False, epoch=3)
    with pytest.raises(RuntimeError) as error:
        workflow.initialize()
    assert "Did you mean --epochs?" in str(user_error(error.value))


@pytest.mark.parametrize(
    ("command", "bundle", "options", "message"),
    [
        ("training", "resunet", {"threshold": 0.3}, "--threshold, .* It is an option of evaluating, inference."),
        ("training", "resunet", {"scans": "/data"}, "--scans, .* It is an option of inference."),
        ("training", "resunet", {"heads": "/data"}, "--heads, which training does not take. This bundle file does not use it."),
        ("training", "brain", {"dataset_dir": "/data"}, "--dataset_dir, which training does not take"),
        ("doctor", "resunet", {"epochs": 3}, "--epochs, .* It is an option of training."),
        ("inference", "resunet", {"dataset_dir": "/data"}, "--dataset_dir, .* It is an option of training, "),
        ("experiments", "experiments", {"fold": 1}, "--fold, .* It is an option of training. .* folds, "),
        ("experiments", "experiments", {"run_dir": "runs/one"}, "--run_dir, .* It is an option of training, .* runs_dir, "),
    ],
)
def test_an_option_of_another_command_is_refused_and_says_whose_it_is(command, bundle, options, message, elsewhere):
    assert re.search(message, refused(command, bundle, **options))


@pytest.mark.parametrize("name", [*options_in("protocol"), "fold", "split"])
def test_what_a_model_says_itself_is_asked_of_nobody(name, elsewhere):
    command = "inference" if name == "spacing_mm" else "evaluating"
    message = refused(command, **{name: "any"})
    assert message.startswith(f"got the option --{name}, which {command} does not take. The model itself says it. Allowed are ")


def test_options_from_python_are_taken_and_checked_like_those_of_the_command_line(elsewhere, capsys):
    values = {"epochs": 7, "loss": "dice", "planes": "axial,coronal", "resume": True, "run_dir": Path("runs/mine")}
    run("training", training=[SHOW], **values)
    words = ["--epochs=7", "--loss", "dice", "--planes", "axial,coronal", "--resume", "--run_dir", "runs/mine"]
    arguments = ["run", "training", "--config_file", RESUNET, "--logging_file=False", f"--training=[{SHOW!r}]"]
    Fire({"run": monai.bundle.run}, command=[*arguments, *words])
    Path("arguments.json").write_text(json.dumps({**values, "run_dir": "runs/mine", "epochs": 1}))
    run("training", training=[SHOW], args_file="arguments.json", epochs=7)
    assert printed(capsys) == ["shown 7 dice ['axial', 'coronal'] True runs/mine"] * 3
    assert "--epochs got 0" in refused("training", epochs=0)


def test_defaults_are_those_of_the_bundle_file_and_run_folders_are_named_by_network_and_loss(elsewhere, capsys):
    run("training", training=[SHOW])
    run("training", "resunet_synthetic", training=[SHOW])
    run("training", "unet", training=[SHOW], loss="dice")
    assert printed(capsys) == [
        "shown 100 cce_dice ['axial'] False runs/resunet_cce_dice",
        "shown 40 cce_lesion ['axial', 'coronal'] False runs/resunet_synthetic",
        "shown 100 dice ['axial'] False runs/unet_dice",
    ]


def test_a_run_keeps_the_settings_that_it_was_begun_with_and_a_start_says_how_scans_are_shown(elsewhere, capsys):
    network = ResUNet(channels=(16, 32))
    start = write_model("start.safetensors", network, "strokelesion.networks.ResUNet", planes=("coronal",))
    begun = monai.bundle.ConfigWorkflow(RESUNET, workflow_type="train", logging_file=False, loss="dice", planes="sagittal")
    begun.initialize()
    write_checkpoint(Path("run/last.pt"), begun.parser.config["model"], network.state_dict(), {"epoch": 1, "init": None})
    run("training", training=[SHOW], init=start, run_dir="new")
    run("training", training=[SHOW], init=start, run_dir="new", planes="axial")
    run("training", training=[SHOW], resume=True, run_dir="run", epochs=9)
    assert printed(capsys) == [
        "shown 100 cce_dice ['coronal'] False new",
        "shown 100 cce_dice ['axial'] False new",
        "shown 9 dice ['sagittal'] True run",
    ]
    with pytest.raises(RuntimeError) as error:
        run("training", training=[SHOW], resume=True, run_dir="run", loss="cce")
    assert "was trained with other settings: loss dice, got cce." in str(user_error(error.value))


def test_what_a_start_says_and_what_is_asked_for_must_not_contradict_each_other(elsewhere):
    start = write_model("start.pt", ResUNet(), "strokelesion.networks.ResUNet", planes=("axial", "coronal"))
    assert "expected cubes" in refused("training", init=start, spacing_mm=[1, 1, 3], training=[SHOW])


def test_pretrained_stands_for_installed_models_or_those_below_the_bundle_root_that_is_named(elsewhere):
    given = {"init": "pretrained", "surface_weights": "pretrained", "brain_weights": "mine.safetensors"}
    workflow = monai.bundle.ConfigWorkflow(RESUNET, workflow_type="train", logging_file=False, **given)
    workflow.initialize()
    config = workflow.parser.config
    assert config["init"] == f"{bundle_root()}/weights/resunet.safetensors"
    assert config["surface_weights"] == f"{bundle_root()}/weights/surface.safetensors"
    assert config["brain_weights"] == "mine.safetensors"
    assert Path(config["init"]).is_file()
    with pytest.raises(RuntimeError) as error:
        run("inference", "resunet", scans="any", bundle_root="/nowhere")
    assert str(user_error(error.value)).startswith("no model at /nowhere/weights/resunet.safetensors")


def python_m_monai_bundle(*words):
    """Run the true command line; return its exit status and the lines of its error, without what MONAI logs and warns."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *words, "--config_file", RESUNET]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr[done.stderr.find("error: ") :].splitlines(), done.stderr


def test_own_errors_are_one_line_on_the_true_command_line(elsewhere):
    status, lines, everything = python_m_monai_bundle("training", "--epoch", "3")
    assert (status, len(lines)) == (2, 1), everything
    assert lines[0].startswith("error: got the option --epoch, which training does not take. Did you mean --epochs?")
    status, lines, everything = python_m_monai_bundle("inference", "--weights=gone.pt", "--scans", ".")
    assert (status, len(lines)) == (1, 1), everything
    assert lines[0].startswith("error: no model at gone.pt; expected ")
    assert "Traceback" not in everything
    assert not list(elsewhere.iterdir())


def test_an_error_is_for_the_user_or_a_fault_with_its_traceback(capsys):
    def raised(cause):
        """Raise an error as MONAI does, which wraps what its components raise."""
        try:
            try:
                raise cause
            except Exception as error:
                raise RuntimeError("Failed to evaluate") from error
        except RuntimeError as wrapped:
            return wrapped

    assert shown(raised(UserError("got no scans.")), capsys) == ("error: got no scans.\n", 1)
    assert shown(raised(CommandLineError("--epochs got 0.")), capsys) == ("error: --epochs got 0.\n", 2)
    full = OSError(28, "No space left on device", "/data/out")
    assert shown(raised(full), capsys)[0].startswith("error: /data/out: No space left on device; expected room")
    for fault in (KeyError("image"), ValueError("bad"), OSError("of no file"), ZeroDivisionError()):
        said, status = shown(raised(fault), capsys)
        assert status == 1
        assert said.count("Traceback") == 2  # of the error and of its cause
        assert "error: " not in said.replace(f"{type(fault).__name__}: ", "").replace("RuntimeError: ", "")


def test_a_fault_in_a_transform_of_a_training_keeps_its_traceback(run_command, phantom_dir, tmp_path, capsys):
    transforms = ["@traced", {"_target_": "test_options.ForgetsItsKey"}]
    labeled = {"_target_": "strokelesion.transforms.Recipe", "transforms": transforms}
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run")}
    with pytest.raises(RuntimeError) as error:
        run_command("training", "resunet", epochs=1, labeled=labeled, **where)
    assert user_error(error.value) is None
    capsys.readouterr()
    said, status = shown(error.value, capsys)
    assert status == 1
    assert "KeyError: 'no such key'" in said
    assert 'in __call__\n    return {"image": data["no such key"]}' in said
    assert "\nerror: " not in said


def test_the_page_of_options_is_that_of_the_table():
    """Run `python -m strokelesion.pipeline.options.option_table > docs/options.md` after a change of the table."""
    assert (ROOT / "docs/options.md").read_text() == as_markdown()
    for name in OPTIONS:
        assert as_markdown().count(f"\n| `{name}` |") == 1


def reached(config, section):
    """Return the names in the references of a section, and in those of the sections that it refers to."""
    names, new = set(), {section}
    while new:
        names |= new
        parts = (functools.reduce(lambda part, key: part.get(key) or {}, name.split("::"), config) for name in new)
        new = {name for part in parts for name in re.findall(r"@([\w:]+)", json.dumps(part))} - names
    return names


def test_a_command_takes_an_option_where_it_uses_it_and_nowhere_else():
    # `run_dir` gives other options their defaults; `doctor` takes all options of the training that it is asked about.
    used = {("run_dir", "doctor"), ("run_dir", "release"), ("planes", "doctor"), ("crop_mm", "doctor")}
    taken = set()
    for config in (json.loads((ROOT / f"bundles/{name}.json").read_text()) for name in BUNDLES):
        for command in {*config} & {*COMMANDS} - {"experiments"}:
            used |= {(name, command) for name in reached(config, command) | reached(config, "initialize")}
            taken |= {(name, command) for name in options_taken(command, config)}
    assert taken <= used
    assert taken == {
        (name, command) for name, about in OPTIONS.items() for command in about.commands if command != "experiments"
    }


def test_every_option_has_a_line_of_help_and_is_used_by_a_bundle_file_or_by_python():
    texts = [path.read_text() for path in (*(ROOT / "bundles").glob("*.json"), *(ROOT / "pipeline/options").glob("*.py"))]
    for name, field in Settings.model_fields.items():
        assert re.fullmatch(r"[A-Z0].{10,}\.", field.description), name
        assert any(re.search(rf"@{name}\b|\bvalues\.{name}\b", text) for text in texts), name
