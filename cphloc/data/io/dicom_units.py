"""What DICOM tags state about a scan: the unit of its values, frame of reference, patient and date; PET to SUV.

The standardized uptake value by body weight is ``activity concentration (Bq/mL) * weight (g) / injected dose (Bq)``,
with dose and concentration decay-corrected to the same time (QIBA Profile FDG-PET/CT 1.14, appendix G; DICOM PS3.3
C.8.9.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cphloc.data.io.dicom_slices import Slice, parsing
from cphloc.errors import DataError
from cphloc.structures.volume import Scan

if TYPE_CHECKING:
    from pydicom import Dataset

_UNITS = {"BQML": "Bq/mL", "GML": "SUV"}
"""Units (0054,1001) of PET that are known by another name here."""
_PHILIPS_SUV, _PHILIPS_ACTIVITY = (0x7053, 0x1000), (0x7053, 0x1009)
"""Philips: factors from stored counts to SUV and to Bq/mL."""
_GE_SCAN_TIME = (0x0009, 0x100D)
"""GE: time to which the values are decay-corrected."""
_LEAST_DOSE_BQ = 1e5
"""Smallest total dose in Bq that a scan is made with; smaller numbers are in another unit, such as MBq."""
_MOST_HALF_LIVES = 12.0
_MOST_KG = 700.0
"""Largest weight of a patient in kg; larger numbers are in another unit, such as g."""
_INJECTION = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)
"""Tags of the injection on which SUV depends."""
_NO_DATE = date(2000, 1, 1)
"""Stands for the day of a scan whose dates were removed; only the time since the injection counts."""


def scan_of(slices: Sequence[Slice]) -> Scan:
    """Return what the tags of a series state about unit, frame of reference, patient and date."""
    first = slices[0]
    header = first.header
    with parsing(first.path):
        dates = (_date(header.get(tag)) for tag in ("AcquisitionDate", "SeriesDate", "ContentDate", "StudyDate"))
        return Scan(
            unit_of(header),
            str(header.get("FrameOfReferenceUID") or "") or None,
            str(header.get("PatientID") or "").strip() or None,
            next((day for day in dates if day is not None), None),
        )


def unit_of(header: Dataset) -> str | None:
    """Return the unit of rescaled values: ``HU``, ``SUV``, ``Bq/mL``, another that the tags name, or ``None``."""
    modality = header.get("Modality")
    if modality == "PT":
        stated = str(header.get("Units") or "").strip()
        if stated == "GML" and str(header.get("SUVType") or "BW").strip() != "BW":
            return f"SUV{header.SUVType}"
        return _UNITS.get(stated, stated) or None
    if modality == "CT":
        stated = str(header.get("RescaleType") or "").strip()
        rescaled = "RescaleIntercept" in header or "PerFrameFunctionalGroupsSequence" in header
        return stated if stated not in ("", "HU", "US") else "HU" if stated == "HU" or rescaled else None
    return None


def suv_factor(slices: Sequence[Slice]) -> float:
    """Return the factor from the rescaled values of a PET series to SUV by body weight.

    Raises:
        DataError: a tag that is needed is missing, contradicts another, or states values that cannot be converted.
    """
    header, path = slices[0].header, slices[0].path
    with parsing(path):
        unit = unit_of(header)
        if unit == "SUV":
            return 1.0
        if unit == "CNTS" and (factor := _private(header, _PHILIPS_SUV)):
            return factor
        activity = _private(header, _PHILIPS_ACTIVITY) if unit == "CNTS" else 1.0 if unit == "Bq/mL" else 0.0
        if not activity:
            kind = f" with SUVType '{header.SUVType}'" if header.get("SUVType") else ""
            raise _refused(path, f"Units is '{header.get('Units') or 'missing'}'{kind}, which has no conversion")
        _check_corrections(header, path)
        _check_equal(slices)
        weight_kg = _positive(header.get("PatientWeight"), "PatientWeight", path)
        if weight_kg > _MOST_KG:
            raise _refused(path, f"PatientWeight is {weight_kg:g}, which cannot be kg")
        return activity * 1000 * weight_kg / _dose_bq(slices)


def _check_equal(slices: Sequence[Slice]) -> None:
    """Raise an error for slices that state different patients or injections, as after joining two series."""
    seen: dict[str, tuple[str, Slice]] = {}
    for one in slices:
        isotope = next(iter(one.header.get("RadiopharmaceuticalInformationSequence") or ()), None)
        of_isotope = {} if isotope is None else {tag: isotope.get(tag) for tag in _INJECTION}
        stated = {tag: one.header.get(tag) for tag in ("PatientWeight", "DecayCorrection")} | of_isotope
        for tag, value in stated.items():
            known, first = seen.setdefault(tag, (str(value), one))
            if str(value) != known:
                raise _refused(one.path, f"{tag} is {value or 'missing'}, but {known} in {first.path.name}")


def _check_corrections(header: Dataset, path: Any) -> None:
    """Raise an error for values that are not corrected for attenuation and decay."""
    done = header.get("CorrectedImage")
    steps = [done] if isinstance(done, str) else list(done or ())
    for step, what in (("ATTN", "attenuation"), ("DECY", "decay")):
        if steps and step not in steps:
            raise _refused(path, f"CorrectedImage {steps} states no correction for {what}")
    if str(header.get("DecayCorrection") or "") not in ("START", "ADMIN"):
        raise _refused(path, f"DecayCorrection is '{header.get('DecayCorrection') or 'missing'}', not START or ADMIN")


def _dose_bq(slices: Sequence[Slice]) -> float:
    """Injected dose in Bq at the time to which the values are decay-corrected."""
    header, path = slices[0].header, slices[0].path
    sequence = header.get("RadiopharmaceuticalInformationSequence") or ()
    if len(sequence) != 1:
        raise _refused(path, f"RadiopharmaceuticalInformationSequence has {len(sequence)} items instead of one")
    isotope = sequence[0]
    dose = _positive(isotope.get("RadionuclideTotalDose"), "RadionuclideTotalDose", path)
    if dose < _LEAST_DOSE_BQ:
        raise _refused(path, f"RadionuclideTotalDose is {dose:g}, which cannot be Bq")
    if header.DecayCorrection == "ADMIN":
        return dose
    half_life = _positive(isotope.get("RadionuclideHalfLife"), "RadionuclideHalfLife", path)
    seconds = (_scan_time(slices) - _injection_time(isotope, slices)).total_seconds()
    if not 0 <= seconds <= _MOST_HALF_LIVES * half_life:
        raise _refused(path, f"the scan starts {seconds / 60:.0f} minutes after the injection by its tags")
    return dose * 0.5 ** (seconds / half_life)


def _scan_time(slices: Sequence[Slice]) -> datetime:
    """Time to which START corrects: that of the series, or of its first image where the series was stored later."""
    header, path = slices[0].header, slices[0].path
    acquired = [t for s in slices if (t := _time(s.header, "AcquisitionDate", "AcquisitionTime")) is not None]
    series = _time(header, "SeriesDate", "SeriesTime")
    if series is not None and (not acquired or series <= min(acquired)):
        return series
    stated = _datetime(_element(header, _GE_SCAN_TIME)) or (min(acquired) if acquired else None)
    if stated is None:
        raise _refused(path, "SeriesTime and AcquisitionTime are missing")
    return stated


def _injection_time(isotope: Dataset, slices: Sequence[Slice]) -> datetime:
    """Time of the injection; a time without a date is on the day of the scan, or the day before if it is later."""
    stated = _datetime(isotope.get("RadiopharmaceuticalStartDateTime"))
    if stated is not None:
        return stated
    clock = _clock(isotope.get("RadiopharmaceuticalStartTime"))
    if clock is None:
        raise _refused(slices[0].path, "RadiopharmaceuticalStartTime is missing")
    scan = _scan_time(slices)
    start = datetime.combine(scan.date(), datetime.min.time()) + clock
    return start if start <= scan else start - timedelta(days=1)


def _time(header: Dataset, day: str, clock: str) -> datetime | None:
    """Date and time from two tags; the date of the study where the tag has none, `_NO_DATE` where neither has one."""
    date_of, time_of = _date(header.get(day)) or _date(header.get("StudyDate")), _clock(header.get(clock))
    return None if time_of is None else datetime.combine(date_of or _NO_DATE, datetime.min.time()) + time_of


def _date(value: Any) -> date | None:
    """A DICOM date (DA), ``YYYYMMDD``; ``None`` for an empty or invalid one."""
    try:
        return datetime.strptime(str(value or "").replace(".", "")[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _clock(value: Any) -> timedelta | None:
    """A DICOM time (TM), ``HHMMSS.FFFFFF`` with optional parts, as time since midnight; ``None`` for an invalid one."""
    text = str(value or "").strip().replace(":", "")
    whole, _, fraction = text.partition(".")
    if len(whole) not in (2, 4, 6) or not whole.isdigit():
        return None
    hours, minutes, seconds = (int(whole[k : k + 2] or 0) for k in (0, 2, 4))
    share = float(f"0.{fraction}") if fraction.isdigit() else 0.0
    return timedelta(hours=hours, minutes=minutes, seconds=seconds + share)


def _datetime(value: Any) -> datetime | None:
    """A DICOM date and time (DT); an offset from UTC is left out, because other tags of the file have none."""
    text = str(value or "").strip()
    for sign in "+-":
        text = text.partition(sign)[0]
    day, clock = _date(text), _clock(text[8:])
    return None if day is None or clock is None else datetime.combine(day, datetime.min.time()) + clock


def _positive(value: Any, tag: str, path: Any) -> float:
    number = float(value) if value not in (None, "") else 0.0
    if not 0 < number < float("inf"):
        raise _refused(path, f"{tag} is {'missing' if value in (None, '') else value}")
    return number


def _element(header: Dataset, tag: tuple[int, int]) -> Any:
    return header[tag].value if tag in header else None


def _private(header: Dataset, tag: tuple[int, int]) -> float:
    """Value of a private tag; 0 where it is absent or is not a number."""
    try:
        return float(_element(header, tag) or 0)
    except (TypeError, ValueError):
        return 0.0


def _refused(path: Any, reason: str) -> DataError:
    return DataError(f"{path}: cannot be converted to SUV: {reason}; export it again with this tag, or convert it")
