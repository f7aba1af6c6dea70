from __future__ import annotations

import json

import pytest
import torch

from cphloc.config import yamlio
from cphloc.errors import CphlocError, InputError
from cphloc.modeling.build import build_model
from cphloc.publishing import freeze
from cphloc.publishing.publish import publish, zoo_to_write
from cphloc.recipe import recipe as recipes
from cphloc.registry import catalogue
from cphloc.training import checkpoint
from cphloc.zoo.entries import find_entry, list_entries
from cphloc.zoo.entry import Entry
from cphloc.zoo.load import load
from cphloc.zoo.weights import half_precision


@pytest.fixture
def zoo(tmp_path, registered):
    return tmp_path / "zoo"


def put(run, zoo, version="1.0.0", **more):
    return publish(run.folder, "tiny", version, to=zoo, **more)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_published_run_is_an_entry_that_loads(train_run, zoo, registered, dims):
    run = train_run(dims)
    entry = put(run, zoo)
    folder = zoo / "tiny" / "1.0.0"
    assert Entry.read(folder / "entry.yaml") == entry
    assert registered == ["tiny@1.0.0"]
    assert [str(e) for e in list_entries(zoos=[str(zoo)])] == ["tiny@1.0.0"]
    assert find_entry("tiny", [str(zoo)]).indexed is not None
    assert entry.dims == dims
    assert entry.data.licence == "Apache-2.0"
    assert entry.origin.mlflow_run == "abc123"
    assert entry.size.parameters == sum(p.numel() for p in load(folder).model.parameters())


def test_the_weights_are_half_precision_and_within_its_rounding(train_run, zoo):
    run = train_run()
    entry = put(run, zoo)
    assert entry.weights.precision == "float16"
    published = load(zoo / "tiny" / "1.0.0", device="cpu").model.state_dict()
    for name, value in checkpoint.load(run.folder / checkpoint.BEST)[0].items():
        assert published[name].dtype == torch.float32
        torch.testing.assert_close(published[name], value, rtol=2**-11, atol=2**-24)


def test_half_precision_that_changes_the_sample_is_not_used(train_run, zoo, monkeypatch):
    monkeypatch.setattr(freeze, "half_precision", lambda weights: {name: -value for name, value in weights.items()})
    assert put(train_run(), zoo).weights.precision == "float32"


def test_values_beyond_half_precision_stay_whole():
    weights = {"large": torch.tensor([1e6]), "small": torch.tensor([0.5]), "count": torch.tensor([3])}
    small = half_precision(weights)
    assert [small[name].dtype for name in weights] == [torch.float32, torch.float16, torch.int64]


def test_the_stored_recipe_asks_for_nothing(train_run, zoo):
    put(train_run(), zoo)
    stored = yamlio.load(zoo / "tiny" / "1.0.0" / "recipe.yaml").plain
    assert (stored["data"]["root"], stored["from"], stored["freeze"]) == (None, None, [])


def test_a_start_from_other_weights_is_taken_out_of_the_stored_recipe():
    model = {"backbone": {"pretrained": True, "weights": "package:x"}, "weights": {"mask": 2.0}}
    expected = {"backbone": {"pretrained": False, "weights": None}, "weights": {"mask": 2.0}}
    assert freeze._without_downloads(model) == expected


def test_the_sample_is_a_real_test_case_with_what_was_predicted(train_run, zoo):
    run = train_run()
    put(run, zoo)
    sample = zoo / "tiny" / "1.0.0" / "sample"
    facts = json.loads((sample / "expected.json").read_text())
    assert facts["case"] in run.json("evaluation-test.json")["cases"]
    assert (sample / facts["inputs"]["ct"]).stat().st_size > 0
    with pytest.raises(InputError, match="no evaluated test case 'nobody'"):
        put(run, zoo, "1.1.0", sample="nobody")


def test_versions_are_immutable(train_run, zoo):
    run = train_run()
    put(run, zoo)
    before = {p: p.read_bytes() for p in (zoo / "tiny").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="immutable"):
        put(run, zoo)
    assert {p: p.read_bytes() for p in (zoo / "tiny").rglob("*") if p.is_file()} == before


