"""Tables of cases of any size."""

from __future__ import annotations

import tracemalloc

from cphloc.data.datasets.image_folder import ImageFolder


def test_a_large_table_takes_less_than_a_kilobyte_for_a_row(tmp_path):
    rows = 20_000
    lines = (f"scan-{i:06d}.png,patient-{i:06d},{('train', 'val', 'test')[i % 3]},mass" for i in range(rows))
    (tmp_path / "cases.csv").write_text("image,patient,split,label\n" + "\n".join(lines) + "\n")
    tracemalloc.start()
    cases = ImageFolder(root=str(tmp_path), classes=["mass"], channels=["ct"], dims=2).cases("test")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [case.id for case in (cases[0], cases[-1])] == ["scan-000002", "scan-019997"]
    assert len(cases) == rows // 3
    assert peak < 1000 * rows
