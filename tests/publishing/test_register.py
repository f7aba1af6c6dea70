from __future__ import annotations

from cphloc.publishing.register import register_zoo


def test_every_version_is_told_oldest_first(tmp_path, put_entry, registered):
    for version in ("0.9.0", "0.10.0"):
        put_entry(tmp_path / "zoo", "unet3d-ct", version)
    assert register_zoo(tmp_path / "zoo") == registered == ["unet3d-ct@0.9.0", "unet3d-ct@0.10.0"]
