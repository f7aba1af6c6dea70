"""Entries on a stand-in for the Hugging Face Hub: found, pinned, kept for work offline, and refused where changed."""

from __future__ import annotations

import itertools

import pytest
from hub_server import TOKEN, Repository, hub_server

from cphloc.cli import main
from cphloc.config import yamlio
from cphloc.download import DownloadError, transfer
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.zoo.lock import find_locked, lock
from cphloc.zoo.stored import checked_path

SOURCE = "hf://lab/ct"


@pytest.fixture
def hub(monkeypatch):
    with hub_server() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def push(hub, tmp_path, put_entry):
    """Puts a version into the repository ``lab/ct`` and tags it; keywords replace facts of ``entry.yaml``."""

    numbers = itertools.count()

    def pushed(version: str, tag: str = "", **changes) -> Repository:
        folder = put_entry(tmp_path / f"made{next(numbers)}", "unet3d-ct", version, **changes)
        repository = hub.repositories.setdefault("lab/ct", Repository())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
        repository.tags[tag or version] = repository.commit(files)
        return repository

    return pushed


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ("@1.0.0", "1.0.0"),
        ("", "1.2.0"),
        ("@latest", "1.2.0"),
        ("@~1.0", "1.0.0"),
        ("@^1", "1.2.0"),
        ("@main", "2.0.0rc1"),
    ],
)
def test_versions_are_tags_of_the_repository(push, asked, version):
    for each in ("1.0.0", "1.2.0", "2.0.0rc1"):
        push(each)
    found = find_locked(SOURCE + asked)
    assert str(found) == f"unet3d-ct@{version}"
    assert found.weights_path().read_bytes() == push("3.0.0").commits[found.revision]["model.safetensors"]


def test_what_a_later_cphloc_needs_is_passed_by_in_a_range_and_refused_by_name(push):
    push("1.0.0")
    push("1.1.0", requires_cphloc=">=99")
    assert find_locked(f"{SOURCE}@^1").version == "1.0.0"
    with pytest.raises(InputError, match=r"unet3d-ct@1\.1\.0 needs cphloc >=99"):
        find_locked(f"{SOURCE}@1.1.0")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf://lab/ct@7.0.0", "has no version '7.0.0'; it has 1.0.0"),
        ("hf://lab/ct@^7", r"has no version '\^7'; it has 1.0.0"),
        ("hf://lab/ct@no-such-branch", "has no version 'no-such-branch'; it has 1.0.0"),
        ("hf://lab/ct@1.0.0; rm", "is not a range of versions"),
        ("hf://lab/ct@../../x", "is not a range of versions"),
    ],
)
def test_a_version_that_is_not_there_is_one_line_with_those_that_are(push, spec, message):
    push("1.0.0")
    with pytest.raises(InputError, match=message):
        find_locked(spec)


def test_a_repository_without_an_entry_or_with_another_version_is_refused(hub, push):
    push("1.0.0").tags["2.0.0"] = push("1.0.0").main
    with pytest.raises(DataError, match=r"the tag 2\.0\.0 holds unet3d-ct@1\.0\.0"):
        find_locked(f"{SOURCE}@2.0.0")
    other = hub.repositories["lab/other"] = Repository()
    other.tags["1.0.0"] = other.commit({"README.md": b"hello"})
    with pytest.raises(NotFoundError, match=r"has no entry\.yaml, so it is not an entry"):
        find_locked("hf://lab/other@1.0.0")


@pytest.mark.parametrize("asked", ["@1.0.0", "@^1", ""])
def test_what_was_loaded_once_is_found_offline(hub, push, monkeypatch, asked):
    push("1.0.0")
    find_locked(SOURCE + asked).weights_path()
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    asked_before = len(hub.asked)
    assert find_locked(SOURCE + asked).weights_path().is_file()
    assert len(hub.asked) == asked_before
    with pytest.raises(DownloadError, match="CPHLOC_OFFLINE"):
        find_locked("hf://lab/never-seen@1.0.0")


def test_a_hub_that_is_down_is_a_warning_where_it_answered_before(hub, push, monkeypatch):
    push("1.0.0")
    find_locked(f"{SOURCE}@1.0.0")
    del hub.repositories["lab/ct"]  # the stand-in now answers 401
    with pytest.warns(UserWarning, match="using what it answered before"):
        assert find_locked(f"{SOURCE}@1.0.0").version == "1.0.0"


