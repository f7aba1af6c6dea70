from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cphloc.config.nodes import from_plain
from cphloc.errors import InputError, NotFoundError, RecipeError
from cphloc.recipe.fields import Data
from cphloc.recipe.merge import PROCESSING, assemble, find, merge, set_argument


def merged(parent, child):
    return merge(from_plain(parent, "parent"), from_plain(child, "child"))


@pytest.mark.parametrize(
    ("rule", "parent", "child", "result"),
    [
        ("mappings merge", {"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ("lists replace", {"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}),
        ("lists of blocks replace", {"a": [{"type": "x", "p": 1}]}, {"a": [{"type": "x"}]}, {"a": [{"type": "x"}]}),
        ("scalars replace", {"a": 1}, {"a": "one"}, {"a": "one"}),
        ("null replaces a block", {"a": {"type": "x"}}, {"a": None}, {"a": None}),
        ("a scalar replaces a mapping", {"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ("a mapping replaces a scalar", {"a": 2}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ("a block of the same type merges", {"a": {"type": "x", "p": 1}}, {"a": {"type": "x", "q": 2}},
         {"a": {"type": "x", "p": 1, "q": 2}}),
        ("a block without type merges", {"a": {"type": "x", "p": 1}}, {"a": {"q": 2}},
         {"a": {"type": "x", "p": 1, "q": 2}}),
        ("a block of another type replaces", {"a": {"type": "x", "p": 1}}, {"a": {"type": "y"}}, {"a": {"type": "y"}}),
        ("keys of the parent come first", {"a": 1, "b": 2}, {"c": 3, "a": 4}, {"a": 4, "b": 2, "c": 3}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_merge(rule, parent, child, result):
    found = merged(parent, child).plain
    assert found == result
    assert list(found) == list(result)


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(VALUES, VALUES, VALUES)
def test_merging_with_itself_or_nothing_changes_nothing_and_the_order_of_merging_does_not_matter(a, b, c):
    a, b, c = ({"k": value} for value in (a, b, c))
    assert merged(a, a).plain == a
    assert merged(a, {}).plain == a
    one_way = merge(from_plain(a, "a"), merge(from_plain(b, "b"), from_plain(c, "c"))).plain
    other_way = merge(merge(from_plain(a, "a"), from_plain(b, "b")), from_plain(c, "c")).plain
    if not replaces(a, b):
        assert one_way == other_way


def replaces(parent, child):
    """Whether a mapping of the parent is replaced, which a later mapping would otherwise have extended."""
    if not isinstance(parent, dict):
        return False
    return not isinstance(child, dict) or any(replaces(parent[key], child[key]) for key in parent.keys() & child.keys())


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(texts))}.yaml"


def test_every_value_remembers_the_file_that_wrote_it(tmp_path):
    child = write(
        tmp_path, child="extends: parent.yaml\na: {c: 3}\n", parent="extends: grand.yaml\na: {b: 2}", grand="a: {z: 1}"
    )
    root = assemble(child, {"a.d": 4, "e": [1]})
    assert root.plain == {"a": {"z": 1, "b": 2, "c": 3, "d": 4}, "e": [1]}
    origins = {path[-1]: str(node.where) for path, node in root.leaves()}
    assert origins == {
        "z": f"{tmp_path}/grand.yaml:1:8",
        "b": f"{tmp_path}/parent.yaml:2:8",
        "c": f"{tmp_path}/child.yaml:2:8",
        "d": "--set a.d=4",
        "e": "--set e=[1]",
    }


def test_a_parent_is_found_beside_its_child_not_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    child = write(tmp_path / "below", child="extends: ../parent.yaml")
    write(tmp_path, parent="a: 1")
    monkeypatch.chdir("/")
    assert assemble(child).plain == {"a": 1}


def test_the_name_and_description_of_a_parent_are_its_own(tmp_path):
    child = write(tmp_path, child="extends: parent.yaml\nb: 2", parent="name: p\ndescription: d\na: 1")
    assert assemble(child).plain == {"a": 1, "b": 2}


def test_recipes_that_extend_each_other_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, a="extends: b.yaml", b="x: 1\nextends: ./a.yaml")
    with pytest.raises(RecipeError) as caught:
        assemble("a.yaml")
    assert (
        str(caught.value) == "b.yaml:2:10: extends: extends itself: a.yaml -> b.yaml -> a.yaml; remove one 'extends:'"
    )


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ({"b": 9}, {"b": 9}),
        ({"list[1].q": 3}, {"list": [{"type": "x", "p": 1}, {"type": "y", "q": 3}]}),
        ({"list.0": None}, {"list": [None, {"type": "y"}]}),
        ({"block.type": "z"}, {"block": {"type": "z"}}),
        ({"block.type": "z", "block.q": 1}, {"block": {"type": "z", "q": 1}}),
        ({"block": {"q": 1}}, {"block": {"type": "x", "p": 1, "q": 1}}),
        ({"n.e.w": 1}, {"n": {"e": {"w": 1}}}),
    ],
)
def test_overrides_merge_like_a_child(overrides, changed):
    base = {"b": 1, "list": [{"type": "x", "p": 1}, {"type": "y"}], "block": {"type": "x", "p": 1}}
    assert assemble(base, overrides).plain == base | changed