def edited(run, name, *path, value=...):
    facts = run.json(name)
    inner = facts
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    run.write(name, facts)


def say(run, about):
    """Change what the recipe of a run says about it."""
    recipe = run.folder / "recipe.yaml"
    recipe.write_text(yamlio.dump(yamlio.load(recipe).plain | {"about": about}))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: (r.folder / "evaluation-test.json").unlink(), "evaluation-test.json is missing"),
        (lambda r: (r.folder / "evaluation-test.csv").unlink(), "evaluation-test.csv is missing"),
        (lambda r: (r.folder / "best.safetensors").unlink(), "training has not finished"),
        (lambda r: say(r, {}), "'intended_use' is missing"),
        (lambda r: edited(r, "evaluation-test.json", "metrics", "dice", "low"), "metric 'dice' has no interval"),
        (lambda r: edited(r, "evaluation-test.json", "metrics", value={}), "holds no metric"),
        (lambda r: edited(r, "evaluation-test.json", "baseline"), "no baseline"),
        (lambda r: edited(r, "evaluation-test.json", "baseline", "metrics", "dice", "high"), "baseline metric 'dice'"),
        (lambda r: edited(r, "evaluation-test.json", "per_class", "mass", "dice", "low"), "mass's metric 'dice'"),
        (lambda r: edited(r, "evaluation-test.json", "speed"), "measured no ms_per_case"),
        (lambda r: edited(r, "evaluation-test.json", "cases", value=[]), "does not say which cases"),
        (lambda r: edited(r, "facts.json", "data_fingerprint"), "states no data_fingerprint"),
    ],
)
def test_an_incomplete_run_is_refused_and_nothing_is_written(train_run, zoo, registered, spoil, says):
    run = train_run()
    spoil(run)
    with pytest.raises(InputError, match=says):
        put(run, zoo)
    assert not (zoo / "tiny" / "1.0.0").exists()
    assert registered == []


def test_all_reasons_are_told_at_once(train_run, zoo):
    run = train_run()
    edited(run, "evaluation-test.json", "metrics", "dice", "low")
    edited(run, "facts.json", "seed")
    say(run, {})
    with pytest.raises(InputError) as caught:
        put(run, zoo)
    assert str(caught.value).count("\n  - ") == 5


def test_a_data_set_without_licence_is_refused(train_run, zoo, monkeypatch):
    from cphloc.registry import catalogue

    known = catalogue.card
    unlicensed = lambda kind, name: known(kind, name).model_copy(update={"licence": None})  # noqa: E731
    monkeypatch.setattr("cphloc.publishing.material.catalogue.card", unlicensed)
    with pytest.raises(InputError, match="'phantom' states no licence"):
        put(train_run(), zoo)


