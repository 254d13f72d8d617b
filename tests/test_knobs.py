"""The command line's guard: values become what they mean or are refused with the choices."""

import re

import pytest

from strokelesion.pipeline import knobs
from strokelesion.pipeline.errors import show_error

RUNNER = "/somewhere/monai/bundle/__main__.py"
CONFIG = ["--config_file", "bundles/resunet.json"]


@pytest.mark.parametrize(("word", "value"), [("false", False), ("True", True), (True, True), (False, False)])
def test_flags_mean_what_they_say(word, value):
    assert knobs.flag("amp", word) is value


def test_compiling_needs_a_compiler_and_says_so(monkeypatch):
    monkeypatch.setattr(knobs.shutil, "which", lambda name: None)
    assert knobs.compiled("compile", "false") is False
    with pytest.raises(ValueError, match=r"--compile got true, and there is no C\+\+ compiler.*or leave --compile out"):
        knobs.compiled("compile", "true")
    monkeypatch.setattr(knobs.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert knobs.compiled("compile", "true") is True


@pytest.mark.parametrize(
    ("check", "bad", "hint"),
    [
        (
            lambda v: knobs.choice("loss", v, ("cce", "dice", "cce_dice")),
            "dise",
            "--loss got 'dise'; allowed are cce, dice, cce_dice",
        ),
        (lambda v: knobs.flag("amp", v), "no", "true, false"),
        (lambda v: knobs.whole("epochs", v, 1), 0, "of at least 1"),
        (lambda v: knobs.whole("epochs", v, 1), 1.5, "whole number"),
        (lambda v: knobs.whole("epochs", v, 1), True, "whole number"),
        (lambda v: knobs.whole("fold", v, 0, 4), 5, "from 0 to 4"),
        (lambda v: knobs.number("learning_rate", v, 0, 1), 0, "above 0"),
        (lambda v: knobs.number("learning_rate", v, 0, 1), "fast", "a number"),
        (lambda v: knobs.share("overlap", v), 1, "below 1"),
        (lambda v: knobs.slice_size("slice_mm", v, [1, 1, 1]), [192], "two numbers of mm"),
        (lambda v: knobs.slice_size("slice_mm", v, [1, 1, 1]), [16, 224], "from 32 to 1024"),
        (lambda v: knobs.slice_size("slice_mm", v, [1, 1, 1]), "192x224", r"such as \[192,224\]"),
        (lambda v: knobs.portion("min_peak", v), 1.1, "from 0 to 1"),
        (lambda v: knobs.volume_ml("min_component_ml", v), -0.1, "of at least 0"),
        (lambda v: knobs.volume_ml("min_component_ml", v), float("nan"), "number of ml"),
        (lambda v: knobs.volume_ml("min_component_ml", v), "small", "number of ml"),
        (lambda v: knobs.init(v, None, False), "weights", "no weights ship for this network.*bundles/resunet.json"),
        (lambda v: knobs.init(v, "gone.safetensors", False), "weights", "there is no file gone.safetensors"),
        (lambda v: knobs.init(v, None, False), "gone.pt", "there is no file gone.pt; allowed are the word weights"),
        (lambda v: knobs.init(v, None, True), "last.pt", "--init last.pt and --resume true"),
        (knobs.shipped, None, "no weights ship for this network"),
        (lambda v: knobs.planes("planes", v, [1, 1, 1]), "oblique", "axial, coronal, sagittal"),
        (lambda v: knobs.planes("planes", v, [1, 1, 3]), "axial,coronal", "expected cubes"),
        (lambda v: knobs.spacing("spacing_mm", v), [1, 1], "one or three numbers"),
        (lambda v: knobs.spacing("spacing_mm", v), True, "one or three numbers"),
        (lambda v: knobs.spacing("spacing_mm", v), [0, 1, 1], "from 0.1 to 10"),
    ],
)
def test_wrong_values_are_refused_with_the_choices(check, bad, hint):
    with pytest.raises(ValueError, match=hint):
        check(bad)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5-fold", "5-fold"),
        ("2-fold", "2-fold"),
        ("10-fold", "10-fold"),
        ("leave-one-site-out", "leave-one-site-out"),
        (0.2, "0.2"),
        (".25", ".25"),
        ("lists/held out.csv", "lists/held out.csv"),
        ("LIST.CSV", "LIST.CSV"),
    ],
)
def test_the_four_ways_to_split_pass_as_text(value, text):
    assert knobs.split("split", value) == text


