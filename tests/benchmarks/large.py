"""Zoos, splits and tables of a size that nobody has yet: ``python -m tests.benchmarks.large [WORD...]``. Minutes.

Each row is measured in a process of its own: processor seconds and peak memory, imports included.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from tests.benchmarks.__main__ import add_facts, kept
from tests.benchmarks.growth import MOST

ROWS = {
    ("a table of cases, read by its data set", (100_000, 1_000_000)): """
import sys; from pathlib import Path
with open("cases.csv", "w") as file:
    file.write("image,patient,split,label\\n")
    file.writelines(f"{i}.png,p{i},{('train', 'val', 'test')[i % 3]},a\\n" for i in range(SIZE))
Path("images").mkdir()
from cphloc.data.datasets.image_folder import ImageFolder
start()
assert len(ImageFolder(root=".", classes=["a"], channels=["ct"], dims=2).cases("test")) == SIZE // 3
""",
    ("an entry with so many test cases, written and read", (10_000, 100_000)): """
from cphloc import paths
from cphloc.config import yamlio
from cphloc.zoo.entry import Entry
plain = yamlio.load(sorted(paths.shipped("zoo").glob("unet3d-hippocampus/*"))[-1] / "entry.yaml").plain
plain["evaluation"]["cases"] = [f"case-{i:06d}" for i in range(SIZE)]
start()
entry = Entry.model_validate(plain)
assert len(Entry.parse(entry.to_yaml().encode(), "entry.yaml").evaluation.cases) == SIZE
""",
    ("an index, read, listed and resolved", (1_000, 10_000)): """
import json; from pathlib import Path; from cphloc import paths
shipped = json.loads((paths.shipped("zoo") / "zoo.json").read_text())
row = shipped["entries"][0]
for i in range(SIZE): Path("zoo", f"e{i}", row["version"]).mkdir(parents=True)
Path("zoo/zoo.json").write_text(json.dumps(shipped | {"entries": [row | {"name": f"e{i}"} for i in range(SIZE)]}))
from cphloc.zoo.entries import find_entry, list_entries
start()
assert len(list_entries(zoos=["zoo"])) == SIZE
assert str(find_entry(f"e{SIZE - 1}", ["zoo"])).startswith("e")
""",
    ("versions, each read to write the index", (100, 1_000)): """
import shutil; from pathlib import Path; from cphloc import paths
from cphloc.zoo.index import index_zoo
source = sorted(paths.shipped("zoo").glob("unet3d-hippocampus/*"))[-1]
text = (source / "entry.yaml").read_text()
for i in range(SIZE):
    (folder := Path("zoo", f"e{i}", source.name)).mkdir(parents=True)
    (folder / "entry.yaml").write_text(text.replace("name: unet3d-hippocampus", f"name: e{i}", 1))
start()
index_zoo("zoo")
""",
    ("the mean of cases and its interval by bootstrap", (100_000, 1_000_000)): """
import numpy as np
from cphloc.metrics.bootstrap import interval
start()
interval(np.random.default_rng(0).uniform(size=SIZE), list(range(SIZE)))
""",
}
START = "import time\ndef start():\n    global _since; _since = time.process_time()\n"
END = "print(time.process_time() - _since, file=sys.stderr)\n"


def main() -> None:
    """Measure every row, or those that contain a word of the command line, and add them to the page."""
    before, rows = kept("large"), []
    for (what, sizes), code in ROWS.items():
        if sys.argv[1:] and not any(word in what for word in sys.argv[1:]):
            rows += [row for row in before if row["what"] == what]
            continue
        for size in sizes:
            rows.append(measured(what, size, code))
            print(rows[-1], flush=True)
    add_facts("large", rows)


def measured(what: str, size: int, code: str) -> dict[str, object]:
    """Run the code of a row in a process of its own."""
    program = "import sys\n" + START + code.replace("SIZE", str(size)) + END + MOST
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        sys.exit(f"{what}: {done.stderr[-2000:]}")
    seconds, peak = map(float, done.stderr.split()[-2:])
    return {"what": what, "size": size, "seconds of CPU": f"{seconds:.1f}", "MB": round(peak)}


if __name__ == "__main__":
    main()
