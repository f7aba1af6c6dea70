from __future__ import annotations

import pytest

from cphloc.errors import InputError
from cphloc.zoo.versions import parse_spec

HELD = ["0.2.0", "0.2.9", "0.3.0", "1.0.0", "1.2.0", "1.2.3", "1.9.0", "1.10.0", "2.0.0rc1", "2.0.0"]


@pytest.mark.parametrize(
    ("asked", "newest"),
    [
        ("", "2.0.0"),
        ("latest", "2.0.0"),
        ("1.2.0", "1.2.0"),
        ("1", "1.10.0"),
        ("1.2", "1.2.3"),
        ("^1", "1.10.0"),
        ("^1.2.0", "1.10.0"),
        ("^0.2", "0.2.9"),
        ("^0.2.1", "0.2.9"),
        ("~1.2", "1.2.3"),
        ("~1", "1.10.0"),
        ("~=1.2", "1.10.0"),
        (">=1,<1.10", "1.9.0"),
        ("2.0.0rc1", "2.0.0rc1"),
    ],
)
def test_newest_within_a_range_by_real_version_order(asked, newest):
    assert parse_spec(f"unet@{asked}" if asked else "unet").newest(HELD)[0] == newest


def test_a_caret_of_zero_minor_allows_patches_alone():
    assert parse_spec("unet@^0.0.3").newest(["0.0.3", "0.0.4", "0.1.0"]) == ["0.0.3"]


def test_a_prerelease_is_chosen_only_where_nothing_else_is():
    assert parse_spec("unet").newest(["1.0.0", "1.1.0rc1"]) == ["1.0.0"]
    assert parse_spec("unet").newest(["1.1.0rc1"]) == ["1.1.0rc1"]


@pytest.mark.parametrize("spec", ["", "@1", "UNet", "../unet", "unet@^x", "unet@one", "unet@1.2.3.x", "unet@^"])
def test_what_cannot_be_read_is_one_clear_error(spec):
    with pytest.raises(InputError, match=r"is not an entry|is not a range"):
        parse_spec(spec)
