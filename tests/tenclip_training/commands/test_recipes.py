from __future__ import annotations

from tenclip_api.errors import InvalidRequest
from tenclip_training.recipes import all_recipes
from tests.tenclip_training.commands.helpers import error_of, output_of, run


def test_all_recipes_as_json() -> None:
    listed = output_of(run("recipes", "--json"))["recipes"]
    assert [r["name"] for r in listed] == list(all_recipes())
    row = next(r for r in listed if r["name"] == "ig65m/table8/ig-kinetics-1m")
    assert (row["paper"], row["place"], row["gpus"]) == ("IG-65M", "table 8, row 1", 64)
    assert row["config"]["optimizer"]["lr"] == 0.0003
    assert "manifest" not in row["config"]


def test_one_recipe_in_words() -> None:
    text = run("recipes", "ig65m/table17/r2plus1d-152-ig-kinetics").stdout
    assert "IG-65M, table 17, row 4; 64 GPUs" in text
    assert "starts from: R(2+1)D-152 pre-trained on IG-Kinetics-65M (--init-from)" in text
    assert "  optimizer.lr = 0.00013" in text
    assert "  schedule.lr_steps = [12.0]" in text
    assert "not the paper's: momentum 0.9" in text


def test_a_beginning_lists_what_has_it() -> None:
    text = run("recipes", "ig65m/table12").stdout
    assert "imagenet" in text
    assert "0.0025" in text
    assert "table8" not in text


def test_an_unknown_one_is_an_error() -> None:
    error = error_of(run("recipes", "ig65m/table8/ig-kinetics-1mm"))
    assert isinstance(error, InvalidRequest)
    assert "did you mean" in str(error)
