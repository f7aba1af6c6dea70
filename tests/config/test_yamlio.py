from __future__ import annotations

import math
import resource
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cphloc.config import yamlio
from cphloc.errors import CphlocError, NotFoundError, RecipeError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.2.2, section 10.3.2, tag resolution of the core schema.
        ("", None), ("~", None), ("null", None), ("NULL", None),
        ("true", True), ("False", False), ("TRUE", True),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("Off", "Off"), ("y", "y"),
        ("0", 0), ("-19", -19), ("010", 10), ("+12", 12), ("0o17", 15), ("0x3A", 58), ("0b1", "0b1"), ("1_0", "1_0"),
        ("3e-4", 3e-4), ("1e2", 100.0), ("12e03", 12000.0), ("-2E+05", -2e5), (".5", 0.5), ("1.", 1.0), ("0.", 0.0),
        (".inf", math.inf), ("-.INF", -math.inf), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("=", "="),
        ("'3'", "3"), ('"true"', "true"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    found = yamlio.read(f"key: {text}", "f").plain["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_float():
    assert math.isnan(yamlio.read(".nan", "f").plain)


def test_every_key_and_value_knows_its_line_and_column():
    root = yamlio.read("a: 1\nb:\n  - x\n  - {c:  yes, d: [2]}\n", "f.yaml")
    positions = {path: (str(root.get(path).key_where), str(root.get(path).where)) for path, _ in root.leaves()}
    assert positions == {
        ("a",): ("f.yaml:1:1", "f.yaml:1:4"),
        ("b", 0): ("f.yaml:3:5", "f.yaml:3:5"),
        ("b", 1, "c"): ("f.yaml:4:6", "f.yaml:4:10"),
        ("b", 1, "d"): ("f.yaml:4:15", "f.yaml:4:18"),
    }


def test_positions_count_characters_and_skip_the_byte_order_mark():
    root = yamlio.read("\ufeff{ü: 1, a: 2}".encode(), "f")
    assert str(root.get(("a",)).where) == "f:1:11"


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("a: 1\na: 2", "f:2:1: a: duplicate key 'a', given first in line 1; keep one"),
        ("{1: a, '1': b}", "f:1:8: 1: duplicate key '1', given first in line 1; keep one"),
        ("a: {<<: {b: 1}}", "f:1:5: a: the merge key '<<'; use 'extends: other.yaml' at the top of the recipe"),
        ("a: !x 1", "f:1:4: a: the tag '!x'; write the value without a tag; quotes make text"),
        ("{1.5: a}", "f:1:2: (top): a key that is neither text nor a whole number; quote it"),
        ("{[1]: a}", "f:1:2: (top): a key that is neither text nor a whole number; use text or a whole number"),
        ("a: 1\n---\nb: 2", "f:2:1: (top): a second document; put each recipe in a file of its own"),
        ("a:\n\tb: 1", "f:2:1: a: a tab; indent with spaces"),
        ("a: @b", "f:1:4: a: a value that starts with '@'; put it in quotes"),
        ("a: *b", "f:1:4: a: the alias '*b' names nothing above it; write the value out"),
        ("a: &a [*a]", "f:1:8: a[0]: the alias '*a' names nothing above it; write the value out"),
        ("a: \0", "f: (top): not YAML text: unacceptable character #x0000: control characters are not allowed; "
         "remove it and save as UTF-8"),
        (b"a: \xff", "f: (top): not UTF-8 text; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "f: (top): not UTF-8 text; save the file as UTF-8"),
    ],
)  # fmt: skip
def test_what_is_refused_is_reported_with_its_position(text, report):
    with pytest.raises(RecipeError) as caught:
        yamlio.read(text, "f")
    assert str(caught.value) == report


def test_all_problems_come_at_once():
    with pytest.raises(RecipeError) as caught:
        yamlio.read("a: 1\na: 2\nb: {c: !x 1, c: 2}", "f")
    assert [p.where for p in caught.value.problems] == ["f:2:1", "f:3:8", "f:3:14"]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB, "[" * 100_000, "{" * 100_000, "- " * 100_000, "? " * 100_000, "a: " * 100_000, "&a " * 300_000,
        "[?" * 300_000, "!<" * 300_000, "- 1\n" * 200_000, "".join(f"k{i}: 1\n" for i in range(80_000)),
        "? a\n" * 200_000, '"' + "\\" * 900_000, "x" * 1_000_001, "a: " + "9" * 100_000, '"a": ' * 100_000,
        "- |\n" * 200_000,
    ],
    ids=lambda text: text[:9].strip(),
)  # fmt: skip
def test_hostile_files_are_reported_within_two_seconds_and_500_megabytes(text):
    started = time.process_time()
    with pytest.raises(RecipeError):
        yamlio.read(text, "f")
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 500_000 * 8


def test_aliases_copy_what_they_name():
    assert yamlio.read("a: &a [1]\nb: *a", "f").plain == {"a": [1], "b": [1]}


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text(alphabet="ab:{}[]-?&*!|>'\"%@`#,\n\t 1.")))
def test_any_text_gives_a_value_or_a_report(text):
    try:
        place = str(yamlio.read(text, "f").where)
    except CphlocError as error:
        place = str(error)
    assert place.startswith("f")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=5))
def test_what_is_written_reads_back_the_same_here_and_in_yaml_1_1(value):
    surrogates = any(0xD800 <= ord(c) < 0xE000 for c in str(value))
    if surrogates:
        return
    text = yamlio.dump(value)
    assert yamlio.read(text, "f").plain == value
    assert yaml.safe_load(text) == value
    assert yamlio.read(yamlio.inline(value), "f").plain == value


@pytest.mark.parametrize(
    "word", ["3e-4", "0o17", "010", "no", "1_000", "12e03", "", "~", "1:30", "<<", "=", ".5", "x: y"]
)
def test_text_that_looks_like_something_else_is_quoted(word):
    assert yamlio.read(yamlio.dump({"key": word}), "f").plain == {"key": word}
    assert yaml.safe_load(yamlio.dump({"key": word})) == {"key": word}


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(NotFoundError, match=r"no\.yaml: no such file"):
        yamlio.load(tmp_path / "no.yaml")
    with pytest.raises(NotFoundError):
        yamlio.load(tmp_path)
