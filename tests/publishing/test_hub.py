"""Pushes to a stand-in for the Hugging Face Hub, and the model card as the Hub's own library reads it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import huggingface_hub
import pytest
import yaml
from hub_server import TOKEN, hub_server

import cphloc
from cphloc.cli import main
from cphloc.errors import CphlocError, InputError
from cphloc.paths import shipped
from cphloc.publishing.hub import push_to_hub
from cphloc.publishing.hub_card import hub_card
from cphloc.publishing.verify import verify
from cphloc.zoo.entries import list_entries
from cphloc.zoo.entry import Entry
from cphloc.zoo.lock import find_locked


@pytest.fixture
def hub(monkeypatch):
    with hub_server() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)  # the library reads these once
        monkeypatch.setattr("huggingface_hub.constants.HF_URL_HOSTS", frozenset({"127.0.0.1"}))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield running


@pytest.mark.parametrize("published", [2, 3], indirect=True)
def test_an_entry_from_the_hub_predicts_its_sample_as_published(hub, published):
    files = {p.relative_to(published).as_posix(): p.read_bytes() for p in published.rglob("*") if p.is_file()}
    command = [sys.executable, "-m", "cphloc", "push-to-hub", str(published), "--repo", "lab/tiny"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert 'cphloc.load("hf://lab/tiny@1.0.0")' in said.stdout
    assert TOKEN not in said.stdout + said.stderr
    assert not said.stderr
    repository = hub.repositories["lab/tiny"]
    held = repository.commits[repository.tags["1.0.0"]]
    assert {name: held[name] for name in files} == files
    shutil.rmtree(published)
    model = cphloc.load("hf://lab/tiny@1.0.0")
    assert str(model.entry) == "tiny@1.0.0"
    checks = verify("hf://lab/tiny@1.0.0")
    assert all(check.right for check in checks), checks
    assert any("sample" in check.what for check in checks)


def test_the_card_is_valid_for_the_library_and_has_every_metric(hub, published):
    push_to_hub(published, "lab/tiny")
    repository = hub.repositories["lab/tiny"]
    text = repository.commits[repository.main]["README.md"].decode()
    card = huggingface_hub.ModelCard(text)
    card.validate()
    entry = Entry.read(published / "entry.yaml")
    assert (card.data.library_name, card.data.pipeline_tag) == ("cphloc", "image-segmentation")
    assert [(r.metric_type, r.metric_value) for r in card.data.eval_results] == [
        (name, metric.value) for name, metric in entry.evaluation.metrics.items()
    ]
    assert {r.dataset_split for r in card.data.eval_results} == {"test"}
    value = entry.evaluation.metrics["dice"]
    assert f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]" in card.text


@pytest.mark.parametrize("listing", list_entries(all_versions=True, zoos=[str(shipped("zoo"))]), ids=str)
def test_every_shipped_entry_has_a_valid_card(hub, listing):
    card = hub_card(listing.entry, "lab/x")
    card.validate()
    facts = yaml.safe_load(str(card).split("---")[1])
    assert facts["license"] != "other"
    assert facts["model-index"][0]["name"] == listing.name


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC0", {"license": "cc0-1.0"}),
        ("CC BY-NC-SA 4.0", {"license": "cc-by-nc-sa-4.0"}),
        ("on request: a\nb", {"license": "other", "license_name": "on-request-a-b"}),
    ],
)
def test_a_licence_that_the_hub_does_not_list_is_other_with_its_name(hub, entry_facts, licence, expected):
    facts = entry_facts("a", "1.0.0")
    facts["data"] = facts["data"] | {"licence": licence}
    card = hub_card(Entry.model_validate(facts), "lab/x")
    card.validate()
    found = yaml.safe_load(str(card).split("---")[1])
    assert {k: found[k] for k in found if k in ("license", "license_name")} == expected


def test_texts_of_an_entry_cannot_change_the_metadata_of_its_card(entry_facts):
    facts = entry_facts("a", "1.0.0") | {
        "modality": ["x\n---\nlicense: mit\n---\n"],
        "summary": "---\nlicense: gpl\n---",
    }
    data = huggingface_hub.ModelCard(str(hub_card(Entry.model_validate(facts), "lab/x"))).data
    assert data.library_name == "cphloc"
    assert facts["modality"][0] in data.tags


def test_a_version_is_pushed_once_and_an_interrupted_push_can_be_repeated(hub, published):
    push_to_hub(published, "lab/tiny")
    with pytest.raises(InputError, match=r"has the version 1\.0\.0 already"):
        push_to_hub(published, "lab/tiny")
    hub.repositories["lab/tiny"].tags.clear()  # as after a push that was interrupted before the tag
    push_to_hub(published, "lab/tiny")
    assert cphloc.load("hf://lab/tiny").entry.version == "1.0.0"


def test_files_that_a_new_version_lacks_are_removed_and_another_entry_is_refused(hub, published, put_entry, tmp_path):
    push_to_hub(published, "lab/tiny")
    newer = put_entry(tmp_path / "other", "tiny", "1.1.0")
    push_to_hub(newer, "lab/tiny")
    repository = hub.repositories["lab/tiny"]
    assert set(repository.commits[repository.tags["1.1.0"]]) == {
        *(".gitattributes", "README.md", "entry.yaml", "recipe.yaml", "model.safetensors")
    }
    assert "sbom.cdx.json" in repository.commits[repository.tags["1.0.0"]]
    with pytest.raises(InputError, match="holds the entry 'tiny', not 'unet3d-ct'"):
        push_to_hub(put_entry(tmp_path / "other", "unet3d-ct", "1.0.0"), "lab/tiny")


def test_main_holds_the_highest_version_and_an_older_one_gets_its_tag(hub, put_entry, tmp_path):
    repository = None
    for version, highest in (("1.2.0", "1.2.0"), ("1.10.0", "1.10.0"), ("1.9.0", "1.10.0"), ("1.10.0rc1", "1.10.0")):
        if repository is not None:
            repository.branches["version-1.9.0"] = repository.main  # as after a push that was interrupted
        push_to_hub(put_entry(tmp_path / "zoo", "tiny", version), "lab/tiny")
        repository = hub.repositories["lab/tiny"]
        held = {
            name: yaml.safe_load(repository.commits[commit]["entry.yaml"])["version"]
            for name, commit in [*repository.tags.items(), ("main", repository.main)]
        }
        assert held == {**{tag: tag for tag in repository.tags}, "main": highest}
        assert version in repository.tags
    assert "version-1.10.0rc1" not in repository.branches
    for asked, version in (("", "1.10.0"), ("@1.9.0", "1.9.0"), ("@main", "1.10.0"), ("@^1", "1.10.0")):
        assert find_locked(f"hf://lab/tiny{asked}").version == version


def test_a_damaged_entry_is_not_pushed(hub, published):
    with (published / "model.safetensors").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="was published"):
        push_to_hub(published, "lab/tiny")
    assert not hub.asked


def test_a_refused_token_is_one_line_that_does_not_show_it(hub, published, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    assert main(["push-to-hub", str(published), "--repo", "lab/tiny"]) == 1
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert "set HF_TOKEN to a token that may write there" in said.err
    assert "hf_wrong" not in said.out + said.err


def test_nothing_is_pushed_offline_or_to_a_name_that_is_none(hub, published, monkeypatch):
    for name in ("lab tiny", "tiny", "lab/tiny@1.0.0", "../tiny", "lab/tiny/x"):
        with pytest.raises(InputError, match="is not a repository; write owner/name"):
            push_to_hub(published, name)
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    with pytest.raises(InputError, match="CPHLOC_OFFLINE"):
        push_to_hub(published, "lab/tiny")


def test_a_hub_that_does_not_answer_is_given_up(hub, published, monkeypatch):
    hub.slow = True
    monkeypatch.setattr("cphloc.publishing.hub.ANSWER_SECONDS", 0.3)
    with pytest.raises(CphlocError, match=r"did not answer within 0\.3 s; run the command again"):
        push_to_hub(published, "lab/tiny")
