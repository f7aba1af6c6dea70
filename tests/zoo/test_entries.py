from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest

import cphloc
from cphloc.config import yamlio
from cphloc.download import DownloadError
from cphloc.errors import DataError, InputError, NotFoundError, RecipeError
from cphloc.zoo import index
from cphloc.zoo.entries import find_entry, list_entries
from cphloc.zoo.index import index_zoo, read_index


@pytest.fixture
def zoo(tmp_path, monkeypatch, put_entry):
    folder = tmp_path / "zoo"
    for version in ("0.9.0", "0.10.0", "1.0.0"):
        put_entry(folder, "unet3d-ct", version)
    put_entry(folder, "retina2d-cells", "0.1.0", task="detection", dims=2, modality=["microscopy"], spacing_mm=None)
    monkeypatch.setenv("CPHLOC_ZOO", str(folder))
    monkeypatch.setattr("cphloc.paths.shipped", lambda name: tmp_path / "shipped" / name)
    return folder


@pytest.fixture(params=["read", "indexed"])
def any_zoo(request, zoo):
    """The same zoo without and with its index: nothing but time may depend on it."""
    if request.param == "indexed":
        index_zoo(zoo)
    return zoo


def test_a_listing_has_the_newest_version_of_every_name(any_zoo):
    assert [str(e) for e in list_entries()] == ["retina2d-cells@0.1.0", "unet3d-ct@1.0.0"]
    assert [e.version for e in list_entries(name="unet*", all_versions=True)] == ["1.0.0", "0.10.0", "0.9.0"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"task": "detection"}, ["retina2d-cells"]),
        ({"dims": 3}, ["unet3d-ct"]),
        ({"dims": 2, "task": "segmentation"}, []),
        ({"modality": "CT"}, ["unet3d-ct"]),
        ({"name": "*cells"}, ["retina2d-cells"]),
    ],
)
def test_a_listing_can_be_narrowed(any_zoo, query, names):
    assert [e.name for e in list_entries(**query)] == names


@pytest.mark.parametrize(
    ("spec", "version"),
    [("unet3d-ct", "1.0.0"), ("unet3d-ct@0.9.0", "0.9.0"), ("unet3d-ct@^0.9", "0.9.0"), ("unet3d-ct@<1", "0.10.0")],
)
def test_an_entry_is_found_by_name_and_range(any_zoo, spec, version):
    assert find_entry(spec).version == version


def test_an_entry_is_found_by_its_folder_wherever_that_lies(zoo, tmp_path):
    moved = tmp_path / "elsewhere"
    (zoo / "unet3d-ct" / "1.0.0").rename(moved)
    for spec in (moved, str(moved)):
        assert str(find_entry(spec)) == "unet3d-ct@1.0.0"


def test_a_bare_name_is_never_a_folder_of_the_working_folder(zoo, tmp_path, put_entry):
    planted = put_entry(tmp_path / "planted", "unet3d-ct", "9.0.0")
    planted.rename(tmp_path / "work" / "unet3d-ct")
    with pytest.warns(UserWarning, match=r"write \./unet3d-ct for the folder here"):
        assert find_entry("unet3d-ct").version == "1.0.0"
    assert find_entry("./unet3d-ct").version == "9.0.0"
    (tmp_path / "work" / "unet3d-ct").rename(tmp_path / "work" / "planted")
    with pytest.raises(NotFoundError, match="no zoo has an entry 'planted'"):
        find_entry("planted")


def test_an_equal_copy_in_another_zoo_shadows_nothing(zoo, tmp_path, monkeypatch, recwarn):
    shutil.copytree(zoo, tmp_path / "mirror")
    monkeypatch.setenv("CPHLOC_ZOO", f"{zoo} {tmp_path / 'mirror'}")
    assert find_entry("unet3d-ct").version == "1.0.0"
    assert not recwarn


def test_a_misspelt_name_is_answered_with_the_nearest(any_zoo):
    with pytest.raises(NotFoundError, match=r"did you mean 'unet3d-ct'\?"):
        find_entry("unet3d_tc")


def test_a_version_that_does_not_exist_is_answered_with_those_that_do(any_zoo):
    with pytest.raises(NotFoundError, match=r"no version '7\.7\.7'.*1\.0\.0, 0\.10\.0, 0\.9\.0"):
        find_entry("unet3d-ct@7.7.7")


