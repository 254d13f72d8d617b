"""The program `strokelesion`: what it passes to the bundles, its help, and its refusals."""

import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from strokelesion.pipeline.console.bids_app import THREADS
from strokelesion.pipeline.console.command_line import main
from strokelesion.pipeline.console.commands import COMMANDS
from strokelesion.pipeline.options.bundle_files import bundle_root, options_taken, read_bundle
from strokelesion.pipeline.options.option_texts import grouped
from strokelesion.pipeline.options.settings import OPTIONS


@pytest.fixture
def passed_on(monkeypatch):
    """Run the program and return the words that reach MONAI's own command line."""
    monkeypatch.setattr(sys, "argv", ["strokelesion"])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: None)

    def run(*words):
        with warnings.catch_warnings():
            main([str(word) for word in words])
        return sys.argv[1:]

    return run


def bundle(name):
    return f"--config_file={bundle_root()}/{name}.json"


def test_scans_and_results_are_given_by_position(passed_on):
    words = passed_on("segment", "/data/my study", "20260102", "--threshold", "0.3")
    assert words[:3] == ["run", "inference", bundle("resunet")]
    assert set(words[3:]) == {"--scans=/data/my study", "--output_dir=20260102", "--threshold=0.3"}


@pytest.mark.parametrize("typed", ["--save-probabilities", "--save_probabilities", "--save-probabilities=true"])
def test_names_have_hyphens_or_underscores_and_switches_need_no_value(passed_on, typed):
    assert passed_on("segment", "a", "b", typed)[-1] == "--save_probabilities=true"


def test_hyphens_of_values_stay(passed_on):
    assert "--run_dir=my-run" in passed_on("train", "--run-dir=my-run")


def test_a_bundle_is_a_name_or_a_path(passed_on, tmp_path):
    own = tmp_path / "own.json"
    own.write_text("{}")
    assert passed_on("train", "--bundle", "unet")[1:3] == ["training", bundle("unet")]
    assert passed_on("train", "--bundle", own)[1:3] == ["training", f"--config_file={own}"]


def test_what_the_program_does_not_know_is_left_to_the_bundle(passed_on):
    assert passed_on("train", "--optimizer::lr", "0.1")[3:] == ["--optimizer::lr", "0.1"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["train", "--bundle", "vnet"], 2, "--bundle got vnet; allowed are adapt, brain, experiments, resunet"),
        (["segment", "a", "b", "c"], 2, "got 'c' after all that is allowed"),
        (["segment", "a"], 2, "output_dir"),
        (["cook"], 2, "invalid choice: 'cook'"),
        (["bids", "raw", "out", "participant", "--n_cpus", "0", "--skip_bids_validation"], 2, "--n_cpus got 0"),
        (["bids", "nowhere", "out", "participant"], 1, "nowhere has no dataset_description.json"),
    ],
)
def test_wrong_words_end_the_program_with_a_reason(passed_on, capsys, words, status, said):
    with pytest.raises(SystemExit) as ended:
        passed_on(*words)
    assert ended.value.code == status
    assert said in capsys.readouterr().err


def test_a_bids_app_passes_its_labels_threads_and_temporary_folder_on(passed_on, tmp_path):
    words = ["bids", "raw", "out", "participant", "--participant-label", "01", "sub-02", "--session-label", "1"]
    words += ["--n-cpus", "3", "--work-dir", tmp_path / "work", "--skip-bids-validation", "--prepare", "mni"]
    run, command, file, *options = passed_on(*words)
    assert (run, command, file) == ("run", "inference", bundle("resunet"))
    assert options[-2:] == ["--prepare", "mni"]
    assert set(options[:-2]) == {
        *("--scans=raw", "--output_dir=out", "--participant=01,sub-02", "--session=1", "--tables=false"),
        "--mni=2009a",
    }
    assert {os.environ[name] for name in THREADS} == {"3"}
    assert Path(os.environ["TMPDIR"]) == tmp_path / "work"


@pytest.mark.parametrize("level", ["participant", "group"])
@pytest.mark.parametrize(("typed", "passed"), [([], ["--mni=2009a"]), (["--mni=fsl"],) * 2, (["--mni", "none"],) * 2])
def test_a_bids_app_writes_masks_in_mni_space_unless_it_is_told_otherwise(passed_on, level, typed, passed):
    words = passed_on("bids", "raw", "out", level, "--skip-bids-validation", *typed)
    assert [word for word in words if word in ("none", "fsl") or word.startswith("--mni")] == passed


def test_a_bids_data_set_describes_itself_and_has_subjects(passed_on, tmp_path, capsys):
    about = tmp_path / "dataset_description.json"
    for content, said in (
        ('{"Name": 1}', "dataset_description.json with Name"),
        ('{"Name": "a", "BIDSVersion": "1"}', "sub-*"),
    ):
        about.write_text(content)
        with pytest.raises(SystemExit):
            passed_on("bids", tmp_path, "out", "group")
        assert said in capsys.readouterr().err
    (tmp_path / "sub-1").mkdir()
    assert passed_on("bids", tmp_path, "out", "group")[1] == "group"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_lists_the_options_that_it_takes(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text, command = capsys.readouterr().out, COMMANDS[name]
    taken = set(options_taken(command.bundle_command, read_bundle(command.bundle)))
    assert taken >= set(command.by_position)
    assert {option for option in OPTIONS if f" --{option} " in text} == taken - set(command.by_position)


def test_every_option_is_in_one_group():
    assert [name for names in grouped().values() for name in names] == list(OPTIONS)


def test_the_help_needs_no_torch():
    program = (
        "import sys; from strokelesion.pipeline.console.command_line import main\n"
        "try: main(['segment', '--help'])\n"
        "finally: print(sorted({'torch', 'monai', 'numpy', 'pandas', 'itk'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_can_complete_commands_and_options(shell, capsys):
    with pytest.raises(SystemExit):
        main(["--print-completion", shell])
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert "--save_probabilities" in text
