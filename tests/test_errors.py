"""Messages quote files and addresses of strangers; none of it may act on a terminal, or be a secret."""

import time

import pytest

from cphloc.errors import (
    CphlocError,
    DataError,
    Problem,
    RecipeError,
    did_you_mean,
    one_line,
    printable,
    without_secrets,
)

SECRETS = {
    "http://bob:Hunter2pw@127.0.0.1:9/zoo": "http://127.0.0.1:9/zoo",
    "https://Hunter2pw@host/x.git": "https://host/x.git",
    "https://host/a/b?X-Amz-Signature=Hunter2pw&X-Amz-Date=1": "https://host/a/b",
    "postgresql://u:Hunter2pw@db/mlflow": "postgresql://db/mlflow",
    "reading 'https://h/x?token=Hunter2pw', again": "reading 'https://h/x', again",
    "https://u:p@ss:Hunter2pw@host/x": "https://host/x",
    "postgresql://bob:Hunter/2pw@db/mlflow": "postgresql://db/mlflow",
    "postgresql://bob:Hunter#2pw?@db/mlflow": "postgresql://db/mlflow",
    "https://host/zoo#access_token=Hunter2pw": "https://host/zoo",
}


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_no_secret_of_an_address_is_shown(text: str, shown: str):
    assert without_secrets(text) == shown
    assert str(CphlocError(f"{text} cannot be read")) == f"{shown} cannot be read"


@pytest.mark.parametrize(
    "text",
    [
        "models:/unet@best",
        "https://host/zoo/unet3d-ct@^1",
        "http://127.0.0.1:5000/zoo/unet3d-ct@^1",
        "http://[::1]:5000/zoo/unet3d-ct@^1",
        "sqlite:///C:/runs/a@b.db",
        "https://host/a.md#results",
        "why? a = b",
        "a@b.c",
        "x?y=1",
    ],
)
def test_other_text_stays(text: str):
    assert without_secrets(text) == text


def test_control_sequences_and_reordering_characters_are_escaped():
    for character in ("\x1b", "\x07", "\x9b", "\x08", "\r", "\u202e", "\u2066", "\u2028", "\x00", "\ud800"):
        shown = printable(f"a{character}b")
        assert character not in shown
        assert shown.startswith("a\\")
        assert character not in str(DataError(f"a{character}b"))
        assert character not in one_line(f"a{character}b")
    assert printable("a\nb\tc") == "a\nb    c"
    assert printable("می\u200cخواهم é 腫瘍") == "می\u200cخواهم é 腫瘍"


def test_a_problem_is_one_line():
    problem = Problem("r.yaml:1:1", "task\nforged", "'x\ny' is not one of a, b", "give a")
    assert "\n" not in str(RecipeError([problem]))


def test_a_suggestion_for_long_names_takes_no_time():
    started = time.process_time()
    assert did_you_mean("a" * 400_000, ["a" * 400_000, "b"]) == ""
    assert did_you_mean("name", (f"x{i}" for i in range(10**6))) == ""
    assert time.process_time() - started < 1


@pytest.mark.parametrize("piece", ["?", "#", "://", "://a:", "=", "@", "://a:b"])
def test_a_long_text_is_cleaned_in_linear_time(piece: str):
    started = time.process_time()
    without_secrets("://" + piece * 100_000)
    assert time.process_time() - started < 2