def test_the_newest_version_that_this_cphloc_supports_is_chosen(zoo, put_entry):
    put_entry(zoo, "unet3d-ct", "2.0.0", requires_cphloc=">=900")
    assert find_entry("unet3d-ct").version == "1.0.0"
    with pytest.raises(InputError, match=rf"needs cphloc >=900 but this is {cphloc.__version__}"):
        find_entry("unet3d-ct@2.0.0")


def test_zoos_are_searched_in_order(zoo, tmp_path, put_entry, monkeypatch):
    put_entry(tmp_path / "mine", "unet3d-ct", "0.1.0")
    monkeypatch.setenv("CPHLOC_ZOO", f"{(tmp_path / 'mine').as_uri()} {zoo}")
    with pytest.warns(UserWarning, match=r"unet3d-ct@0\.1\.0 is from .*mine, which hides 'unet3d-ct' of .*zoo"):
        assert find_entry("unet3d-ct").version == "0.1.0"
    assert find_entry("retina2d-cells").version == "0.1.0"
    assert [str(e) for e in list_entries()] == ["retina2d-cells@0.1.0", "unet3d-ct@0.1.0"]


def test_a_folder_that_holds_another_version_is_refused(zoo, put_entry, entry_facts):
    (zoo / "unet3d-ct" / "1.0.0" / "entry.yaml").write_text(yamlio.dump(entry_facts("unet3d-ct", "0.9.0")))
    with pytest.raises(DataError, match=r"contains unet3d-ct@0.9.0, but its folder is named unet3d-ct@1.0.0"):
        _ = find_entry("unet3d-ct@1.0.0").entry


def test_an_entry_changed_after_it_was_indexed_is_refused(zoo):
    index_zoo(zoo)
    file = zoo / "unet3d-ct" / "1.0.0" / "entry.yaml"
    file.write_text(file.read_text().replace("tumour", "tumor"))
    with pytest.raises(DataError, match="immutable"):
        _ = find_entry("unet3d-ct").entry


def test_versions_being_written_and_other_folders_are_not_listed(zoo):
    for name in (".1.1.0.abcd", "notes", "1.1"):
        (zoo / "unet3d-ct" / name).mkdir()
    (zoo / ".git" / "1.0.0").mkdir(parents=True)
    (zoo / "README.md").write_text("a zoo")
    assert len(list_entries(all_versions=True)) == 4


def test_an_entry_that_is_missing_its_file_says_so(zoo):
    (zoo / "unet3d-ct" / "1.0.0" / "entry.yaml").unlink()
    with pytest.raises(NotFoundError, match=r"entry\.yaml"):
        _ = find_entry("unet3d-ct").entry


def test_indexing_a_broken_entry_names_the_mistake(zoo):
    file = zoo / "unet3d-ct" / "1.0.0" / "entry.yaml"
    file.write_text(file.read_text().replace("task: segmentation", "tusk: segmentation"))
    with pytest.raises(RecipeError, match="unknown key 'tusk'"):
        index_zoo(zoo)


def test_ten_thousand_entries_list_in_a_second(tmp_path, put_entry):
    one = put_entry(tmp_path / "one", "unet", "1.0.0")
    row = json.loads((index_zoo(one.parent.parent)).read_text())["entries"][0]
    many = tmp_path / "many"
    names = [f"unet-{i:05}" for i in range(10_000)]
    for name in names:
        (many / name / "1.0.0").mkdir(parents=True)
    listing = {"format": 1, "entries": [{**row, "name": name} for name in names]}
    (many / "zoo.json").write_text(json.dumps(listing))
    best = min(_seconds(lambda: list_entries(task="segmentation", zoos=[str(many)])) for _ in range(3))
    assert len(list_entries(task="segmentation", zoos=[str(many)])) == 10_000
    assert best < 1


def _seconds(action):
    start = time.process_time()
    action()
    return time.process_time() - start