def test_an_override_of_an_item_that_is_not_there_is_refused():
    with pytest.raises(RecipeError, match=r"^--set l\[5\]=1: l\[5\]: no item '5' in l; it has items 0 to 1$"):
        assemble({"l": [1, 2]}, {"l[5]": 1})


def test_references_resolve_after_merging():
    base = {"size": [1, 2], "a": "${size}", "b": {"c": "${a}", "d": "${ b.e[1] }", "e": ["x", "y"]}}
    assert assemble(base, {"size": [3]}).plain == {
        "size": [3], "a": [3], "b": {"c": [3], "d": "y", "e": ["x", "y"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "report"),
    [
        ({"a": "${b}", "b": "${a}"}, "recipe: a: '${b}' refers to itself; write the value out"),
        ({"a": {"b": "${a}"}}, "recipe: a.b: '${a}' refers to itself; write the value out"),
        ({"steps": 1, "a": "${stops}"}, "recipe: a: '${stops}' refers to a missing key; did you mean 'steps'?"),
        ({"a": "x ${b}", "b": 1}, "recipe: a: 'x ${b}' mixes text and a reference; make the reference the whole value"),
    ],
)
def test_a_wrong_reference_is_reported(recipe, report):
    with pytest.raises(RecipeError) as caught:
        assemble(recipe)
    assert str(caught.value).splitlines()[0] == report


def test_references_cannot_multiply_without_end():
    bomb = {"x0": ["y"] * 9} | {f"x{i}": [f"${{x{i - 1}}}"] * 9 for i in range(1, 12)}
    with pytest.raises(RecipeError, match="more than 10,000 values"):
        assemble(bomb)


def test_keys_that_start_with_x_are_free_and_can_be_referred_to():
    assert assemble({"x-widths": [1], "a": {"x-note": 2, "b": "${x-widths}"}}).plain == {"a": {"b": [1]}}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a.b=3e-4", "a.b", 3e-4), ("a=no", "a", "no"), ("a=[1, 2]", "a", [1, 2]), ("a={type: x}", "a", {"type": "x"}),
        ("a=", "a", None), ("a=b=c", "a", "b=c"), ("a='1'", "a", "1"),
    ],
)  # fmt: skip
def test_set_takes_yaml(text, key, value):
    assert set_argument(text) == (key, value)


@pytest.mark.parametrize("text", ["a", "=1", "", "a" + ".a" * 50_000 + "=1"], ids=["a", "=1", "", "deep"])
def test_set_without_key_or_value_is_refused(text):
    with pytest.raises(InputError, match="no 'key=value'"):
        set_argument(text)


def test_a_wrong_value_of_set_is_reported_there():
    with pytest.raises(RecipeError, match=r"^--set a=\[1: a: did not find expected"):
        set_argument("a=[1")


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match=r"no recipe 'no-such'; give the path of a \.yaml file, or a name from"):
        find("no-such")


def test_another_data_set_keeps_how_samples_are_made_and_nothing_of_the_former(tmp_path):
    parent = "data: {type: a, root: here, channels: [ct], fold: 1, patch: [8, 8], augment: [{type: Flip}], workers: 0}"
    child = write(tmp_path, child="extends: parent.yaml\ndata: {type: b, workers: 1}", parent=parent)
    kept = {"patch": [8, 8], "augment": [{"type": "Flip"}], "workers": 1, "type": "b"}
    assert assemble(child).plain == {"data": kept}
    assert assemble(tmp_path / "parent.yaml", {"data.type": "b", "data.workers": 1}).plain == {"data": kept}


