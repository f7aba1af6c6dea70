"""Parse the header of an NRRD file (teem.sourceforge.net/nrrd/format.html).

Every field that changes voxels or geometry is interpreted or refused; a field that the format does not have is an
error, because it may be a misspelt one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPE = {name: code for code, names in _TYPES.items() for name in names}
_TO_LPS = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
    "scanner-xyz": (1.0, 1.0, 1.0),
    "3d-right-handed": (1.0, 1.0, 1.0),
}
"""Spaces that are interpreted -> signs that convert them to LPS. The last two, like a file without a space, name no
direction of the patient; they are read as LPS, as ITK does."""
_UNITS_MM = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3}
"""Unit of an axis -> its length in mm; an empty unit is taken as mm."""
_SPATIAL = ("domain", "space")
_CHANNELS = (
    *("list", "vector", "covariant-vector", "normal", "scalar", "stub", "time", "none", "???"),
    *("rgb-color", "rgba-color", "3-color", "4-color", "2-vector", "3-vector", "4-vector", "3-gradient", "3-normal"),
)
"""Kinds of axes whose samples become channels."""
_UNREAD = ("content", "thicknesses", "labels", "measurementframe", "min", "max", "number", "blocksize")
"""Fields that describe the data and change neither voxels nor geometry."""
_FIELDS = (
    *("dimension", "type", "encoding", "endian", "sizes", "spacings", "axismins", "axismaxs", "centers", "centerings"),
    *("units", "kinds", "space", "spacedimension", "spaceunits", "spaceorigin", "spacedirections", "sampleunits"),
    *("datafile", "lineskip", "byteskip", "oldmin", "oldmax", *_UNREAD),
)


@dataclass(frozen=True)
class Header:
    """Contents of an NRRD header; axes in file order, the fastest-varying first.

    Args:
        sizes: samples per axis.
        dtype: type of a sample, with its byte order.
        encoding: encoding of the data, lower case.
        directions: step along each axis in LPS mm; ``None`` for an axis whose samples are channels.
        origin: position of the first voxel in LPS mm.
        kinds: kind of each axis, lower case; empty where the file states none.
        data_file: value of the field of that name; ``None`` where the data follows the header.
        listed: lines after the header's fields, which are the names of data files after ``LIST``.
        line_skip: lines before the encoded data.
        byte_skip: bytes before the data; -1 where the data ends at the end of the file.
        unit: unit of the values; ``None`` where the file states none.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype
    encoding: str
    directions: tuple[tuple[float, ...] | None, ...]
    origin: tuple[float, ...]
    kinds: tuple[str, ...]
    data_file: str | None
    listed: tuple[str, ...]
    line_skip: int
    byte_skip: int
    unit: str | None


def parse(text: str) -> Header:
    """Parse a header.

    Args:
        text: the header, without the blank line after it.

    Raises:
        ValueError: a field is missing, repeated, unknown, invalid or has a value that is not supported.
    """
    fields, listed = _fields(text)
    _separate_volumes(fields)
    sizes = tuple(int(n) for n in _need(fields, "sizes").split())
    if len(sizes) != int(_need(fields, "dimension")) or not 2 <= len(sizes) <= 5 or min(sizes) < 1:
        msg = f"dimension {fields['dimension']} and sizes {sizes}"
        raise ValueError(msg)
    kinds = _kinds(fields, len(sizes))
    directions, origin = _axes(fields, sizes, kinds)
    if "oldmin" in fields or "oldmax" in fields:
        msg = "its values are quantized from another range (old min, old max); save the real values"
        raise ValueError(msg)
    return Header(
        sizes,
        _dtype(fields),
        _need(fields, "encoding").lower(),
        directions,
        origin,
        kinds,
        fields.get("datafile"),
        listed,
        int(fields.get("lineskip", 0)),
        int(fields.get("byteskip", 0)),
        fields.get("sampleunits", "").strip('" ') or None,
    )


