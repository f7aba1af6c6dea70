from __future__ import annotations

import hashlib
import multiprocessing
import threading

import pytest

from cphloc.download import DownloadError, transfer
from cphloc.download import files as module

CONTENT = bytes(i * i % 251 for i in range(300_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PINNED = {"checksum": f"sha256:{SHA256}", "size_bytes": len(CONTENT)}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(module, "PIECE_BYTES", 1 << 15)


@pytest.fixture
def weights(server):
    (server.root / "weights").write_bytes(CONTENT)
    return f"{server.url}/weights"


@pytest.fixture
def path(tmp_path):
    """Where the file belongs."""
    return tmp_path / "cache" / "weights"


@pytest.fixture
def get(path):
    def download(urls, what="weights", **expected):
        return module.download(urls, path, what, **(expected or PINNED))

    return download


def test_a_file_comes_whole_and_only_once(server, weights, get):
    assert get([weights]).read_bytes() == CONTENT
    assert get([weights]).read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_a_broken_download_is_resumed_where_it_broke_off(server, weights, get, fault):
    server.fault, server.times = fault, 1
    assert get([weights]).read_bytes() == CONTENT
    resumed = server.asked[1][1]
    assert resumed is not None
    assert 0 < int(resumed.removeprefix("bytes=").rstrip("-")) <= len(CONTENT) // 2


def test_a_server_that_cannot_resume_sends_all_again(server, weights, get):
    server.fault, server.times, server.ranges = "truncate", 1, False
    assert get([weights]).read_bytes() == CONTENT


def test_a_download_goes_on_after_the_process_died(server, weights, get, path):
    path.parent.mkdir()
    path.with_suffix(".part").write_bytes(CONTENT[:100_000])
    assert get([weights]).read_bytes() == CONTENT
    assert server.asked == [("/weights", "bytes=100000-")]


def test_a_part_from_something_else_is_thrown_away(server, weights, get, path):
    path.parent.mkdir()
    path.with_suffix(".part").write_bytes(b"x" * 100_000)
    assert get([weights]).read_bytes() == CONTENT


def test_a_file_of_unknown_size_is_resumed_too(server, weights, get):
    server.fault, server.times = "truncate", 1
    assert get([weights], checksum=f"sha256:{SHA256}").read_bytes() == CONTENT
    assert server.asked[1][1] is not None


def test_without_a_checksum_the_server_is_believed_but_not_a_broken_connection(server, weights, get, path):
    server.fault = "truncate"
    with pytest.raises(DownloadError, match=r"(?s)interrupted after .*run the command again to continue"):
        get([weights], checksum=None)
    assert not path.exists()
    server.fault = ""
    assert get([weights], checksum=None).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server, weights, get, path):
    path.parent.mkdir()
    path.with_suffix(".part").write_bytes(CONTENT + b"more")
    assert get([weights], checksum=f"sha256:{SHA256}").read_bytes() == CONTENT


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_checksums_of_publishers(server, weights, get, algorithm):
    with pytest.raises(DownloadError, match=f"wrong content: {algorithm}"):
        get([weights], checksum=f"{algorithm}:{'0' * 32}")
    assert get([weights], checksum=f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}").is_file()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("corrupt", "wrong content"),
        ("deny", "answered 500"),
        ("truncate", "interrupted after"),
        ("stall", "interrupted"),
    ],
)
def test_a_source_that_never_gives_the_file_leaves_none(server, weights, get, fault, says, path):
    server.fault = fault
    with pytest.raises(DownloadError, match=says) as caught:
        get([weights], "unet@1.0.0/weights")
    assert "unet@1.0.0/weights" in str(caught.value)
    assert weights in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("fault", ["corrupt", "deny", "truncate", "stall"])
def test_a_mirror_helps_out(server, weights, get, fault):
    (server.root / "bad").write_bytes(CONTENT)
    server.fault, server.only = fault, "bad"
    assert get([f"{server.url}/bad", weights]).read_bytes() == CONTENT


def test_corrupt_half_from_one_mirror_does_not_spoil_the_next(server, weights, get):
    (server.root / "bad").write_bytes(b"?" * len(CONTENT))
    server.fault, server.only = "truncate", "bad"
    assert get([f"{server.url}/bad", weights]).read_bytes() == CONTENT


def test_every_source_is_accounted_for(server, get):
    urls = [f"{server.url}/nothing", "http://127.0.0.1:9/nobody"]
    with pytest.raises(DownloadError) as caught:
        get(urls)
    first, second = str(caught.value).splitlines()[1:]
    assert "/nothing: does not exist" in first
    assert "nobody" in second


def test_offline_forbids_it_and_says_where_to_put_the_file(server, weights, get, monkeypatch, path):
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    with pytest.raises(DownloadError, match=str(path)):
        get([weights])
    assert server.asked == []


def test_a_full_disk_is_one_clear_error(server, weights, get, monkeypatch, path):
    full = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: full)
    with pytest.raises(DownloadError, match=r"300,000 bytes are needed and 1,000 are free.*CPHLOC_CACHE"):
        get([weights])
    assert not path.exists()


def test_threads_that_want_one_file_download_it_once(server, weights, get):
    found = []
    threads = [threading.Thread(target=lambda: found.append(get([weights]).read_bytes())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 6
    assert len(server.asked) == 1


def test_processes_that_want_one_file_download_it_once(server, weights, get):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_download_into, args=(results, weights, get)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=20) for _ in processes] == [SHA256] * 3
    for process in processes:
        process.join()
    assert len(server.asked) == 1


def _download_into(results, url, get):
    results.put(hashlib.sha256(get([url]).read_bytes()).hexdigest())
