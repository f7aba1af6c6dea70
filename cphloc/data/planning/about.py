"""Write what is known about a user's own data, and what the model card needs besides."""

from __future__ import annotations

from cphloc.config.yamlio import inline
from cphloc.data.planning.survey import Survey
from cphloc.registry import catalogue
from cphloc.structures.units import MODALITIES_OF_CHANNELS

OWN = "that of your data"
"""Licence on the card of a data set type for a user's own data."""

_MEANINGS = {
    "name": "name of the data",
    "licence": "such as CC BY 4.0",
    "citation": "publication or people to cite",
    "source": "web address, if there is one",
    "modality": "DICOM modality, such as CT, MR, US; one per channel if they differ",
}


def about_lines(surveyed: Survey, name: str) -> list[str]:
    """Write the block ``data.about`` of a recipe, line by line; none for a data set whose card states it all.

    Args:
        surveyed: the survey of the data set.
        name: name of the data set's card.
    """
    if catalogue.card("dataset", name).licence != OWN:
        return []
    stated = {**dict.fromkeys(_MEANINGS), **surveyed.dataset.about, "modality": modalities(surveyed)}
    lines = [f"    {key}: {inline(stated[key])}  # {meaning}" for key, meaning in _MEANINGS.items()]
    return ["  about:  # what the model card says about the data; fill it in before publishing", *lines]


def modalities(surveyed: Survey) -> list[str]:
    """DICOM modality of each channel, or one where they are equal; empty where a file and its channel do not say it."""
    of_files = {case.modality for case in surveyed.cases}
    known = [
        "CT" if looks_like_ct(surveyed, k) else MODALITIES_OF_CHANNELS.get(channel.lower(), "")
        for k, channel in enumerate(surveyed.dataset.channels)
    ]
    if len(known) == 1 and not known[0] and len(of_files) == 1:
        known = [of_files.pop() or ""]
    return sorted(set(known)) if len(set(known)) == 1 and all(known) else known if all(known) else []


def looks_like_ct(surveyed: Survey, channel: int) -> bool:
    """Return True for a channel that is called ct, comes from DICOM CT, or has values from air to tissue in HU."""
    named = surveyed.dataset.channels[channel].lower() == "ct"
    if named or all(case.modality == "CT" for case in surveyed.cases):
        return True
    edges = [case.percentiles[channel] for case in surveyed.cases]
    return all(-1200 <= low <= -200 and 0 <= high <= 4000 for low, _, high in edges)


def unit_lines(surveyed: Survey, name: str) -> list[str]:
    """Write ``data.units`` for channels in HU, unless the card of the data set states the units."""
    if catalogue.card("dataset", name).licence != OWN:
        return []
    channels = surveyed.dataset.channels
    units = {channel: "HU" for k, channel in enumerate(channels) if looks_like_ct(surveyed, k)}
    return [f"  units: {inline(units)}"] if units else []
