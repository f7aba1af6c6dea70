from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import cphloc
from cphloc.cli import main
from cphloc.cli.commands import commands
from cphloc.cli.main import parser
from cphloc.config import yamlio
from cphloc.modeling.describe import describe
from cphloc.recipe.recipe import load_stored
from cphloc.training.check import Checked

BASE = Path(__file__).parents[1] / "recipe" / "broken_recipes" / "base.yaml"
ZOO = Path(__file__).parents[2] / "zoo"
PYTHON = [sys.executable, "-m", "cphloc.cli"]


@pytest.fixture
def run(fixture_registry, capsys):
    """Run one command; gives its exit code, its output and its errors."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_list_aligns_names_and_summaries(run):
    assert run("list", "heads") == (0, "retina  Boxes from anchors\nunet    U-Net decoder\n", "")
    assert run("list", "head", "losses", "*o*")[1] == "losses  focal  Focal loss\nlosses  giou   Generalized IoU\n"
    assert run("list", "heads", "u*", "--json")[1] == (
        '[\n  {\n    "group": "heads",\n    "name": "unet",\n    "summary": "U-Net decoder"\n  }\n]\n'
    )


def test_list_of_nothing_suggests_a_name(run):
    assert run("list", "heads", "unett") == (2, "", "nothing is called 'unett'; did you mean 'unet'?\n")


def test_show_of_a_kind_tells_its_contract_and_members(run):
    code, out, _ = run("show", "necks")
    assert code == 0
    assert "__init__(levels, ...)" in out
    assert out.endswith("necks: fpn, fpn_2d\n")
    assert "rung   label or region or boxes or mask\n" in run("show", "head")[1]


def test_show_of_an_entry_gives_each_metric_on_one_line(capsys):
    assert main(["show", "unet3d-hippocampus@^0.2"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", rows["evaluation.metrics.dice"])


def test_show_of_an_entry_gives_its_options_with_their_gain(put_entry, tmp_path, capsys):
    trial = {"option": "min_size", "value": "20", "of": "tumour", "metric": "dice", "gain": 0.02, "low": 0.01}
    trial |= {"high": 0.03, "n": 20, "kept": True, "why": "gains"}
    folder = put_entry(
        tmp_path, "unet3d-ct", "1.0.0", options={"options": {"min_size": {"tumour": 20.0}}, "trials": [trial]}
    )
    assert main(["show", f"{folder}/"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["options"] == "min_size (tumour) 20: dice +0.020 [+0.010, +0.030]"


def test_explain_says_which_metrics_to_judge_the_model_by(tmp_path, capsys):
    assert main(["explain", "unet3d-hippocampus", "--set", "nsd_tolerance_mm.anterior=2"]) == 0
    printed = capsys.readouterr().out
    assert "judge masks of several objects by" in printed
    assert "here taken as 2 mm for anterior, else 1 mm" in printed


def test_describe_of_a_pipeline_is_that_of_the_entry_of_each_stage(capsys):
    assert main(["describe", "pipeline3d-sarcoma", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [facts["entry"] for facts in stages.values()] == ["retina3d-petct@0.2.0", "unet3d-sarcoma-ct@0.1.0"]
    assert stages["outline"]["sees"] == "what of find with 30 mm around"
    stored = yamlio.load(ZOO / "unet3d-sarcoma-ct/0.1.0/recipe.yaml").plain
    alone = describe(load_stored(stored)).to_plain()
    assert {key: stages["outline"][key] for key in alone} == alone


def test_explain_of_a_pipeline_lists_its_own_values_and_the_metrics_of_its_result(capsys):
    assert main(["explain", "pipeline3d-sarcoma"]) == 0
    printed = capsys.readouterr().out
    lines = {line.split(maxsplit=1)[0]: line for line in printed.splitlines() if line.strip()}
    assert "pipeline3d-sarcoma.yaml:16" in lines["stages.outline.crop.margin_mm"]
    assert "retina3d-petct@0.2.0" in lines["stages.find.stored.entry"]
    assert not any(line.startswith("stages.find.stored.recipe") for line in lines)
    assert "judge masks" in printed


def test_show_of_a_metric_says_its_direction_and_unit(capsys):
    assert main(["show", "hd95_mm"]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:]]
    assert {"direction": "lower", "unit": "mm"}.items() <= dict(rows).items()


def test_show_says_types_defaults_and_meaning(run):
    code, out, _ = run("show", "conv_encoder")
    assert code == 0
    assert out.splitlines()[0] == "backbone conv_encoder: Plain encoder"
    norm = next(line for line in out.splitlines() if line.startswith("  norm"))
    assert [part.strip() for part in norm.split("  ") if part.strip()] == [
        "norm", "instance, batch or group", "= instance", "normalization.",
    ]  # fmt: skip
    facts = json.loads(run("show", "head/unet", "--json")[1])
    assert facts["rung"] == "mask"
    assert [a["name"] for a in facts["arguments"]] == ["classes", "deep", "loss"]
    assert facts["arguments"][2]["type"] == "loss block or null"


def test_show_of_an_unknown_name_suggests_one(run, monkeypatch):
    assert run("show", "unett") == (2, "", "no component or entry 'unett'; did you mean 'unet'?\n")
    assert run("show", "head/unett") == (2, "", "unknown head 'unett'; did you mean 'unet'?\n")


def test_check_reports_every_recipe(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(BASE.read_text())
    Path("bad.yaml").write_text(BASE.read_text().replace("steps:", "step:"))
    assert run("check", "--syntax", "good.yaml") == (0, "good.yaml: ok\n", "")
    code, out, _ = run("check", "--syntax", "good.yaml", "bad.yaml", "none.yaml")
    assert (code, out.splitlines()) == (
        2,
        [
            "good.yaml: ok",
            "bad.yaml:13:3: train.step: unknown key 'step'; did you mean 'steps'?",
            "no recipe 'none.yaml'; give the path of a .yaml file, or a name from: cphloc list recipes",
        ],
    )
    facts = json.loads(run("check", "--syntax", "bad.yaml", "--json")[1])
    assert facts[0]["problems"][0]["path"] == "train.step"


def test_list_and_show_formats_give_the_table_of_file_formats(run):
    assert run("list", "formats", "NRRD")[1] == "NRRD  image; read: .nrrd .nhdr; written: .nrrd\n"
    shown = {row["name"]: row for row in json.loads(run("show", "formats", "--json")[1])}
    assert shown["NRRD"] == {
        "name": "NRRD",
        "content": "image",
        "read": [".nrrd", ".nhdr"],
        "written": [".nrrd"],
        "states_mm": True,
    }


def test_check_tries_what_a_training_would_do_once_the_language_is_right(run, monkeypatch):
    found = Checked(["a problem of shapes"], ["the data"])
    monkeypatch.setattr("cphloc.training.check.check", lambda recipe: found)
    assert run("check", str(BASE)) == (2, "a problem of shapes\nnot checked: the data\n", "")


def test_check_tells_advice_without_calling_the_recipe_wrong(run, monkeypatch):
    monkeypatch.setattr("cphloc.training.check.check", lambda recipe: Checked())
    monkeypatch.setattr("cphloc.modeling.advice.advice", lambda recipe: ["a word of advice"])
    assert run("check", str(BASE)) == (0, f"{BASE}: ok\nnote: a word of advice\n", "")


def test_explain_fill_and_diff(run, tmp_path):
    lines = run("explain", str(BASE), "--set", "train.steps=7")[1].splitlines()
    assert any(line.split() == ["train.steps", "7", "--set", "train.steps=7"] for line in lines)
    assert any(line.split() == ["train.seed", "0", "default"] for line in lines)
    filled = tmp_path / "base.yaml"
    filled.write_text(run("fill", str(BASE))[1])
    line = "# yaml-language-server: $schema="
    pointer = filled.read_text().splitlines()[0].removeprefix(line)
    assert json.loads((BASE.parent / pointer).read_text())["title"] == "cphloc recipe"
    assert run("fill", str(BASE), "--schema", "../s.json")[1].startswith(f"{line}../s.json\n")
    assert run("diff", str(BASE), str(filled)) == (0, "no difference\n", "")
    filled.write_text(filled.read_text().replace("steps: 6000", "steps: 7"))
    assert json.loads(run("diff", str(BASE), str(filled), "--json")[1]) == [{"path": "train.steps", "a": 6000, "b": 7}]


def test_schema_and_completion_print(run):
    assert json.loads(run("schema")[1])["title"] == "cphloc recipe"
    for shell in ("bash", "zsh", "fish", "tcsh", "powershell"):
        script = run("completion", shell)[1]
        assert "conv_encoder" in script
        assert "resume" in script


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cphloc tr", "train"),
        ("cphloc show une", "unet"),
        ("cphloc list form", "formats"),
        ("cphloc train unet3d-h", "unet3d-hippocampus"),
        ("cphloc train --resu", "--resume"),
        ("cphloc train rec", "recipe.yaml"),
        ("cphloc predict entry rec", "recipe.yaml"),
        ("cphloc completion z", "zsh"),
    ],
)
def test_bash_completes_commands_options_names_and_files(run, tmp_path, monkeypatch, line, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").touch()
    words = line.split()
    script = run("completion", "bash")[1] + f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n"
    script += f"_shtab_cphloc cphloc '{words[-1]}' '{words[-2]}'; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected]


def test_an_unknown_command_or_a_wrong_recipe_ends_with_2_and_no_traceback(run):
    assert run("lst") == (2, "", "unknown command 'lst'; did you mean 'list'?\n")
    assert run("fill", "none") == (
        2,
        "",
        "no recipe 'none'; give the path of a .yaml file, or a name from: cphloc list recipes\n",
    )
    code, out, err = run("fill", str(BASE), "--set", "dims=5", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["problems"] == [
        {"where": "--set dims=5", "path": "dims", "what": "5 is not one of 2 or 3", "fix": "give 2 or 3"}
    ]


def test_debug_shows_the_traceback():
    done = subprocess.run([*PYTHON, "fill", "none", "--debug"], capture_output=True, text=True)
    assert "Traceback" in done.stderr
    assert "NotFoundError: no recipe 'none'" in done.stderr


def test_an_unexpected_error_ends_with_1(run, monkeypatch):
    from cphloc.cli import fill

    monkeypatch.setattr(fill, "load_recipe", lambda *_: 1 / 0)
    assert run("fill", str(BASE)) == (
        1,
        "",
        "ZeroDivisionError: division by zero; run it again with --debug to see where\n",
    )


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m cphloc.cli schema | head -1", shell=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]], ids=repr)
def test_help_lists_every_command_in_its_group(argv):
    done = subprocess.run([sys.executable, "-m", "cphloc", *argv], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    named = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert named == commands()
    assert [line for line in done.stdout.splitlines() if len(line) > 120] == []


def test_every_file_of_a_command_is_listed():
    inner = {"__init__", "__main__", "main", "commands", "messages", "result"}
    files = {p.stem for p in Path(cphloc.__file__).parent.joinpath("cli").glob("*.py")} - inner
    assert sorted(files) == sorted(name.replace("-", "_") for name in commands())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train r.yaml --devises 2", "cphloc: unrecognized arguments: --devises 2; did you mean '--devices'?"),
        ("train r.yaml --devices two", "argument --devices: invalid int value: 'two'; see cphloc help train"),
        ("data chek x", "unknown value 'chek'; did you mean 'check'?; see cphloc help data"),
        ("completion zzz", "unknown value 'zzz'; choose from bash, zsh,"),
        ("publish latest", "the following arguments are required: --name, --version; see cphloc help publish"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_the_nearest(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert said in printed.err


def test_an_index_of_a_folder_that_does_not_exist_is_refused(tmp_path, capsys):
    assert main(["zoo", "index", str(tmp_path / "nozoo")]) == 2
    assert "nozoo: no such folder; give a zoo folder" in capsys.readouterr().err
    assert not (tmp_path / "nozoo").exists()


@pytest.mark.parametrize("name", commands())
def test_help_of_a_command_shows_every_argument_as_it_is_written(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert main(["help", name]) == 0
    assert capsys.readouterr().out.rstrip("\n") == text.rstrip("\n")
    words = " ".join(text.split())
    below = parser(only=name).commands[name]
    assert words.startswith(f"usage: cphloc {name}")
    assert below.description in words
    for action in below._actions:
        assert action.help, action.dest
        assert " ".join(action.help.split()) in words, action.dest
        assert all(option in words for option in action.option_strings)
    assert {"--json", "--quiet", "--debug"} <= set(below._option_string_actions)


@pytest.mark.parametrize(
    "argv",
    [("list",), ("list", "heads"), ("show", "unet"), ("schema",), ("list", "recipes"), ("show", "formats")],
    ids=" ".join,
)
def test_they_import_no_heavy_library(argv):
    code = (
        f"import sys; from cphloc.cli import main; assert main({list(argv)!r}) == 0\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"torch", "timm", "numpy", "rich", "lightning", "mlflow", "albumentations", "monai"}
    heavy |= {"pydantic"} if argv == ("list", "heads") else set()
    assert not heavy & set(done.stderr.split())


def test_screen_gives_the_funnel_of_the_lecture_with_its_intervals(capsys):
    assert main(["screen", "--sensitivity", "0.8", "--specificity", "0.9", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    today, triage = facts["ways"][0], facts["ways"][1]
    assert [today[k] for k in ("true_positive", "false_positive", "false_negative", "true_negative")] == [5, 95, 1, 899]
    assert triage["true_positive"] == pytest.approx(4)
    assert [round(end, 3) for end in facts["today"]["sensitivity"]] == [0.436, 0.97]
    assert facts["today"].keys() == {"sensitivity", "specificity", "ppv1", "ppv3", "npv"}


HOSTILE = "Nice\x1b]52;c;cm0gLXJmIH4K\x07 model\nunet3d-ct@9.9.9  Best model of all\u202e"


def test_texts_of_a_stranger_reach_no_terminal_as_commands_or_lines(tmp_path, put_entry, monkeypatch, capsys):
    zoo = tmp_path / "z"
    put_entry(zoo, "evil", "1.0.0", summary=HOSTILE, limits=[HOSTILE], changelog=HOSTILE)
    monkeypatch.setenv("CPHLOC_ZOO", str(zoo))
    for argv in (["list", "zoo"], ["show", "evil"], ["list", "zoo", "--json"]):
        main(argv)
        out, err = capsys.readouterr()
        assert not set("\x1b\x07\u202e") & set(out + err)
        assert not any(line.lstrip().startswith("unet3d-ct@9.9.9") for line in out.splitlines())


def test_warnings_reach_the_terminal_as_one_line_without_secrets(capsys):
    from cphloc.cli.messages import _Formatter, safe_messages

    record = logging.LogRecord("a", logging.WARNING, "", 1, "%s: has no unit", (HOSTILE,), None)
    with safe_messages():
        shown = warnings.formatwarning(f"http://bob:Hunter2pw@host/zoo {HOSTILE}", UserWarning, "a.py", 1)
        library = warnings.formatwarning("old", DeprecationWarning, "a.py", 1)
        assert isinstance(logging.lastResort.formatter, _Formatter)
    assert shown.startswith("warning: http://")
    assert library == "a.py:1: DeprecationWarning: old\n"
    for text in (shown.removesuffix("\n"), _Formatter().format(record)):
        assert text.isprintable()
        assert "Hunter2pw" not in text


def test_near_duplicates_across_splits_are_stated_with_a_data_set(capsys):
    assert main(["show", "dataset/busi"]) == 0
    assert "benign_227 (train) and benign_250 (test)" in capsys.readouterr().out
    assert main(["data", "list", "bccd", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert "BloodImage_00038 (train) and BloodImage_00037 (val)" in facts["cautions"][0]


def test_a_command_that_builds_a_model_prints_nothing_of_libraries_at_its_end():
    recipe = Path(__file__).parents[2] / "recipes" / "systems" / "cnn.yaml"
    done = subprocess.run([*PYTHON, "check", str(recipe)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