def test_the_processing_of_data_is_all_that_is_common_to_data_sets():
    common = {*PROCESSING, "type", "root", "channels", "units", "about", "patient", "folds", "nnunet", "monai"}
    assert common == set(Data.model_fields)


@pytest.mark.parametrize("text", ["${" + " " * 400_000, "${a" * 100_000, "${ " * 100_000 + "}", "$" * 400_000])
def test_a_reference_that_never_ends_is_reported_at_once(tmp_path, text: str):
    (tmp_path / "r.yaml").write_text(f'task: segmentation\nx-a: "{text}"\n')
    started = time.process_time()
    with suppress(RecipeError):
        assemble(tmp_path / "r.yaml")
    assert time.process_time() - started < 1


def heads_of(tmp_path, text: str, **overrides):
    (tmp_path / "parent.yaml").write_text(PARENT_OF_HEADS)
    (tmp_path / "child.yaml").write_text(f"extends: parent.yaml\n{text}")
    model = assemble(tmp_path / "child.yaml", overrides).plain["model"]
    return model["heads"], model.get("weights")


PARENT_OF_HEADS = "model: {heads: {mask: {type: unet}, boxes: {type: retina}}, weights: {mask: 2, boxes: 3}}\n"


def test_null_leaves_out_an_inherited_head_and_its_weight(tmp_path):
    assert heads_of(tmp_path, "model: {heads: {mask: null}}\n") == ({"boxes": {"type": "retina"}}, {"boxes": 3})
    assert heads_of(tmp_path, "", **{"model.heads.mask": None}) == ({"boxes": {"type": "retina"}}, {"boxes": 3})
    both = heads_of(tmp_path, "model: {heads: {mask: null, label: {type: gap}}}\n")
    assert both == ({"boxes": {"type": "retina"}, "label": {"type": "gap"}}, {"boxes": 3})
    assert heads_of(tmp_path, "")[0].keys() == {"mask", "boxes"}


def test_null_for_a_head_that_is_not_inherited_stays_and_is_refused_by_the_schema(tmp_path):
    assert heads_of(tmp_path, "model: {heads: {label: null}}\n")[0]["label"] is None


def test_about_describes_a_model_of_the_data_and_is_not_inherited_by_other_data():
    parent = {
        "about": {"intended_use": "ultrasound"},
        "data": {"type": "busi", "patch": [8, 8]},
        "train": {"steps": 5},
    }
    same, other = {"data": {"patch": [9, 9]}}, {"data": {"type": "image_folder"}}

    def merged(child):
        return merge(from_plain(parent, "p"), from_plain(child, "c")).plain

    assert merged(same)["about"] == {"intended_use": "ultrasound"}
    assert "about" not in merged(other)
    assert merged(other)["train"] == {"steps": 5}
    assert merged({**other, "about": {"changelog": "new"}})["about"] == {"changelog": "new"}


def test_what_is_stated_for_a_head_goes_with_it():
    inherited = {
        "backbone": {"type": "conv_encoder"},
        "heads": {"mask": {"type": "unet", "classes": {1: "tumour"}}, "labels": {"type": "gap"}},
        "weights": {"mask": 2.0, "labels": 0.5},
        "merged_classes": {"mask": {"tumour": ["glioma", "meningioma"]}},
        "seeds": {"mask": {"attention": "labels"}},
    }
    base = {"from": "brain", "model": {"heads": {"boxes": {"type": "yolox"}}}}
    of_other_heads = assemble(base, model_of=lambda name: inherited).plain["model"]
    assert list(of_other_heads["heads"]) == ["boxes"]
    assert [of_other_heads[key] for key in ("weights", "merged_classes", "seeds")] == [{}, {}, {}]
    own_classes = {"from": "brain", "model": {"heads": {"mask": {"type": "unet", "classes": {1: "glioma"}}}}}
    plain = assemble(own_classes, model_of=lambda name: inherited).plain["model"]
    assert (plain["merged_classes"], plain["weights"]) == ({}, {"mask": 2.0})
    unchanged = assemble({"from": "brain"}, model_of=lambda name: inherited).plain["model"]
    assert unchanged == inherited