def test_finding_and_listing_import_no_torch(zoo):
    code = (
        "import sys; from cphloc.publishing import audit, card; from cphloc.zoo import entries, lock;"
        f"entries.list_entries(zoos=[{str(zoo)!r}]); entries.find_entry('unet3d-ct', zoos=[{str(zoo)!r}]).entry;"
        "print([m for m in ('torch', 'mlflow', 'lightning', 'monai', 'timm', 'albumentations') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def remote(zoo, server, monkeypatch):
    """The zoo behind a server, and nothing else."""
    index_zoo(zoo)
    zoo.rename(server.root / "zoo")
    monkeypatch.setenv("CPHLOC_ZOO", f"{server.url}/zoo")
    return server


def test_a_zoo_at_a_url_is_listed_by_its_index_alone(remote):
    assert [str(e) for e in list_entries(dims=3)] == ["unet3d-ct@1.0.0"]
    assert [path for path, _ in remote.asked] == ["/zoo/zoo.json"]


def test_an_entry_at_a_url_is_read_once_and_then_kept(remote, monkeypatch):
    assert find_entry("unet3d-ct@^0.9").entry.version == "0.9.0"
    assert find_entry("unet3d-ct@^0.9").weights_path().is_file()
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    assert find_entry("unet3d-ct@^0.9").weights_path().is_file()
    with pytest.raises(DownloadError, match=r"unet3d-ct@1\.0\.0/entry\.yaml is not in the cache and CPHLOC_OFFLINE"):
        _ = find_entry("unet3d-ct").entry


@pytest.mark.parametrize("which", ["unet3d-ct/1.0.0", "unet3d-ct/1.0.0/", "unet3d-ct@1.0.0", "unet3d-ct@==1.0.0"])
def test_an_entry_is_found_by_its_url_in_a_zoo_nobody_named(remote, monkeypatch, which):
    monkeypatch.delenv("CPHLOC_ZOO")
    assert str(find_entry(f"{remote.url}/zoo/{which}")) == "unet3d-ct@1.0.0"


def test_a_server_that_gives_another_version_is_refused(remote):
    held = remote.root / "zoo" / "unet3d-ct"
    (held / "1.0.0" / "entry.yaml").write_bytes((held / "0.9.0" / "entry.yaml").read_bytes())
    with pytest.raises(DownloadError, match="wrong content"):
        _ = find_entry("unet3d-ct").entry


def test_a_version_that_changed_on_the_server_is_refused(remote):
    assert find_entry("unet3d-ct@1.0.0").entry.version == "1.0.0"
    file = remote.root / "zoo" / "unet3d-ct" / "1.0.0" / "entry.yaml"
    file.write_text(file.read_text().replace("tumour", "tumor"))
    index_zoo(remote.root / "zoo")
    with pytest.raises(DataError, match=r"unet3d-ct@1\.0\.0 changed on the server"):
        _ = find_entry("unet3d-ct@1.0.0").entry
    assert find_entry("unet3d-ct@0.9.0").entry.version == "0.9.0"


def test_an_index_that_breaks_off_is_not_believed(remote):
    remote.fault = "truncate"
    with pytest.raises(DownloadError, match=r"zoo\.json: interrupted.*CPHLOC_ZOO"):
        list_entries()


def test_an_unreachable_zoo_is_listed_by_its_last_index_and_says_so(remote):
    list_entries()
    remote.fault = "deny"
    with pytest.warns(UserWarning, match="last copy of its index"):
        assert len(list_entries()) == 2


def test_a_url_without_index_says_what_to_run(server, monkeypatch):
    monkeypatch.setenv("CPHLOC_ZOO", server.url)
    with pytest.raises(NotFoundError, match="cphloc zoo index"):
        list_entries()


@pytest.mark.parametrize("field", ["name", "version"])
def test_an_index_cannot_lead_outside_the_zoo(zoo, field):
    path = index_zoo(zoo)
    index = json.loads(path.read_text())
    index["entries"][0][field] = "../../secret"
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match="not an index"):
        read_index(path)


def test_other_protocols_go_through_fsspec(zoo, monkeypatch):
    import fsspec

    index_zoo(zoo)
    memory = fsspec.filesystem("memory")
    for file in zoo.rglob("*"):
        if file.is_file():
            memory.pipe(f"/bucket/{file.relative_to(zoo).as_posix()}", file.read_bytes())
    monkeypatch.setenv("CPHLOC_ZOO", "memory://bucket")
    found = find_entry("unet3d-ct")
    assert found.entry.task == "segmentation"
    assert found.weights_path().stat().st_size == found.entry.weights.bytes


