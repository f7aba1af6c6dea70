"""Read the configuration of a MONAI bundle as data: references are followed, expressions are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.importing.imported import unsupported
from cphloc.importing.monai_expressions import call_of, value_of
from cphloc.importing.nnunet_folder import mapping_of

CONFIGURATIONS = ("inference.json", "inference.yaml", "inference.yml")

_MOST_VALUES = 100_000
"""Largest number of values of a configuration with its references followed."""

_WITHOUT_EFFECT = ("device", "sw_device")
"""Arguments that are not read: they say where something is computed, often by code."""


@dataclass(frozen=True)
class BundleConfig:
    """Configuration of a bundle.

    Args:
        path: ``configs/inference.json`` or ``.yaml``.
        content: its content.
        metadata: ``configs/metadata.json``.
        facts: its content.
        budget: ends when too many values were followed.
    """

    path: Path
    content: Mapping[str, Any]
    metadata: Path
    facts: Mapping[str, Any]
    budget: Iterator[int] = field(default_factory=lambda: iter(range(_MOST_VALUES)), repr=False)

    def of(self, key: str) -> dict[str, Any]:
        """Return a section with all references followed.

        Raises:
            InputError: the section is missing or no mapping, or holds an expression.
        """
        found = self.resolved(self.content.get(key), key)
        if not isinstance(found, dict):
            raise unsupported(self.path, f"a bundle whose {key} is {found}", "a mapping with _target_ is expected")
        return found

    def steps(self, key: str) -> list[dict[str, Any]]:
        """Return the transforms of a section that are not disabled, each with its ``_target_`` and arguments."""
        if self.content.get(key) is None:
            return []
        section = self.resolved(self.content[key], key, ("transform",))
        steps = section.get("transforms", []) if isinstance(section, dict) else section
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise unsupported(self.path, f"the {key} {steps}", "a list of transforms is expected")
        return [step for step in steps if step.get("_disabled_") is not True]

    def resolved(self, value: Any, where: str, kept: tuple[str, ...] = (), depth: int = 0) -> Any:
        """Follow references in a value.

        Args:
            value: the value.
            where: its path, for messages.
            kept: keys whose values are left as they are.
            depth: number of values around it.

        Raises:
            InputError: it holds an expression, or references go in a circle.
        """
        if depth > 30 or next(self.budget, None) is None:
            raise unsupported(self.path, where[:200], "its references go in a circle, or multiply without end")
        if isinstance(value, dict):
            saves = str(value.get("_target_")).endswith("SaveImaged")  # where files go has no effect on them
            return {
                key: one if key in kept else self.resolved(one, f"{where}::{key}", kept, depth + 1)
                for key, one in value.items()
                if key not in _WITHOUT_EFFECT and (not saves or key in ("_target_", "keys"))
            }
        if isinstance(value, list):
            return [self.resolved(one, f"{where}::{n}", kept, depth + 1) for n, one in enumerate(value)]
        if isinstance(value, str) and value.startswith("@"):
            return self.resolved(self._referred(value[1:], where), where, kept, depth + 1)
        if isinstance(value, str) and value.startswith("$"):
            return self._of_expression(value, where, depth)
        return value

    def _of_expression(self, value: str, where: str, depth: int) -> Any:
        """Return the value of an expression that is data."""

        def follow(name: str) -> Any:
            """Return the value of an item that the expression refers to."""
            return self.resolved(self._referred(name, where), where, (), depth + 1)

        try:
            return value_of(value, follow)
        except InputError:
            raise
        except ValueError:
            what = f"the expression {value[:200]} of {where}"
            raise unsupported(self.path, what, "it is code; write its value") from None

    def _referred(self, name: str, where: str) -> Any:
        found: Any = self.content
        for part in name.replace("#", "::").split("::"):
            known = isinstance(found, dict) and part in found
            if not known and not (isinstance(found, list) and part.isdigit() and int(part) < len(found)):
                raise unsupported(self.path, f"the reference @{name} of {where}", "there is nothing of that name")
            found = found[part] if isinstance(found, dict) else found[int(part)]
        return found

    def calls(self, target: str) -> dict[str, dict[str, Any]]:
        """Return the named arguments of the methods of an item that expressions call, by the name of the method.

        Raises:
            InputError: an argument is code.
        """

        def follow(name: str) -> Any:
            """Return the value of an item."""
            return self.resolved(self._referred(name, target), target)

        lines = [line for value in self.content.values() for line in (value if isinstance(value, list) else [value])]
        try:
            found = [call_of(line, target, follow) for line in lines if isinstance(line, str)]
        except InputError:
            raise
        except ValueError as error:
            raise unsupported(self.path, f"the expression {error} of {target}", "it is code") from None
        return dict(one for one in found if one is not None)

    def class_names(self, outputs: int, regions: bool) -> list[str] | None:
        """Return the names of the classes that the metadata state, without the background of a softmax."""
        stated = self._of_data("outputs", "pred").get("channel_def")
        if not isinstance(stated, dict) or len(stated) != outputs:
            return None
        names = [str(stated[key]) for key in sorted(stated, key=int)]
        return names if regions else names[1:]

    def channels(self, count: int) -> list[str]:
        """Return the names of the channels, those of the metadata where they state them."""
        stated = self._of_data("inputs", "image").get("channel_def")
        if isinstance(stated, dict) and len(stated) == count:
            names = [str(stated[key]).lower() for key in sorted(stated, key=int)]
            if len(set(names)) == count:
                return names
        return ["image"] if count == 1 else [f"channel_{number}" for number in range(count)]

    def _of_data(self, side: str, key: str) -> Mapping[str, Any]:
        found: Any = self.facts.get("network_data_format")
        for part in (side, key):
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def bundle_config(folder: Path) -> BundleConfig:
    """Read the configuration of a bundle.

    Raises:
        NotFoundError: there is none.
        DataError: a file is damaged.
    """
    found = [folder / "configs" / name for name in CONFIGURATIONS if (folder / "configs" / name).is_file()]
    metadata = folder / "configs" / "metadata.json"
    if not found or not metadata.is_file():
        lacking = "configs/metadata.json" if found else f"configs/{CONFIGURATIONS[0]}"
        msg = f"{folder}: has no {lacking}; give the folder of a MONAI bundle"
        raise NotFoundError(msg)
    return BundleConfig(found[0], _mapping(found[0]), metadata, mapping_of(metadata))


def _mapping(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        return mapping_of(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"{path}: cannot be read ({error}); copy it again"
        raise DataError(msg) from None
    if not isinstance(content, dict):
        msg = f"{path}: does not hold a mapping; copy it again"
        raise DataError(msg)
    return content
