"""Gathering runs: whatever their order, folds of one experiment only, no scan twice; and the report made of them."""

import io
import json

import pandas as pd
import pytest
from PIL import Image

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.comparison import tabulate_runs
from strokelesion.pipeline.report.runs import find_runs, gather
from strokelesion.pipeline.report.writing import (
    find_experiment,
    read_worst_pictures,
    warn_of_missing_scans,
    warn_of_missing_subjects,
    write_report,
)

SCORED = {"precision": 0.5, "recall": 0.5, "hd95_mm": 4.0, "asd_mm": 1.0, "volume_difference_ml": -1.0, "keras_dice": 0.4}
SCORED |= {"keras_dice_limit": 0.8}
SCORED |= {
    f"{scorer}_{name}": 0.5 for scorer in ("atlas22", "isles26") for name in ("dice", "lesion_f1", "lesion_count_difference")
}
SCORED |= {"atlas22_volume_difference_voxels": 9, "isles26_absolute_volume_difference_ml": 1.0, "isles26_pr_auc": float("nan")}


def png(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (shade, shade, shade)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_run(
    folder, network="ResUNet", loss="dice", fold=0, subjects=("099001", "099002"), dice=0.5, truth_ml=5.0, **settings
):
    """Write the folder of an evaluated run by hand; the n-th subject scores 0.1 n more than the first."""
    evaluation = folder / "evaluation" / "held_out"
    (evaluation / "worst").mkdir(parents=True)
    names = [{"release": "R1.1", "site": "NA", "person": subject, "subject": subject, "session": "t01"} for subject in subjects]
    dices = [dice + number / 10 for number in range(len(subjects))]
    rows = [
        {**name, "lesion": lesion, "truth_ml": truth_ml, "pred_ml": 4.0, "dice": value, **SCORED}
        for name, value in zip(names, dices, strict=True)
        for lesion in ("main", "sub", "both")
    ]
    pd.DataFrame(rows).to_csv(evaluation / "scores.csv", index=False)
    lesions = [{**name, "volume_ml": 5.0, "is_touched": True, "is_matched": False} for name in names]
    pd.DataFrame(lesions).to_csv(evaluation / "lesions.csv", index=False)
    pictured = [
        {**name, "dice": value, "truth_ml": 5.0, "pred_ml": 4.0, "picture": f"worst/{number}.png"}
        for number, (name, value) in enumerate(zip(names, dices, strict=True))
    ]
    pd.DataFrame(pictured).to_csv(evaluation / "worst.csv", index=False)
    for number, value in enumerate(dices):
        (evaluation / "worst" / f"{number}.png").write_bytes(png(int(100 * value)))
    about = {"network": network, "loss": loss, "fold": fold}
    about["settings"] = {"spacing_mm": [2.0] * 3, "dataset_dir": "d", **settings}
    (evaluation / "about.json").write_text(json.dumps(about))
    curves = {"epoch": [1, 2], "loss": [0.9, 0.5], "learning_rate": 0.1, "slices_per_s": 9.0}
    pd.DataFrame({**curves, "dice_main": [None, 0.4], "dice_sub": [None, 0.1], "dice_both": [None, 0.4]}).to_csv(
        folder / "history.csv", index=False
    )
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two folds of one experiment, and one of another."""
    folder = tmp_path / "runs"
    write_run(folder / "a", fold=0, subjects=("099001", "099002"), dice=0.6)
    write_run(folder / "b", fold=1, subjects=("099003", "099004"), dice=0.2)
    write_run(folder / "c", network="UNet", loss="cce", fold=0, dice=0.3)
    (folder / "not_evaluated").mkdir()
    return folder


def test_other_seeds_are_shown_beside_the_lowest(tmp_path):
    for seed, dice in ((10, 0.3), (9, 0.0)):
        write_run(tmp_path / f"seed{seed}", network="SegNet", dice=dice, seed=seed)
    gathered = gather(find_runs(f"{tmp_path}/*"))
    assert set(gathered.scores["seed"]) == set(gathered.lesions["seed"]) == {"9"}
    assert set(gathered.history["seed"]) == {"9", "10"}
    main = tabulate_runs(gathered.repeated_scores).query("lesion == 'main'")
    assert dict(zip(main["seed"], main["dice"], strict=True)) == pytest.approx({"9": 0.05, "10": 0.35})


def test_a_training_that_finds_nothing_is_said_to_have_collapsed(tmp_path):
    def table(pred_ml):
        scores = pd.read_csv(write_run(tmp_path / str(pred_ml)) / "evaluation/held_out/scores.csv", dtype={"person": str})
        return tabulate_runs(scores.assign(network="UNet", loss="cce", seed="0", pred_ml=pred_ml))

    assert table([0.0] * 6)["empty"].tolist() == [1, 1, 1]
    assert table([0.0] * 3 + [2.0] * 3)["empty"].tolist() == [0.5, 0.5, 0.5]


def test_names_stay_text_and_every_row_says_whose_it_is(runs):
    gathered = gather(find_runs(f"{runs}/*"))
    assert set(gathered.scores["subject"]) == {"099001", "099002", "099003", "099004"}
    assert set(gathered.scores["site"]) == {"NA"}
    assert gathered.scores.groupby(["network", "loss", "fold"]).size().to_dict() == {
        ("ResUNet", "dice", "0"): 6,
        ("ResUNet", "dice", "1"): 6,
        ("UNet", "cce", "0"): 6,
    }
    assert gathered.history["training_loss"].tolist() == [0.9, 0.5] * 3
    assert len(gathered.lesions) == 6
    assert gathered.settings["spacing_mm"] == "[2.0, 2.0, 2.0]"


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            {"fold": 2, "subjects": ("099005",), "spacing_mm": [1.0] * 3},
            r"runs/d was made with spacing_mm \[1.*runs/a with \[2",
        ),
        ({"fold": 0, "subjects": ("099002",)}, r"runs/a and .*runs/d both hold R1.1 099002 t01 of ResUNet, dice"),
        (
            {"network": "SegNet", "subjects": ("099004",), "truth_ml": 4.5},
            r"true both lesion of R1.1 099004 t01 has 4.5 ml in one run and 5 in another",
        ),
    ],
)
def test_runs_that_contradict_each_other_are_refused(run, message, runs):
    write_run(runs / "d", **run)
    with pytest.raises(UserError, match=message):
        gather(find_runs(f"{runs}/*"))


def test_the_same_data_may_lie_elsewhere_and_experiments_may_differ(runs):
    write_run(runs / "d", fold=2, subjects=("099005",), dataset_dir="elsewhere")
    write_run(runs / "e", network="SegNet", spacing_mm=[1.0] * 3)
    settings = gather(find_runs(f"{runs}/*")).settings
    assert settings["spacing_mm"] == "[2.0, 2.0, 2.0] (ResUNet dice, UNet cce); [1.0, 1.0, 1.0] (SegNet dice)"


def test_subjects_whom_no_run_held_out_are_counted(runs):
    rows = [(f"09900{number}", number % 3) for number in range(1, 8)] + [("099009", "")]
    pd.DataFrame(rows, columns=["subject", "fold"]).to_csv(runs / "a" / "split.csv", index=False)
    gathered = gather(find_runs(f"{runs}/*"))
    assert warn_of_missing_subjects(gathered)[0].startswith("3 of the 7 subjects of the split were held out in none")
    assert warn_of_missing_subjects(gather(find_runs(f"{runs}/b"))) == []


def test_all_runs_of_a_folder_are_reported_on_unless_some_are_named(runs, run_command, tmp_path):
    named = f"{runs}/a,{runs}/c"
    for options, subjects in (({}, 4), ({"runs": named.split(",")}, 2), ({"runs": named}, 2)):
        run_command("reporting", "experiments", runs_dir=str(runs), report_dir=str(tmp_path / "report"), **options)
        assert pd.read_csv(tmp_path / "report" / "scores.csv", dtype=str)["subject"].nunique() == subjects
    odd = write_run(tmp_path / "resunet_dice_[a]")
    assert [run.folder for run in find_runs([str(odd)])] == [odd], "no glob"
    with pytest.raises(UserError, match=r"found no evaluated run in .*evaluation/held_out/scores.csv"):
        find_runs(f"{tmp_path}/report/*")


def test_missing_folds_are_said_and_the_worst_of_all_folds_are_shown(runs):
    gathered = gather(find_runs(f"{runs}/*"))
    assert warn_of_missing_scans(gathered.scores) == [
        "UNet cce holds 2 of the 4 scans: folds are missing, and its mean does not compare with the others. Differences and "
        "tests are over the scans that both have."
    ]
    pictures = read_worst_pictures(gathered.worst, ("ResUNet", "dice"))
    assert [title.split(": ")[1][:10] for title, _ in pictures] == ["Dice 0.200", "Dice 0.300", "Dice 0.600", "Dice 0.700"]
    assert pictures[0][1] == png(20)
    assert find_experiment(gathered.scores, "best") == ("ResUNet", "dice")
    assert find_experiment(gathered.scores, "UNet cce") == ("UNet", "cce")
    with pytest.raises(UserError, match="--shown got 'unet'; allowed are best, ResUNet dice, UNet cce"):
        find_experiment(gathered.scores, "unet")


def test_the_report_is_the_same_bytes_whatever_the_order_of_runs(runs, tmp_path, capsys):
    names = [f"{runs}/{name}" for name in "abc"]
    for folder, order in (("there", names), ("back", names[::-1])):
        write_report(order, tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "there") for path in (tmp_path / "there").rglob("*") if path.is_file())
    assert "index.html" in map(str, files)
    for file in files:
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "back" / file).read_bytes(), file
    printed = capsys.readouterr().out
    assert "Dice main\n" in printed
    assert "0.450 [" in printed  # (0.2 + 0.3 + 0.6 + 0.7) / 4
