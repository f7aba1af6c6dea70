import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from cphloc.cli import main
from cphloc.data import fetch as module
from cphloc.data.datasets.hippocampus import SAMPLE, Hippocampus
from cphloc.data.fetch import SOURCES, Source, fetch, unpack
from cphloc.data.fingerprint import content_hash, fingerprint
from cphloc.download import files as download
from cphloc.errors import CphlocError, InputError


def _packed(kind: str) -> bytes:
    """The shipped cases as the Decathlon packs them, with the clutter of its archives."""
    files = {f"Task/imagesTr/{p.name}": p.read_bytes() for p in (SAMPLE / "images").iterdir()}
    files |= {f"Task/labelsTr/{p.name}": p.read_bytes() for p in (SAMPLE / "labels").iterdir()}
    files |= {"Task/imagesTr/._hidden.nii.gz": b"x", "Task/imagesTs/a.nii.gz": b"x", "Task/imagesTr/../../evil": b"x"}
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.01)
    splits = tmp_path / "splits"
    splits.mkdir()
    shutil.copy(SAMPLE / "cases.csv", splits / "hippocampus.csv")
    monkeypatch.setattr(module, "_SHIPPED_SPLITS", splits)


def _publish(server, monkeypatch, kind="tar", **checks):
    content = _packed(kind)
    (server.root / "data").write_bytes(content)
    checks = checks or {"checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
    folders = {"Task/imagesTr": "images", "Task/labelsTr": "labels"}
    monkeypatch.setitem(SOURCES, "hippocampus", Source(f"{server.url}/data", folders, **checks))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_fetched_data_are_found_and_whole(server, monkeypatch, tmp_path, kind, capsys):
    _publish(server, monkeypatch, kind)
    assert main(["data", "fetch", "hippocampus"]) == 0
    assert "licence: CC BY-SA 4.0" in capsys.readouterr().out
    fetched, shipped = Hippocampus().cases("train"), Hippocampus("sample").cases("train")
    assert [content_hash(c) for c in fetched] == [content_hash(c) for c in shipped]
    folder = tmp_path / "data/hippocampus"
    assert sorted(p.name for p in folder.iterdir()) == ["SOURCE", "cases.csv", "images", "labels"]
    assert len(list((folder / "images").iterdir())) == len(list((SAMPLE / "images").iterdir()))
    fetch("hippocampus")
    assert len(server.asked) == 1


def test_broken_download_is_continued(server, monkeypatch):
    _publish(server, monkeypatch)
    server.fault, server.times = "truncate", download.TRIES_EACH
    with pytest.raises(CphlocError, match=r"(?s)interrupted after .*run the command again to continue"):
        fetch("hippocampus")
    fetch("hippocampus")
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0 for _, asked in server.asked]
    assert starts == sorted(set(starts))
    assert len(Hippocampus().cases("train")) == len(Hippocampus("sample").cases("train"))


@pytest.mark.parametrize("checks", [{"checksum": "md5:" + "0" * 32}, {"fingerprint": "0" * 64}])
def test_other_content_gets_no_place(server, monkeypatch, tmp_path, checks):
    _publish(server, monkeypatch, **checks)
    with pytest.raises(CphlocError, match=r"wrong content|contains other cases"):
        fetch("hippocampus")
    assert not list((tmp_path / "data").glob("*"))


def test_right_fingerprint_is_accepted(server, monkeypatch):
    cases = [c for split in ("train", "val", "test") for c in Hippocampus("sample").cases(split)]
    expected = fingerprint((c.id, content_hash(c)) for c in cases)
    _publish(server, monkeypatch, fingerprint=expected)
    assert fetch("hippocampus").is_dir()


def test_refuses_offline_and_says_where_people_get_the_rest(monkeypatch, tmp_path):
    monkeypatch.setenv("CPHLOC_DATA", str(tmp_path))
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    with pytest.raises(CphlocError, match="CPHLOC_OFFLINE forbids downloading 'bccd'"):
        fetch("bccd")
    with pytest.raises(InputError, match=r"'busi' cannot be fetched by a program; get it from https://doi.org/"):
        fetch("busi")


def test_every_source_is_checked_and_carded():
    for name, source in SOURCES.items():
        assert source.checksum or source.fingerprint or source.by_hand
        assert source.url.startswith("https://")
        assert name in module.catalogue.cards("dataset")


def test_list_names_licence_and_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CPHLOC_DATA", str(tmp_path))
    (tmp_path / "bccd").mkdir()
    assert main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert str(tmp_path / "bccd") in lines["bccd"]
    assert "CC BY 3.0" in lines["sts_petct"]
    assert main(["data", "list", "b*", "--json"]) == 0
    assert [f["name"] for f in json.loads(capsys.readouterr().out)] == ["bccd", "brain_t1c", "busi"]
    assert main(["data", "fetch"]) == 2


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"in/{number}", bytes(1 << 20))


def _tar_bomb(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        claim = tarfile.TarInfo("elsewhere/a")
        claim.size = 1 << 50
        archive.addfile(claim)


@pytest.mark.parametrize("make", [_zip_bomb, _tar_bomb])
def test_an_archive_that_expands_beyond_all_proportion_is_refused(tmp_path, monkeypatch, make):
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", 4 << 20)
    make(tmp_path / "a")
    with pytest.raises(CphlocError, match="would expand") as error:
        module.unpack(tmp_path / "a", {"in": "out"}, tmp_path / "to")
    assert "\n" not in str(error.value)
    assert sum(p.stat().st_size for p in (tmp_path / "to").rglob("*") if p.is_file()) <= 4 << 20


def test_no_member_of_an_archive_is_written_outside_the_folder(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    with tarfile.open(folder / "a", "w") as archive:
        for name in ("in/../../x", "/in/x", "in/good", "in/.hidden"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("in/link")
            link.type, link.linkname = kind, str(folder / "secret")
            archive.addfile(link)
    module.unpack(folder / "a", {"in": "out"}, folder / "to")
    written = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert written == ["a", "secret", "to/out/good"]


@pytest.mark.parametrize("name", ["in/b\\x", "in/C:x", "in/con/x", "in/aux.txt", "in/a."])
def test_a_member_that_windows_would_read_as_a_path_or_a_device_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(name, b"abc")
    with pytest.raises(CphlocError, match="is a file name on some systems only"):
        module.unpack(tmp_path / "a", {"in": "out"}, tmp_path / "to")


def test_members_without_end_and_headers_that_claim_gigabytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_MEMBERS", 1000)
    with tarfile.open(tmp_path / "many", "w:gz") as archive:
        for number in range(1001):
            archive.addfile(tarfile.TarInfo(f"in/{number}"))
    with pytest.raises(CphlocError, match="has more than 1,000 members"):
        module.unpack(tmp_path / "many", {"in": "out"}, tmp_path / "to")
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 28
    with gzip.open(tmp_path / "header", "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        file.write(bytes(header.size))
    tracemalloc.start()
    with pytest.raises(CphlocError, match=r"damaged archive .a header claims 268,435,456 bytes"):
        module.unpack(tmp_path / "header", {"in": "out"}, tmp_path / "to")
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
    tracemalloc.stop()


def test_a_member_without_a_name_is_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("x"), b"nothing")
        archive.writestr("in/a.txt", b"kept")
    renamed = zipfile.ZipFile(tmp_path / "a.zip")
    renamed.filelist[0].filename = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", lambda path: renamed)
        unpack(tmp_path / "a.zip", {"in": "out"}, tmp_path / "to")
    assert [p.name for p in (tmp_path / "to").rglob("*") if p.is_file()] == ["a.txt"]