def test_weights_with_another_hash_are_refused(hub, push):
    push("1.0.0")
    hub.corrupt = ".safetensors"
    with pytest.raises(DownloadError, match="wrong content: sha256"):
        find_locked(f"{SOURCE}@1.0.0").weights_path()
    hub.corrupt = "recipe.yaml"
    with pytest.raises(DownloadError, match="wrong content: sha256"):
        checked_path(find_locked(f"{SOURCE}@1.0.0"), "recipe.yaml")


def test_a_tag_that_was_moved_is_refused(push):
    push("1.0.0")
    find_locked(f"{SOURCE}@1.0.0")
    push("1.0.0", summary="Another model")
    with pytest.raises(DataError, match="versions are immutable"):
        find_locked(f"{SOURCE}@1.0.0")


def test_the_lock_file_pins_repository_and_commit(hub, push, tmp_path, monkeypatch):
    commit = push("1.0.0").tags["1.0.0"]
    assert main(["lock", f"{SOURCE}@^1"]) == 0
    pin = yamlio.load(tmp_path / "work" / "cphloc.lock").plain["unet3d-ct"]
    assert (pin["source"], pin["revision"], pin["version"]) == (SOURCE, commit, "1.0.0")
    push("1.1.0")
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "new cache"))
    for spec in (SOURCE, f"{SOURCE}@^1", "unet3d-ct", "unet3d-ct@^1", f"{SOURCE}@{commit}"):
        assert find_locked(spec).revision == commit
    for spec in (f"{SOURCE}@1.1.0", f"{SOURCE}@main", "unet3d-ct@1.1.0"):
        with pytest.raises(InputError, match=r"pins unet3d-ct@1\.0\.0 but '(1\.1\.0|main)' is asked for"):
            find_locked(spec)


def test_a_pin_holds_for_a_version_of_the_hub_too(push, put_entry, tmp_path):
    lock([f"{SOURCE}@1.0.0"]) if push("1.0.0") else None
    folder = put_entry(tmp_path / "zoo", "unet3d-ct", "1.0.0", summary="Another model")
    with pytest.raises(DataError, match=r"other content than cphloc\.lock pins"):
        find_locked(folder)


@pytest.mark.parametrize("change", [{"source": "hf://../x"}, {"revision": "main"}, {"source": "hf://lab/ct@1.0.0"}])
def test_a_damaged_pin_is_refused(push, tmp_path, change):
    push("1.0.0")
    lock([SOURCE])
    path = tmp_path / "work" / "cphloc.lock"
    pins = yamlio.load(path).plain
    path.write_text(yamlio.dump({"unet3d-ct": pins["unet3d-ct"] | change}))
    with pytest.raises(DataError, match="is not a lock file"):
        find_locked("unet3d-ct")


def test_a_private_repository_needs_the_token_which_no_other_host_sees(hub, push, monkeypatch, capsys):
    push("1.0.0").private = True
    found = find_locked(f"{SOURCE}@1.0.0")
    found.weights_path()
    hosts = {(host.partition(":")[0], token) for _, host, _, token in hub.asked}
    assert hosts == {("127.0.0.1", f"Bearer {TOKEN}"), ("localhost", "")}
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(["show", "hf://lab/ct@1.0.0rc1"]) == 1
    err = capsys.readouterr().err
    assert "for a private or gated repository set HF_TOKEN" in err
    assert len(err.splitlines()) == 1
    assert "hf_wrong" not in err


def test_a_hub_that_does_not_answer_is_given_up(hub, push, monkeypatch):
    push("1.0.0")
    hub.slow = True
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 0.3)
    with pytest.raises(DownloadError, match="cannot be read"):
        find_locked(f"{SOURCE}@1.0.0")


def test_an_answer_that_is_not_of_a_hub_is_one_line(monkeypatch):
    monkeypatch.setattr("cphloc.zoo.hub.read_url", lambda url, most: b'{"sha": "../../etc"}')
    with pytest.raises(DataError, match="states no commit; check HF_ENDPOINT"):
        find_locked(f"{SOURCE}@1.0.1")
    monkeypatch.setattr("cphloc.zoo.hub.read_url", lambda url, most: b"<html>")
    with pytest.raises(DataError, match="not that of a Hub; check HF_ENDPOINT"):
        find_locked(f"{SOURCE}@1.0.2")
