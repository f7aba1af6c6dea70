from __future__ import annotations

import hashlib
import multiprocessing
import threading

import pytest

from cphloc import paths
from cphloc.zoo import download as module
from cphloc.zoo.download import DownloadError, download
from cphloc.zoo.entry import File

CONTENT = bytes(i * i % 251 for i in range(300_000))
EXPECTED = File(sha256=hashlib.sha256(CONTENT).hexdigest(), bytes=len(CONTENT))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(module, "PIECE_BYTES", 1 << 15)


@pytest.fixture
def weights(server):
    (server.root / "weights").write_bytes(CONTENT)
    return f"{server.url}/weights"


def kept():
    """Whole files in the cache, without locks and parts."""
    folder = paths.cache() / "zoo" / "files"
    return [p for p in folder.glob("*") if not p.suffix]


def test_a_file_comes_whole_and_only_once(server, weights):
    assert download([weights], EXPECTED, "weights").read_bytes() == CONTENT
    assert download([weights], EXPECTED, "weights").read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_a_broken_download_is_resumed_where_it_broke_off(server, weights, fault):
    server.fault, server.times = fault, 1
    assert download([weights], EXPECTED, "weights").read_bytes() == CONTENT
    resumed = server.asked[1][1]
    assert resumed is not None
    assert 0 < int(resumed.removeprefix("bytes=").rstrip("-")) <= len(CONTENT) // 2


def test_a_server_that_cannot_resume_sends_all_again(server, weights):
    server.fault, server.times, server.ranges = "truncate", 1, False
    assert download([weights], EXPECTED, "weights").read_bytes() == CONTENT


def test_a_download_goes_on_after_the_process_died(server, weights):
    folder = paths.cache() / "zoo" / "files"
    folder.mkdir(parents=True)
    (folder / f"{EXPECTED.sha256}.part").write_bytes(CONTENT[:100_000])
    assert download([weights], EXPECTED, "weights").read_bytes() == CONTENT
    assert server.asked == [("/weights", "bytes=100000-")]


def test_a_part_from_something_else_is_thrown_away(server, weights):
    folder = paths.cache() / "zoo" / "files"
    folder.mkdir(parents=True)
    (folder / f"{EXPECTED.sha256}.part").write_bytes(b"x" * 100_000)
    assert download([weights], EXPECTED, "weights").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("corrupt", "gave another file"),
        ("deny", "answered 500"),
        ("truncate", "broke off after"),
        ("stall", "broke off"),
    ],
)
def test_a_source_that_never_gives_the_file_leaves_none(server, weights, fault, says):
    server.fault = fault
    with pytest.raises(DownloadError, match=says) as caught:
        download([weights], EXPECTED, "unet@1.0.0/weights")
    assert "unet@1.0.0/weights" in str(caught.value)
    assert weights in str(caught.value)
    assert kept() == []


@pytest.mark.parametrize("fault", ["corrupt", "deny", "truncate", "stall"])
def test_a_mirror_helps_out(server, weights, fault):
    (server.root / "bad").write_bytes(CONTENT)
    server.fault, server.only = fault, "bad"
    path = download([f"{server.url}/bad", weights], EXPECTED, "weights")
    assert path.read_bytes() == CONTENT


def test_corrupt_half_from_one_mirror_does_not_spoil_the_next(server, weights):
    (server.root / "bad").write_bytes(b"?" * len(CONTENT))
    server.fault, server.only = "truncate", "bad"
    assert download([f"{server.url}/bad", weights], EXPECTED, "weights").read_bytes() == CONTENT


def test_every_source_is_accounted_for(server):
    urls = [f"{server.url}/nothing", "http://127.0.0.1:9/nobody"]
    with pytest.raises(DownloadError) as caught:
        download(urls, EXPECTED, "weights")
    first, second = str(caught.value).splitlines()[1:]
    assert "/nothing: does not exist" in first
    assert "nobody" in second


def test_offline_forbids_it_and_says_where_to_put_the_file(server, weights, monkeypatch):
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    with pytest.raises(DownloadError, match=EXPECTED.sha256):
        download([weights], EXPECTED, "weights")
    assert server.asked == []


def test_a_full_disk_is_one_clear_error(server, weights, monkeypatch):
    full = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: full)
    with pytest.raises(DownloadError, match=r"300,000 bytes are needed and 1,000 are free.*CPHLOC_CACHE"):
        download([weights], EXPECTED, "weights")
    assert kept() == []


def test_threads_that_want_one_file_download_it_once(server, weights):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(download([weights], EXPECTED, "weights").read_bytes()))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 6
    assert len(server.asked) == 1


def test_processes_that_want_one_file_download_it_once(server, weights):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_download_into, args=(results, weights)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=20) for _ in processes] == [EXPECTED.sha256] * 3
    for process in processes:
        process.join()
    assert len(server.asked) == 1


def _download_into(results, url):
    results.put(hashlib.sha256(download([url], EXPECTED, "weights").read_bytes()).hexdigest())