@pytest.mark.parametrize("leak", ["cases", "patients", "images"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_test_cases_seen_in_training_or_validation_are_refused(train_run, zoo, monkeypatch, leak, split):
    import dataclasses

    from cphloc.data.datasets.phantom import PhantomCases

    honest = PhantomCases.cases

    def leaking(self, wanted):
        cases = honest(self, wanted)
        if wanted != "test":
            return cases
        seen = honest(self, split)[0]
        change = {
            "cases": {"id": seen.id},
            "patients": {"patient": seen.patient},
            "images": {"images": seen.images},
        }
        return [dataclasses.replace(cases[0], **change[leak]), *cases[1:]]

    run = train_run()
    monkeypatch.setattr(PhantomCases, "cases", leaking)
    edited(run, "evaluation-test.json", "cases", value=[c.id for c in leaking(_dataset(run), "test")])
    with pytest.raises(InputError, match=f"1 test {leak} were seen in training"):
        put(run, zoo)


def _dataset(run):
    from cphloc.data.pipeline.pipeline import open_dataset

    return open_dataset(run.recipe.data, run.recipe.dims)


def test_a_version_that_is_significantly_worse_needs_a_reason(train_run, zoo):
    many = tuple(0.8 + 0.01 * (i % 3) for i in range(12))
    good, bad = train_run(name="good"), train_run(name="bad")
    for run, shift in ((good, 0.0), (bad, -0.2)):
        rows = "".join(f"x{i},x{i},{value + shift}\n" for i, value in enumerate(many))
        (run.folder / "evaluation-test.csv").write_text(f"case,patient,dice\n{rows}")
    put(good, zoo)
    with pytest.raises(InputError, match=r"dice is significantly worse than that of tiny@1\.0\.0: by 0\.2000"):
        put(bad, zoo, "1.1.0")
    entry = put(bad, zoo, "1.1.0", because="smaller by half")
    assert entry.because == "smaller by half"
    assert "smaller by half" in (zoo / "tiny" / "1.1.0" / "card.md").read_text()


def test_a_version_that_is_as_good_is_published_and_inherits_its_texts(train_run, zoo):
    put(train_run(name="first"), zoo)
    second = train_run(name="second")
    say(second, {"changelog": "Trained longer."})
    entry = put(second, zoo, "1.1.0")
    assert entry.changelog == "Trained longer."
    assert entry.limits == ["Knows phantoms alone."]


def test_a_metric_without_cases_is_compared_by_its_interval(train_run, zoo):
    good, bad = train_run(name="good"), train_run(name="bad")
    for run, value in ((good, 0.8), (bad, 0.5)):
        ap = {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 3}
        edited(run, "evaluation-test.json", "metrics", value={"ap50": ap})
    put(good, zoo)
    with pytest.raises(InputError, match=r"ap50 0\.5000 .* lies below that of tiny@1\.0\.0"):
        put(bad, zoo, "1.1.0")


def test_a_failure_half_way_leaves_nothing(train_run, zoo, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cphloc.publishing.freeze.safetensors.torch.save_file", full)
    with pytest.raises(CphlocError, match=r"No space left on device\); nothing was published"):
        put(train_run(), zoo)
    assert [p for p in zoo.rglob("*") if p.is_file()] == []


def test_an_mlflow_server_that_is_down_does_not_undo_a_publication(train_run, zoo, monkeypatch, caplog):
    from cphloc.publishing import register

    def down(entry, folder):
        msg = "MLflow is out of reach"
        raise CphlocError(msg)

    monkeypatch.setattr(register, "register_entry", down, raising=False)
    put(train_run(), zoo)
    assert (zoo / "tiny" / "1.0.0" / "entry.yaml").is_file()
    assert "out of reach" in caplog.text


def test_where_to_publish(tmp_path, monkeypatch):
    assert zoo_to_write(tmp_path) == tmp_path
    monkeypatch.setenv("CPHLOC_ZOO", f"https://example.org/zoo {tmp_path / 'mine'}")
    assert zoo_to_write() == tmp_path / "mine"
    with pytest.raises(InputError, match="publish to a folder"):
        zoo_to_write("https://example.org/zoo")


def test_a_metric_that_no_case_defines_is_published_as_undefined(train_run, zoo):
    run = train_run()
    nan = float("nan")
    edited(run, "evaluation-test.json", "metrics", "auc", value={"value": nan, "low": nan, "high": nan, "n": 3})
    found = put(run, zoo).evaluation.metrics["auc"]
    assert (found.value, found.low, found.n, found.n_undefined) == (None, None, 0, 3)


def test_the_headline_comes_first_whatever_the_evaluation_lists_first(train_run, zoo):
    run = train_run()
    facts = run.json("evaluation-test.json")
    facts["metrics"] = {"iou": facts["metrics"]["dice"], **facts["metrics"]}
    run.write("evaluation-test.json", facts)
    assert put(run, zoo).headline[0] == "dice"


def test_pictures_of_test_cases_replace_those_of_validation_cases(train_run, zoo):
    run = train_run()
    pictures = run.folder / "pictures"
    for name in ("test-worst", "best"):
        (pictures / f"{name}.png").write_bytes((pictures / "worst.png").read_bytes())
    shipped = {f for f in put(run, zoo).files if f.startswith("pictures/")}
    assert shipped == {"pictures/test-worst.png", "pictures/best.png"}


def ship(zoo, monkeypatch):
    """Let a zoo be the one that ships with cphloc."""
    from cphloc import paths

    ordinary = paths.shipped
    monkeypatch.setattr(paths, "shipped", lambda folder: zoo if folder == "zoo" else ordinary(folder))


def test_weights_too_large_to_ship_are_refused_or_lie_at_a_url(train_run, zoo, monkeypatch, server, tmp_path):
    from cphloc.publishing import publish as publishing
    from cphloc.zoo.entries import cached_path

    run = train_run()
    ship(zoo, monkeypatch)
    monkeypatch.setattr(publishing, "EACH_BYTES", 1000)
    with pytest.raises(InputError, match=r"0.0 MB may ship with cphloc; say with --url"):
        put(run, zoo)
    assert not (zoo / "tiny").exists()
    entry = put(run, zoo, urls=(f"{server.url}/tiny.safetensors",))
    assert entry.weights.file is None
    assert not list(zoo.rglob("*.safetensors"))
    cached_path(entry.weights).rename(server.root / "tiny.safetensors")
    load(zoo / "tiny" / "1.0.0")
    assert [path for path, _ in server.asked] == ["/tiny.safetensors"]


def test_all_shipped_weights_together_are_limited_and_other_zoos_are_not(train_run, zoo, monkeypatch):
    from cphloc.publishing import publish as publishing

    run = train_run()
    put(run, zoo)
    held = (zoo / "tiny" / "1.0.0" / "model.safetensors").stat().st_size
    monkeypatch.setattr(publishing, "ALL_BYTES", held + 10)
    assert publishing.most_bytes(zoo) is None
    ship(zoo, monkeypatch)
    assert publishing.most_bytes(zoo) == 10
    with pytest.raises(InputError, match="may ship"):
        put(run, zoo, "1.1.0")


def test_a_calibrated_model_is_published_as_it_was_evaluated(train_run, zoo):
    """The temperature is part of the entry, and what the sample expects was predicted with it."""
    run = train_run()
    recipe = yamlio.load(run.folder / "recipe.yaml").plain
    attention = {"type": "attention_pool", "classes": {1: "mass"}}
    recipe |= {"task": "attention", "model": recipe["model"] | {"heads": {"finding": attention}}}
    (run.folder / "recipe.yaml").write_text(yamlio.dump(recipe))
    torch.manual_seed(0)
    model = build_model(recipes.load(run.folder / "recipe.yaml"))
    with torch.no_grad():
        model.heads["finding"].labels.weight.fill_(0.0)
        model.heads["finding"].labels.bias.fill_(3.0)
    checkpoint.save(run.folder / checkpoint.BEST, model.state_dict(), {})
    facts = run.json("evaluation-test.json")
    ece = facts["metrics"]["dice"]
    facts["calibration"] = {"temperature": 3.0, "split": "val", "ece_before": ece, "ece_after": ece}
    run.write("evaluation-test.json", facts)
    put(run, zoo)
    assert load(zoo / "tiny" / "1.0.0").temperature == 3.0
    expected = json.loads((zoo / "tiny" / "1.0.0" / "sample" / "expected.json").read_text())
    assert expected["probabilities"]["mass"] == pytest.approx(0.7311, abs=1e-3), "sigmoid of 3 / 3"


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("sts_petct", ["ct"], ["CT"]),
        ("sts_petct", ["ct", "pet"], ["CT", "PT"]),
        ("phantom", ["ct"], ["CT", "MG"]),
        ("bccd", ["red", "green", "blue"], ["microscopy"]),
    ],
)
def test_an_entry_names_the_modality_of_the_channels_it_reads(name, channels, expected):
    assert freeze.modalities_of(catalogue.card("dataset", name), channels) == expected
