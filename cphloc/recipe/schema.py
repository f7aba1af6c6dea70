"""JSON Schema of recipes, for completion and validation in editors.

The schema allows a reference such as ``${data.patch}`` for every value, and ``x-`` keys in every mapping. A recipe that
``extends`` another may leave out any key; ``cphloc check`` reports keys that are missing after merging.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cphloc import paths
from cphloc.config.signature import Argument
from cphloc.errors import InputError
from cphloc.recipe.blocks import arguments_model
from cphloc.recipe.fields import Data
from cphloc.recipe.merge import SWEEP
from cphloc.recipe.recipe import Recipe
from cphloc.recipe.stages import PIPELINE
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.registry.kinds import ALL
from cphloc.registry.timm_names import timm_names

Schema = dict[str, Any]

_REFERENCE: Schema = {"type": "string", "pattern": r"^\$\{[^${}]+\}$"}
_CODED_CLASS: Schema = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "code": {"type": "string"},
                "of": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
            "required": ["name"],
            "additionalProperties": False,
        },
    ]
}
_CODED_CLASSES: Schema = {
    "anyOf": [
        {"type": "object", "additionalProperties": _CODED_CLASS},
        {"type": "array", "items": _CODED_CLASS},
    ]
}
"""Classes with a code beside their name; see `cphloc.recipe.class_codes`."""
_SPACE: Schema = {
    "type": "object",
    "description": "values that cphloc sweep tries, by dotted key",
    "additionalProperties": {
        "anyOf": [
            {"type": "array", "minItems": 1},
            {
                "type": "object",
                "properties": {
                    "low": {"type": "number"},
                    "high": {"type": "number"},
                    "log": {"type": "boolean"},
                    "step": {"type": "number", "exclusiveMinimum": 0},
                },
                "required": ["low", "high"],
                "additionalProperties": False,
            },
        ]
    },
}
"""The block ``sweep``; see `cphloc.studies.search_space`."""
_NOT_WRITTEN = ("Block", "Data", "Stored", "StoredInput", "Options")
"""Parts of a recipe that people do not write as such: blocks of components, and what stages keep of their entries."""
_FREE_KEYS: Schema = {"^x-": {}}
_SHORT = ("schedule", "intensity", "loss", "suppression")
"""Kinds of components that may be written as a name instead of a mapping."""


def recipe_schema() -> Schema:
    """Return the JSON Schema (draft 7) of recipes, including components of installed plug-ins.

    >>> recipe_schema()["properties"]["dims"]["anyOf"][0]["enum"]
    [2, 3]
    """
    made = Recipe.model_json_schema(by_alias=True)
    definitions = {name: _opened(d) for name, d in made.pop("$defs").items() if name not in _NOT_WRITTEN}
    common = Data.model_json_schema()["properties"]
    definitions |= {kind: _kind(kind, common if kind == "dataset" else {}) for kind in ALL if ALL[kind].block}
    definitions["ModelBlocks"]["properties"] |= {
        "backbone": _ref("backbone"),
        "neck": {"anyOf": [_ref("neck"), {"type": "null"}]},
        "heads": {"type": "object", "additionalProperties": _ref("head"), "minProperties": 1},
    }
    definitions["Stage"]["properties"]["stored"] = {"type": "object", "description": "written by cphloc"}
    definitions["coded_classes"] = _CODED_CLASSES
    definitions["Train"]["properties"] |= {"optimizer": _ref("optimizer"), "schedule": _ref("schedule")}
    top, needed = _opened(made), made["required"]
    top["properties"] |= {
        "data": _ref("dataset"),
        "model": _ref("ModelBlocks"),
        "extends": {"type": "string", "description": "recipe to extend"},
        SWEEP: _SPACE,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "cphloc recipe",
        **top,
        "if": {"required": ["extends"]},
        "else": {
            "required": needed,
            "if": {"properties": {"task": {"const": PIPELINE}}},
            "then": {"required": ["stages"]},
            "else": {"required": ["model"]},
        },
        "$defs": definitions,
    }


def schema_line(recipe: Path | None = None, schema: str | None = None) -> str:
    """Return the first line of a recipe, which names its JSON Schema for editors.

    Args:
        recipe: file that the line is for; the path of the schema is relative to its folder. ``None``: absolute.
        schema: path or URL to write instead of that of the installed schema.

    >>> schema_line(schema="recipe.schema.json")
    '# yaml-language-server: $schema=recipe.schema.json\\n'
    """
    if schema is None:
        shipped = (paths.shipped("recipes") / "recipe.schema.json").resolve()
        schema = str(shipped) if recipe is None else Path(os.path.relpath(shipped, recipe.resolve().parent)).as_posix()
    return f"# yaml-language-server: $schema={schema}\n"


def _kind(kind: str, common: Schema) -> Schema:
    """Schema of any component of a kind, or its name alone where that is allowed."""
    found = catalogue.cards(kind)
    choices = [_component(kind, found[name], common) for name in found]
    if kind in _SHORT:
        choices.append({"enum": list(found)})
    return {"anyOf": [*choices, _REFERENCE]}


def _component(kind: str, card: Card, common: Schema) -> Schema:
    properties: Schema = {"type": {"const": card.name, "description": card.summary}}
    properties |= {name: _or_reference(_with_kinds(s)) for name, s in common.items() if name != "type"}
    try:
        properties |= _arguments(card)
    except InputError:
        # A broken plug-in must not disable completion of other components; `cphloc show` reports its card.
        return {"type": "object", "properties": properties}
    closed = {"additionalProperties": False, "patternProperties": _FREE_KEYS}
    return {"title": card.name, "description": card.summary, "type": "object", "properties": properties, **closed}


def _arguments(card: Card) -> Schema:
    model = arguments_model(card.import_, catalogue.stated_signature(card), frozenset())
    schemas = model.model_json_schema()["properties"] if model.model_fields else {}
    arguments = {a.name: a for a in catalogue.arguments(card)}
    properties = {name: _or_reference(_argument(schema, arguments[name])) for name, schema in schemas.items()}
    if (card.kind, card.name) == ("backbone", "timm"):
        properties["name"] = {"anyOf": [{"enum": list(timm_names())}, {"type": "string"}]}
    return properties


def _argument(schema: Schema, argument: Argument) -> Schema:
    if argument.name == "classes" and "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], _ref("coded_classes")]}
    if argument.component is None:
        return schema
    nested = [_ref(argument.component)] + ([{"type": "null"}] if argument.default is None else [])
    return {"anyOf": nested, "description": argument.meaning}


def _with_kinds(schema: Schema) -> Schema:
    """Schema of a common field of ``data``, with the components of ``augment`` and ``intensity``."""
    if schema.get("title") == "Augment":
        return schema | {"items": _ref("transform")}
    if schema.get("title") == "Intensity":
        one = _ref("intensity")
        return {"anyOf": [one, {"type": "array", "items": one}], "description": schema["description"]}
    return schema


def _opened(schema: Schema) -> Schema:
    """Schema of a pydantic model that also allows references and ``x-`` keys, and has no required keys."""
    properties = {name: _or_reference(_referring(s)) for name, s in schema["properties"].items()}
    closed = {"additionalProperties": False, "patternProperties": _FREE_KEYS}
    return {"type": "object", "properties": properties, **closed}


def _or_reference(schema: Schema) -> Schema:
    if "$ref" in schema:
        return schema
    about = {key: schema[key] for key in ("description", "default") if key in schema}
    own = {key: value for key, value in schema.items() if key not in (*about, "title")}
    return {"anyOf": [*own.get("anyOf", [own]), _REFERENCE], **about}


def _referring(schema: Schema) -> Schema:
    return {"$ref": schema["$ref"]} if "$ref" in schema else schema


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
