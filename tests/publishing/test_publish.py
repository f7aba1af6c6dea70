"""Publishing as a whole: an entry that loads, or nothing."""

from __future__ import annotations

import pytest

from cphloc.errors import CphlocError, InputError
from cphloc.publishing.publish import zoo_to_write
from cphloc.tracking import record
from cphloc.zoo.entries import find_entry, list_entries
from cphloc.zoo.entry import Entry
from cphloc.zoo.index import read_index
from cphloc.zoo.load import load


@pytest.mark.parametrize("dims", [2, 3])
def test_a_published_run_is_an_entry_that_loads(train_run, put, zoo, registered, dims):
    run = train_run(dims)
    entry = put(run)
    folder = zoo / "tiny" / "1.0.0"
    assert Entry.read(folder / "entry.yaml") == entry
    assert registered == ["tiny@1.0.0"]
    assert [str(e) for e in list_entries(zoos=[str(zoo)])] == ["tiny@1.0.0"]
    assert find_entry("tiny", [str(zoo)]).indexed is not None
    assert entry.dims == dims
    assert entry.data.licence == "Apache-2.0"
    assert entry.origin.mlflow_run == "abc123"
    assert entry.size.parameters == sum(p.numel() for p in load(folder).model.parameters())


def test_versions_are_immutable(train_run, put, zoo):
    run = train_run()
    put(run)
    before = {p: p.read_bytes() for p in (zoo / "tiny").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="immutable"):
        put(run)
    assert {p: p.read_bytes() for p in (zoo / "tiny").rglob("*") if p.is_file()} == before


def test_a_version_that_a_kill_has_kept_from_the_index_is_finished_by_the_same_command(train_run, put, zoo, registered):
    run, other = train_run(), train_run(name="other")
    entry = put(run)
    (zoo / "zoo.json").unlink()
    with pytest.raises(InputError, match="immutable"):
        put(other)
    assert put(run) == entry
    assert [row.name for row in read_index(zoo / "zoo.json")] == ["tiny"]
    assert registered == ["tiny@1.0.0", "tiny@1.0.0"]
    with pytest.raises(InputError, match=r"immutable.*published from this run; if MLflow lacks it: cphloc zoo index"):
        put(run)


def test_a_training_that_has_not_finished_is_not_published(train_run, put):
    run = train_run()
    record.append(run.folder, {"event": "metrics", "step": 1, "time_ms": 1, "values": {}})
    with pytest.raises(InputError, match=r"its training has not finished: run 'cphloc train --resume"):
        put(run)


def test_rows_of_another_evaluation_are_refused(train_run, put):
    run = train_run()
    run.edit("evaluation-test.json", "rows_sha256", value="0" * 64)
    with pytest.raises(InputError, match=r"evaluation-test\.csv is not of evaluation-test\.json.+: evaluate again"):
        put(run)


def test_a_version_that_is_as_good_is_published_and_inherits_its_texts(train_run, put):
    put(train_run(name="first"))
    second = train_run(name="second")
    second.say({"changelog": "Trained longer."})
    entry = put(second, "1.1.0")
    assert entry.changelog == "Trained longer."
    assert entry.limits == ["Knows phantoms alone."]


def test_a_failure_half_way_leaves_nothing(train_run, put, zoo, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    run = train_run()
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CphlocError, match=r"No space left on device\).+; nothing was published"):
        put(run)
    assert [p for p in zoo.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("fault", ["broken neighbour", "full disk"])
def test_an_index_that_cannot_be_written_does_not_undo_a_publication(train_run, put, zoo, monkeypatch, caplog, fault):
    if fault == "broken neighbour":
        (zoo / "broken" / "1.0.0").mkdir(parents=True)
        (zoo / "broken" / "1.0.0" / "entry.yaml").write_text("name: broken\n")
    else:

        def full(*args, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("cphloc.zoo.index._write_index", full)
    assert str(put(train_run())) == "tiny@1.0.0"
    assert (zoo / "tiny" / "1.0.0" / "entry.yaml").is_file()
    assert "tiny@1.0.0 is published but not in the index yet" in caplog.text
    assert "nothing was published" not in caplog.text


def test_an_mlflow_server_that_is_down_does_not_undo_a_publication(train_run, put, zoo, monkeypatch, caplog):
    from cphloc.publishing import register

    def down(entry, folder):
        msg = "MLflow is out of reach"
        raise CphlocError(msg)

    monkeypatch.setattr(register, "register_entry", down, raising=False)
    put(train_run())
    assert (zoo / "tiny" / "1.0.0" / "entry.yaml").is_file()
    assert "out of reach" in caplog.text


def test_where_to_publish(tmp_path, monkeypatch):
    assert zoo_to_write(tmp_path) == tmp_path
    monkeypatch.setenv("CPHLOC_ZOO", f"https://example.org/zoo {tmp_path / 'mine'}")
    assert zoo_to_write() == tmp_path / "mine"
    with pytest.raises(InputError, match="publish to a folder"):
        zoo_to_write("https://example.org/zoo")


def ship(zoo, monkeypatch):
    """Let a zoo be the one that ships with cphloc."""
    from cphloc import paths

    ordinary = paths.shipped
    monkeypatch.setattr(paths, "shipped", lambda folder: zoo if folder == "zoo" else ordinary(folder))


def test_weights_too_large_to_ship_are_refused_or_lie_at_a_url(train_run, put, zoo, monkeypatch, server, tmp_path):
    from cphloc.publishing import publish as publishing
    from cphloc.zoo.listing import Listing, cached_path

    monkeypatch.setattr(Listing, "_allowed", lambda self, urls: list(urls))  # the server of the tests has no https
    run = train_run()
    ship(zoo, monkeypatch)
    monkeypatch.setattr(publishing, "EACH_BYTES", 1000)
    with pytest.raises(InputError, match=r"0.0 MB may ship with cphloc; give their URL with --url"):
        put(run)
    assert not (zoo / "tiny").exists()
    entry = put(run, urls=(f"{server.url}/tiny.safetensors",))
    assert entry.weights.file is None
    assert not list(zoo.rglob("*.safetensors"))
    cached_path(entry.weights).rename(server.root / "tiny.safetensors")
    load(zoo / "tiny" / "1.0.0")
    assert "/tiny.safetensors" in [path for path, _ in server.asked]


def test_all_shipped_weights_together_are_limited_and_other_zoos_are_not(train_run, put, zoo, monkeypatch):
    from cphloc.publishing import publish as publishing

    run = train_run()
    put(run)
    held = (zoo / "tiny" / "1.0.0" / "model.safetensors").stat().st_size
    monkeypatch.setattr(publishing, "ALL_BYTES", held + 10)
    assert publishing.most_bytes(zoo) is None
    ship(zoo, monkeypatch)
    assert publishing.most_bytes(zoo) == 10
    with pytest.raises(InputError, match="may ship"):
        put(run, "1.1.0")
