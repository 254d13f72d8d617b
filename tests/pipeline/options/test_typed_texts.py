"""Texts arrive as they were typed, from the command line and from Python."""

import json

import fire
import pytest
from configured import configured

from strokelesion.pipeline.options.typed_texts import as_literal, plain_texts


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("20260102", "20260102"),
        ("2026_01_02", "2026_01_02"),
        ("2026.10", "2026.10"),
        ("x/run#2", "x/run#2"),
        ("run#2", "run#2"),
        ("a,b", "a,b"),
        ("[7].nii", "[7].nii"),
        ("[7]", "[7]"),
        ("True", "True"),
        ("'\"01\"'", '"01"'),
        ('"01"', "01"),
    ],
)
@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_a_text_is_what_was_typed(typed, meant, form):
    arguments = ["python", "run", *form.format("--output-dir", typed).split(" "), "--pages", "false"]
    given = fire.Fire(lambda **options: options, command=arguments[2:])
    assert plain_texts(given, arguments) == {"output_dir": meant}


def test_lists_and_none_stay_as_python_reads_them():
    arguments = ["--heads", "[a,b]", "--masks", "2026_01,b", "--weights", "None", "--epochs", "3"]
    given = fire.Fire(lambda **options: options, command=arguments)
    assert plain_texts(given, arguments) == {"masks": "2026_01,b"}


def test_arguments_of_another_call_do_not_count():
    assert plain_texts({"output_dir": "mine"}, ["--output_dir", "theirs"]) == {"output_dir": "mine"}
    assert plain_texts({"output_dir": 7}, ["--output_dir", "8"]) == {}


def test_expressions_are_left_to_monai():
    assert plain_texts({"output_dir": "$'a' + 'b'", "weights": "@init"}, ()) == {}


@pytest.mark.parametrize("text", ["x/run#2", "a@b#c", "it's #1\\2", "plain", "a#b$c%"])
def test_a_bundle_reads_any_text_as_it_is(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = configured("resunet", "inference", output_dir=text, scans=f"/data/{text}")
    assert parser.get_parsed_content("output_dir") == text
    assert parser.get_parsed_content("scans") == f"/data/{text}"


def test_values_that_are_no_texts_are_as_in_json():
    options = {"planes": ("axial", "x#y"), "epochs": 3, "tta": None, "network_def": {"a": "$1 + 1"}}
    literal = {name: as_literal(value) for name, value in options.items()}
    assert literal == {**options, "planes": ["axial", "$'x\\x23y'"]}
    assert json.loads(json.dumps(literal)) == literal