def test_an_entry_of_a_later_cphloc_is_listed_with_a_note_and_breaks_nothing(any_zoo, put_entry):
    later = put_entry(any_zoo, "retina2d-cells", "0.2.0", requires_cphloc=">=99")
    path = later / "entry.yaml"
    path.write_text(path.read_text().replace("dims: 3", "dims: 3\nshape_of_the_future: [a, b]", 1))
    (any_zoo / "damaged" / "1.0.0").mkdir(parents=True)
    (any_zoo / "damaged" / "1.0.0" / "entry.yaml").write_text("name: damaged\n")
    notes = {str(e): e.note for e in list_entries()}
    assert notes.pop("damaged@1.0.0").startswith("cannot be read: ")
    assert notes == {"retina2d-cells@0.2.0": f"needs cphloc >=99, this is {cphloc.__version__}", "unet3d-ct@1.0.0": ""}
    assert [e.name for e in list_entries(dims=3, name="unet*")] == ["unet3d-ct"]
    assert find_entry("retina2d-cells").version == "0.1.0"
    with pytest.raises(InputError, match=r"0\.2\.0 needs cphloc >=99"):
        find_entry("retina2d-cells@0.2.0")


def test_an_index_of_a_later_cphloc_may_have_more_columns(zoo):
    path = index_zoo(zoo)
    index = json.loads(path.read_text())
    index["entries"][0]["colour"] = "red"
    path.write_text(json.dumps(index))
    assert len(list_entries()) == 2


def test_a_zoo_with_an_entry_of_a_later_cphloc_is_indexed(zoo, put_entry):
    path = put_entry(zoo, "later", "0.2.0", requires_cphloc=">=99") / "entry.yaml"
    path.write_text(f"shape_of_the_future: 1\n{path.read_text()}")
    index_zoo(zoo)
    assert {str(e): bool(e.note) for e in list_entries(name="later")} == {"later@0.2.0": True}


def test_a_version_that_is_published_while_the_index_is_written_is_not_lost(zoo, put_entry, monkeypatch):
    """The first process is overtaken between its look at the folders and its writing."""
    real, overtaken = index.jsonio.dumps, []

    def overtake(*args, **options):
        if not overtaken:
            overtaken.append(True)
            put_entry(zoo, "unet3d-mr", "1.0.0")
            index_zoo(zoo)
        return real(*args, **options)

    monkeypatch.setattr(index.jsonio, "dumps", overtake)
    names = {row.name for row in read_index(index_zoo(zoo))}
    assert overtaken
    assert names == {"retina2d-cells", "unet3d-ct", "unet3d-mr"}


@pytest.mark.parametrize(
    ("key", "value"), [("summary", "Better"), ("dims", 2), ("metrics", {"dice": [0.99, 0.98, 1.0]})]
)
def test_an_index_that_states_other_facts_than_the_entry_is_refused(tmp_path, put_entry, key, value):
    put_entry(tmp_path, "unet3d-ct", "1.0.0")
    index = index_zoo(tmp_path)
    assert find_entry("unet3d-ct", [str(tmp_path)]).entry.dims == 3
    plain = json.loads(index.read_text())
    plain["entries"][0][key] = value
    index.write_text(json.dumps(plain))
    with pytest.raises(DataError, match=rf"zoo\.json states another {key} than the entry"):
        _ = find_entry("unet3d-ct", [str(tmp_path)]).entry


@pytest.mark.parametrize("field", ["summary", "task", "dims", "modality", "classes", "metrics", "requires_cphloc"])
@pytest.mark.parametrize("value", [None, ["a", 1], {"a": ["b"]}, True], ids=repr)
def test_a_row_with_a_value_of_the_wrong_type_is_one_line(zoo, field, value):
    if (field, type(value)) == ("metrics", dict):
        return
    path = index_zoo(zoo)
    content = json.loads(path.read_text())
    content["entries"][0][field] = value
    with pytest.raises(DataError, match=rf"wrong type in '{field}'"):
        index.parse_index(json.dumps(content).encode(), "zoo.json")


@pytest.mark.parametrize("requires", [">=" + "1" * 5000, ",".join([">=0"] * 200_000), "x"], ids=["digits", "many", "x"])
def test_a_range_of_versions_without_end_is_not_supported(requires):
    started = time.process_time()
    assert not index.is_supported(requires)
    assert time.process_time() - started < 0.5
