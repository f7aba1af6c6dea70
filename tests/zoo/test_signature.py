"""Signed entries: keys of ssh-keygen and openssl, and signatures that openssl verifies."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

import pytest
from file_server import served

from cphloc.cli.main import main
from cphloc.config import yamlio
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.publishing.publish import publish
from cphloc.publishing.verify import verify
from cphloc.zoo.entries import find_entry
from cphloc.zoo.entry import Entry, File
from cphloc.zoo.index import index_zoo
from cphloc.zoo.lock import lock
from cphloc.zoo.signature import PASSPHRASE, check_signature, read_private_key, read_trusted, sign


def ssh_key(path, phrase=""):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-C", "me@home", "-f", str(path)], check=True)
    return path


def openssl_key(path):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)], check=True)
    pub = ["openssl", "pkey", "-in", str(path), "-pubout", "-out", f"{path}.pub"]
    subprocess.run(pub, check=True)
    return path


@pytest.fixture(params=[ssh_key, openssl_key])
def key(request, tmp_path):
    return request.param(tmp_path / "key")


@pytest.fixture
def signed(published, tmp_path):
    """Folder of an entry, signed with ``tmp_path / "key"``."""
    key = ssh_key(tmp_path / "key")
    sign(published, Entry.read(published / "entry.yaml"), read_private_key(key))
    return published


def wrong(folder, trust):
    return [check.found for check in verify(folder, trust=trust) if not check.right]


@pytest.mark.parametrize("published", [2, 3], indirect=True)
def test_a_signed_entry_is_right_and_openssl_agrees(published, key, tmp_path):
    signer = sign(published, Entry.read(published / "entry.yaml"), read_private_key(key))
    assert wrong(published, f"{key}.pub") == []
    assert main(["audit", str(published)]) == 0
    envelope = json.loads((published / "signature.json").read_text())
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    signed = tmp_path / "signed"
    signed.write_bytes(b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload]))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    pem = tmp_path / "pub.pem"
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem.write_bytes(read_private_key(key).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pem, "-rawin", "-in", signed]
    subprocess.run([*command, "-sigfile", tmp_path / "sig"], check=True, capture_output=True)
    statement = json.loads(payload)
    stated = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    there = {p.relative_to(published).as_posix(): File.of(p).sha256 for p in published.rglob("*") if p.is_file()}
    del there["signature.json"]
    assert stated == there
    assert statement["predicate"]["name"] == "tiny"
    if key.with_suffix(".pub").read_text().startswith("ssh"):
        listed = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True).stdout
        assert signer.fingerprint in listed


def test_a_missing_a_foreign_and_a_broken_signature_are_refused(signed, tmp_path):
    other = ssh_key(tmp_path / "other")
    [text] = wrong(signed, f"{other}.pub")
    assert "is not signed by a trusted key" in text
    envelope = json.loads((signed / "signature.json").read_text())
    good = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    (signed / "signature.json").write_text(json.dumps(envelope))
    assert "is not signed by a trusted key" in wrong(signed, tmp_path / "key.pub")[0]
    envelope["signatures"][0]["sig"] = good
    envelope["payload"] = base64.b64encode(b"{}").decode()
    (signed / "signature.json").write_text(json.dumps(envelope))
    assert "its signature is of other files" in wrong(signed, tmp_path / "key.pub")[0]
    for content in ("", "[]", "{}", "null", '{"payloadType": 1}', '{"payloadType": "application/vnd.in-toto+json"}'):
        (signed / "signature.json").write_text(content)
        [text] = wrong(signed, tmp_path / "key.pub")
        assert "is not a signature" in text
    (signed / "signature.json").unlink()
    assert "has no signature" in wrong(signed, tmp_path / "key.pub")[0]
    assert wrong(signed, None) == []


def test_a_file_that_is_changed_added_or_removed_is_found(signed, tmp_path):
    trust = tmp_path / "key.pub"
    plain = yamlio.load(signed / "entry.yaml").plain
    (signed / "extra.csv").write_text("a")
    assert wrong(signed, trust)
    plain["files"]["extra.csv"] = File.of(signed / "extra.csv").model_dump()
    (signed / "entry.yaml").write_text(yamlio.dump(plain))
    assert ["its signature is of other files" in text for text in wrong(signed, trust)] == [True]
    for name in ("extra.csv", "cases.csv"):
        (signed / name).unlink()
        del plain["files"][name]
    (signed / "entry.yaml").write_text(yamlio.dump(plain))
    assert any("its signature is of other files" in text for text in wrong(signed, trust))


def test_the_signature_of_another_version_is_refused(signed, tmp_path):
    later = shutil.copytree(signed, signed.with_name("1.1.0"))
    plain = yamlio.load(later / "entry.yaml").plain | {"version": "1.1.0"}
    (later / "entry.yaml").write_text(yamlio.dump(plain))
    with pytest.raises(DataError, match=r"tiny@1\.1\.0: its signature is of other files"):
        check_signature(find_entry(later), read_trusted(tmp_path / "key.pub"))


def test_a_signature_is_checked_over_http_and_through_the_index(signed, tmp_path, monkeypatch):
    zoo = signed.parents[1]
    index_zoo(zoo)
    with served(zoo) as server:
        url = server.url
        monkeypatch.setenv("CPHLOC_ZOO", url)
        assert wrong("tiny@^1", tmp_path / "key.pub") == []
        assert main(["verify", f"{url}/tiny/1.0.0", "--trust", str(ssh_key(tmp_path / "other")) + ".pub"]) == 1
        (signed / "signature.json").unlink()
        assert "has no signature" in wrong("tiny", tmp_path / "key.pub")[0]


def test_a_lock_pins_the_signer(signed, tmp_path):
    zoos = [str(signed.parents[1])]
    pin = lock(["tiny"], zoos=zoos, trust=tmp_path / "key.pub")["tiny"]
    assert pin["signer"] == " ".join((tmp_path / "key.pub").read_text().split()[:2])
    assert lock(["tiny"], zoos=zoos)["tiny"] == pin
    sign(signed, Entry.read(signed / "entry.yaml"), read_private_key(ssh_key(tmp_path / "other")))
    with pytest.raises(DataError, match="is not signed by a trusted key"):
        lock(["tiny"], zoos=zoos)
    assert lock(["tiny"], zoos=zoos, trust=tmp_path / "other.pub")["tiny"]["signer"] != pin["signer"]


def test_publish_signs(train_run, tmp_path, registered, capsys):
    key = ssh_key(tmp_path / "key")
    publish(train_run().folder, "tiny", "1.0.0", to=tmp_path / "zoo", sign=key)
    folder = tmp_path / "zoo" / "tiny" / "1.0.0"
    assert main(["verify", str(folder), "--trust", f"{key}.pub"]) == 0
    assert "me@home" in capsys.readouterr().out
    with pytest.raises(InputError, match="ssh-keygen"):
        publish(train_run(name="second").folder, "tiny", "1.1.0", to=tmp_path / "zoo", sign=f"{key}.pub")
    assert not (tmp_path / "zoo" / "tiny" / "1.1.0").exists()


def test_a_passphrase_comes_from_the_environment(tmp_path, monkeypatch):
    key = ssh_key(tmp_path / "key", "open sesame")
    with pytest.raises(InputError, match=rf"has a passphrase; set {PASSPHRASE}"):
        read_private_key(key)
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    assert read_private_key(key).public_key()
    monkeypatch.setenv(PASSPHRASE, "other")
    with pytest.raises(InputError, match="no private key can be read"):
        read_private_key(key)


def test_only_files_of_ed25519_keys_are_trusted(tmp_path):
    first, second, third = ssh_key(tmp_path / "a"), openssl_key(tmp_path / "b"), ssh_key(tmp_path / "c")
    trusted = tmp_path / "trusted"
    line = (tmp_path / "a.pub").read_text()
    trusted.write_text(f'# mine\n\n{(second.with_suffix(".pub")).read_text()}\nno-pty,command="x" {line}')
    assert [signer.comment for signer in read_trusted(trusted)] == ["", "me@home"]
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True)
    for content in (f"{rsa}.pub", first):
        with pytest.raises(InputError, match=r"is not an ed25519 public key"):
            read_trusted(content)
    with pytest.raises(InputError, match="is not an ed25519 key"):
        read_private_key(rsa)
    trusted.write_text("# none\n")
    with pytest.raises(InputError, match="contains no public key"):
        read_trusted(trusted)
    with pytest.raises(NotFoundError, match="no such file"):
        read_trusted(tmp_path / "nowhere")
    assert third.is_file()