def _fields(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Fields of a header by name without spaces, and the lines after ``data file: LIST``, without key/value pairs."""
    fields: dict[str, str] = {}
    lines = text.splitlines()[1:]
    for number, line in enumerate(lines):
        if not line or line.startswith("#") or re.match(r"[^:]*:=", line):
            continue
        match = re.match(r"([^:]+): ?(.*)", line)
        name = match[1].lower().replace(" ", "") if match else ""
        if match is None or name not in _FIELDS or name in fields:
            what = "the repeated" if name in fields else "the unknown"
            msg = f"{what} field {line[:40]!r}"
            raise ValueError(msg)
        fields[name] = match[2].strip()
        if name == "datafile" and fields[name].startswith("LIST"):
            return fields, tuple(filter(None, map(str.strip, lines[number + 1 :])))
    return fields, ()


def _separate_volumes(fields: dict[str, str]) -> None:
    """Restate a space of four axes, as ITK writes a series of volumes, as one of three and a list of volumes.

    Raises:
        ValueError: no axis of the file is along the fourth alone.
    """
    vectors = re.findall(r"none|\([^)]*\)", fields.get("spacedirections", ""))
    steps = [[float(v) for v in vector.strip("()").split(",")] if vector != "none" else [0.0] * 4 for vector in vectors]
    if not steps or {len(step) for step in steps} != {4} or "none" in vectors:
        return
    alone = [not any(step[:3]) for step in steps]
    if sum(alone) != 1 or any(step[3] for step, last in zip(steps, alone, strict=True) if not last):
        msg = "its four axes of space do not separate into three and a series"
        raise ValueError(msg)
    shown = ["none" if last else f"({','.join(map(repr, step[:3]))})" for step, last in zip(steps, alone, strict=True)]
    fields["spacedirections"] = " ".join(shown)
    if (origin := fields.get("spaceorigin", "none")) != "none":
        fields["spaceorigin"] = f"({','.join(origin.strip('()').split(',')[:3])})"
    if len(kinds := fields.get("kinds", "").split()) == len(alone):
        fields["kinds"] = " ".join("list" if last else kind for kind, last in zip(kinds, alone, strict=True))
    if len(units := re.findall(r'"[^"]*"', fields.get("spaceunits", ""))) == 4:
        fields["spaceunits"] = " ".join(units[:3])


def _need(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        msg = f"it has no field '{name}'"
        raise ValueError(msg)
    return fields[name]


def _dtype(fields: dict[str, str]) -> np.dtype:
    name = _need(fields, "type").lower()
    if name not in _DTYPE:
        msg = f"the type '{name[:40]}' is not one of real numbers"
        raise ValueError(msg)
    endian = fields.get("endian", "little").lower()
    if endian not in ("little", "big"):
        msg = f"endian '{endian[:40]}' is neither little nor big"
        raise ValueError(msg)
    return np.dtype(("<" if endian == "little" else ">") + _DTYPE[name])


def _kinds(fields: dict[str, str], count: int) -> tuple[str, ...]:
    kinds = tuple(fields.get("kinds", "").lower().split())
    unknown = [kind for kind in kinds if kind not in _SPATIAL and kind not in _CHANNELS]
    if unknown or (kinds and len(kinds) != count):
        msg = f"kinds '{fields['kinds'][:80]}': " + (
            f"'{unknown[0]}' is unknown, or no axis of an image" if unknown else f"must be {count}"
        )
        raise ValueError(msg)
    return kinds


def _axes(
    fields: dict[str, str], sizes: tuple[int, ...], kinds: tuple[str, ...]
) -> tuple[tuple[tuple[float, ...] | None, ...], tuple[float, ...]]:
    """Directions and origin; see `Header`."""
    space = fields.get("space", "").lower()
    if "space" in fields and space not in _TO_LPS:
        msg = f"the space '{space[:60]}' is not one of {', '.join(_TO_LPS)}; correct it or convert the file"
        raise ValueError(msg)
    if "spacedirections" not in fields:
        return _plain_axes(fields, sizes, kinds)
    if {"spacings", "axismins", "axismaxs"} & set(fields):
        msg = "it has space directions as well as spacings or axis mins"
        raise ValueError(msg)
    found = re.findall(r"none|\([^)]*\)", fields["spacedirections"])
    dims = next((v.count(",") + 1 for v in found if v != "none"), 0)
    scale = np.array(_TO_LPS.get(space, (1.0, 1.0, 1.0))[:dims]) * _space_units(fields, dims)
    directions = tuple(None if v == "none" else _vector(v, scale) for v in found)
    for kind, direction in zip(kinds, directions, strict=bool(kinds)):
        if (kind in _SPATIAL) != (direction is not None):
            msg = f"an axis of kind {kind} has the direction {direction}"
            raise ValueError(msg)
    origin = fields.get("spaceorigin", "none")
    return directions, (0.0,) * dims if origin == "none" else _vector(origin, scale)


def _plain_axes(
    fields: dict[str, str], sizes: tuple[int, ...], kinds: tuple[str, ...]
) -> tuple[tuple[tuple[float, ...] | None, ...], tuple[float, ...]]:
    """Directions and origin of a file without space directions: axes along those of the world."""
    count = len(sizes)
    lows, highs = (_numbers(fields, name, count) for name in ("axismins", "axismaxs"))
    nodes = (fields.get("centers") or fields.get("centerings") or "").lower().split() or [""] * count
    spacings = _numbers(fields, "spacings", count)
    if "spacings" not in fields and "axismaxs" in fields:
        samples = np.array([n - (centre == "node") for n, centre in zip(sizes, nodes, strict=True)])
        spacings = (highs - lows) / samples
    elif "spacings" not in fields:
        spacings = np.where(np.isin(kinds, _SPATIAL), 1.0, np.nan) if kinds else np.ones(count)
        if "axismins" in fields:
            msg = "it has axis mins without spacings"
            raise ValueError(msg)
    spatial = [kind in _SPATIAL for kind in kinds] if kinds else np.isfinite(spacings).tolist()
    units = re.findall(r'"([^"]*)"', fields.get("units", "")) or [""] * count
    steps = [s * _unit(u) if inside else 0.0 for s, u, inside in zip(spacings, units, spatial, strict=True)]
    axes = iter(np.eye(sum(spatial)))
    directions = tuple(
        tuple((next(axes) * step).tolist()) if inside else None for step, inside in zip(steps, spatial, strict=True)
    )
    origin = tuple(
        float(low * _unit(unit) + (0 if centre == "node" else step / 2)) if np.isfinite(low) else 0.0
        for low, unit, centre, step, inside in zip(lows, units, nodes, steps, spatial, strict=True)
        if inside
    )
    return directions, origin


def _numbers(fields: dict[str, str], name: str, count: int) -> np.ndarray:
    """Numbers ``(count,)`` of a field, NaN where it is absent."""
    return np.array([float(v) for v in fields[name].split()] if name in fields else [np.nan] * count)


def _space_units(fields: dict[str, str], dims: int) -> np.ndarray:
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", "")) or [""] * dims
    return np.array([_unit(unit) for unit in units])


def _unit(unit: str) -> float:
    if unit.strip() not in _UNITS_MM:
        msg = f"the unit '{unit[:40]}' is not one of {', '.join(filter(None, _UNITS_MM))}"
        raise ValueError(msg)
    return _UNITS_MM[unit.strip()]


def _vector(text: str, scale: np.ndarray) -> tuple[float, ...]:
    """Parse a vector such as ``(1,0,0)`` and multiply it by ``scale`` per component."""
    values = np.array([float(v) for v in text.strip("()").split(",")])
    if values.shape != scale.shape or not np.isfinite(values).all():
        msg = f"the vector {text[:60]} must be {len(scale)} numbers"
        raise ValueError(msg)
    return tuple((values * scale).tolist())
