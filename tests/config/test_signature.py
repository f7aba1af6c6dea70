from __future__ import annotations

import inspect
import sys

import pytest

from cphloc.config.argument_schema import words
from cphloc.config.signature import REQUIRED, WIRED, arguments_of, parse_signature
from cphloc.errors import InputError
from cphloc.registry import catalogue, kinds

F = "fixture_components"


def test_arguments_come_from_the_source_without_importing_it(fixture_registry):
    found = {a.name: a for a in arguments_of(f"{F}:ConvEncoder")}
    assert F not in sys.modules
    assert list(found) == ["widths", "kernel", "norm", "dropout", "residual"], "wired ones are left out"
    assert found["widths"].default == [24, 48, 96], "a constant of the module, as a list"
    assert found["widths"].meaning == "channels of each stage, fine to coarse."
    assert words(found["norm"].annotation) == "instance, batch or group", "an alias of the module"


def test_a_constructor_is_inherited_from_a_parent(fixture_registry):
    found = {a.name: a for a in arguments_of(f"{F}:Unet")}
    assert found["classes"].default is REQUIRED
    assert found["loss"].component == "loss"


def test_dataclasses_have_the_constructor_that_python_gives_them(fixture_registry):
    assert [(a.name, a.default) for a in arguments_of(f"{F}:ZScore")] == [("clip", [0.0, 100.0])]


@pytest.mark.parametrize(
    ("annotation", "meaning"),
    [
        ("int", "whole number"), ("float | None", "number or null"), ("str", "text"), ("bool", "true or false"),
        ("PositiveInt", "whole number > 0"), ("UnitInterval", "number >= 0 and <= 1"),
        ("Sequence[PositiveInt]", "list of (whole number > 0)"), ("tuple[int, ...]", "list of whole numbers"),
        ("tuple[float, float]", "list of 2: number, number"), ("PerAxis", "whole number > 0, or one per axis"),
        ("Mapping[int, str] | Sequence[str]", "mapping of whole number to text or list of text"),
        ("Literal['a', 'b'] | None", "a or b or null"), ("Optional[int]", "whole number or null"),
        ("'int'", "whole number"), ("Annotated[int, Ge(2)]", "whole number >= 2"), ("dict[str, list[int]]",
         "mapping of text to list of whole numbers"),
    ],
)  # fmt: skip
def test_a_type_in_words(annotation, meaning):
    assert words(parse_signature(f"x: {annotation}")[0].annotation) == meaning


@pytest.mark.parametrize(
    ("signature", "complaint"),
    [
        ("x", "argument 'x' has no type; annotate it"),
        ("*args: int", "hide the arguments; name each one"),
        ("**kwargs: int", "hide the arguments; name each one"),
        ("x: Tensor", "has the type 'Tensor', which a recipe cannot hold"),
        ("x: Callable[[int], int]", "which a recipe cannot hold"),
        ("x: int = f()", "has the default 'f()'; a default must be a literal"),
        ("thing: nn.Module", "its name does not say which kind"),
        ("x: int = ", "write it as Python parameters"),
    ],
)
def test_a_signature_that_a_recipe_cannot_serve_is_refused(signature, complaint):
    with pytest.raises(InputError) as caught:
        parse_signature(signature)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("no_such_package.there:C", "no module 'no_such_package.there'; check 'import:' in the card"),
        ("cphloc.no_such_module:C", "no module 'cphloc.no_such_module'"),
        ("cphloc.structures.levels:NoSuchClass", "module 'cphloc.structures.levels' has no class 'NoSuchClass'"),
    ],
)
def test_a_class_that_is_not_there(target, complaint):
    with pytest.raises(InputError) as caught:
        arguments_of(target)
    assert complaint in str(caught.value)


def _in_lists(value):
    """Return a value as a file of signatures holds it: lists in the place of tuples."""
    return [_in_lists(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_shipped_signature_equals_that_of_the_imported_class(kind):
    """The oracle is ``inspect`` on the class itself."""
    from torch import nn

    for name in catalogue.cards(kind):
        made = catalogue.resolve(kind, name)
        parameters = {} if made.__init__ is nn.Module.__init__ else inspect.signature(made).parameters
        stated = {n: p.default for n, p in parameters.items() if n not in WIRED}
        found = {a.name: a.default for a in catalogue.arguments(catalogue.card(kind, name))}
        assert list(found) == list(stated)
        for argument, default in stated.items():
            if default is inspect.Parameter.empty:
                assert found[argument] is REQUIRED
            elif isinstance(found[argument], dict):  # a component as default
                stated_args = {key: value for key, value in found[argument].items() if key != "type"}
                assert catalogue.resolve("suppression", found[argument]["type"])(**stated_args) == default
            else:
                assert found[argument] == _in_lists(default)