@pytest.mark.parametrize(
    "value", ["5fold", "5-folds", "1-fold", "0-fold", "k-fold", 5, 0, 1.0, 0.0, -0.2, "20%", True, None, "", ".csv", "list.txt"]
)
@pytest.mark.parametrize("form", ["5-fold", "leave-one-site-out", "0.2", "FILE.csv"])
def test_a_near_miss_of_a_split_is_answered_with_the_four_ways(value, form):
    with pytest.raises(ValueError, match=rf"^--split got {re.escape(repr(value))}; allowed are .*{re.escape(form)}"):
        knobs.split("split", value)


@pytest.mark.parametrize("value", [0, 7, "Site1", "NA", "031768"])
def test_folds_are_numbers_or_names_of_sites(value):
    assert knobs.fold("fold", value) == value


@pytest.mark.parametrize("value", [-1, 0.5, True, None, "", " ", [0]])
def test_other_folds_are_refused(value):
    with pytest.raises(ValueError, match=r"^--fold got .*whole number of at least 0 .*the name of a site"):
        knobs.fold("fold", value)


def test_good_values_pass():
    assert knobs.whole("epochs", 3, 1) == 3
    assert knobs.number("lesion_share", 1, 0, 1) == 1.0
    assert knobs.share("overlap", 0) == 0.0
    assert knobs.volume_ml("min_component_ml", 0) == 0.0
    assert knobs.slice_size("slice_mm", (224, 256), [2, 4, 1]) == [112, 64]
    assert knobs.planes("planes", "axial,coronal", [2, 2, 2]) == ["axial", "coronal"]
    assert knobs.planes("planes", "axial", [1, 1, 3]) == ["axial"]
    assert knobs.spacing("spacing_mm", [1, 1, 3]) == [1.0, 1.0, 3.0]
    assert knobs.spacing("spacing_mm", 2) == [2.0, 2.0, 2.0]


def test_training_starts_from_nothing_the_shipped_weights_or_a_file(tmp_path):
    (tmp_path / "shipped.safetensors").touch()
    (tmp_path / "best.pt").touch()
    shipped, best = str(tmp_path / "shipped.safetensors"), str(tmp_path / "best.pt")
    assert knobs.init(None, shipped, True) is None
    assert knobs.init("weights", shipped, False) == shipped
    assert knobs.init(best, None, False) == best


def test_an_unknown_verb_names_the_verbs(at_root):
    with pytest.raises(ValueError, match="'train'; allowed are training, evaluating, inference"):
        knobs.check_command([RUNNER, "run", "train", *CONFIG])


def test_an_unknown_option_names_the_nearest(at_root):
    with pytest.raises(ValueError, match=r"--epoch, which training does not have. Did you mean --epochs\?"):
        knobs.check_command([RUNNER, "run", "training", *CONFIG, "--epoch", "3"])


@pytest.mark.parametrize("spelling", [["--epochs", "3"], ["--epochs=3"], ["--loss", "dice", "--resume"], ["--device=cpu"]])
def test_known_options_pass_in_any_spelling(at_root, spelling, monkeypatch):
    monkeypatch.setattr("sys.excepthook", None)
    knobs.check_command([RUNNER, "run", "training", *CONFIG, *spelling])
    knobs.check_command([RUNNER, "run", "--run_id", "training", *CONFIG, *spelling])


def test_other_programs_have_no_command_line_to_check():
    knobs.check_command(["pytest", "run", "nothing"])


def test_own_errors_are_one_line_and_faults_keep_their_traceback(capsys):
    def shown(code):
        try:
            code()
        except Exception as error:
            show_error(type(error), error, error.__traceback__)
        return capsys.readouterr().err

    def wrapped():
        try:
            knobs.whole("epochs", 0, 1)
        except ValueError as error:
            raise RuntimeError("Failed to evaluate") from error

    assert shown(wrapped) == "error: --epochs got 0; allowed is a whole number of at least 1.\n"
    assert "Traceback" in shown(lambda: 1 // 0)
