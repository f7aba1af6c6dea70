"""How to use an entry, on its card: examples that run as they are written, in the folder of the card."""

from __future__ import annotations

from pathlib import PurePosixPath

from cphloc.publishing.markdown import code_block
from cphloc.publishing.sample import EXPECTED_FILE, MASK_FILE, SAMPLE_FOLDER
from cphloc.zoo.entry import Entry


def how_to_use(entry: Entry) -> str:
    """Write how to predict in Python and in a shell, and how to serve the model."""
    files = sample_files(entry)
    where = "Run in this folder, on the sample that ships with the entry; give your own image in its place." * bool(
        files
    )
    serve = f"mlflow models serve -m models:/{entry.name}/latest --env-manager local"
    blocks = [
        code_block("python", _python(entry, files)),
        code_block("sh", [f"cphloc predict {entry} {_argument(entry, files)} --out out"]),
        "After `cphloc zoo index`, which registers the entry with MLflow (the request: `python -m pydoc "
        "cphloc.zoo.served`):",
        code_block("sh", [serve]),
    ]
    return "\n\n".join([where, *blocks] if where else blocks)


def sample_files(entry: Entry) -> dict[str, str]:
    """Map each channel to the file of the sample that holds it; one file of all channels has an empty name.

    Empty for an entry without a sample.
    """
    inside = [PurePosixPath(file) for file in entry.files if file.startswith(f"{SAMPLE_FOLDER}/")]
    images = [path for path in inside if path.name not in (EXPECTED_FILE, MASK_FILE)]
    if len(images) == 1:
        return {"": str(images[0])}
    by_channel = {path.name.partition(".")[0]: str(path) for path in images}
    return {name: by_channel[name] for name in entry.channels if name in by_channel}


def _python(entry: Entry, files: dict[str, str]) -> list[str]:
    image = files or _placeholders(entry)
    source = f'"{image[""]}"' if "" in image else "{" + ", ".join(f'"{n}": "{f}"' for n, f in image.items()) + "}"
    lines = [f'model = cphloc.load("{entry}")', f"result = model.predict({source})", 'result.save("out/")']
    return ["import cphloc", *lines]


def _argument(entry: Entry, files: dict[str, str]) -> str:
    image = files or _placeholders(entry)
    return image[""] if "" in image else ",".join(f"{name}={file}" for name, file in image.items())


def _placeholders(entry: Entry) -> dict[str, str]:
    if len(entry.channels) == 1:
        return {"": "scan.nii.gz" if entry.dims == 3 else "image.png"}
    return {name: f"{name}.nii.gz" for name in entry.channels}
