"""Push an entry to a repository of the Hugging Face Hub: its files, a model card, and a tag with its version."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from packaging.version import Version

from cphloc import paths
from cphloc.download import hub, hub_token, read_url, within
from cphloc.download.limits import LEAST_BYTES_PER_SECOND
from cphloc.errors import CphlocError, InputError, needs, one_line
from cphloc.publishing.hub_card import hub_card
from cphloc.zoo.entries import Listing
from cphloc.zoo.hub import HubSpec
from cphloc.zoo.index import row_of
from cphloc.zoo.inside import file_inside
from cphloc.zoo.names import ENTRY_FILE, MAX_ENTRY_BYTES, SIGNATURE_FILE, VERSION_PATTERN, WEIGHTS_FILE
from cphloc.zoo.resolve import resolve_entry
from cphloc.zoo.stored import checked_path, content_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import GitRefs, ModelInfo

Result = TypeVar("Result")

ANSWER_SECONDS = 120.0
"""Longest time for the answers of the Hub, besides that for the upload of the files."""

_CARD = "README.md"
_KEPT = {".gitattributes"}
"""Files of a repository that do not belong to the entry."""


@dataclass(frozen=True)
class Pushed:
    """An entry on the Hub: ``name@1.2.0``, what `cphloc.load` takes, its commit, and the page of its version."""

    entry: str
    spec: str
    revision: str
    url: str


def push_to_hub(spec: str | Path, repository: str, private: bool = False) -> Pushed:
    """Push an entry as one commit, tagged with its version.

    The files of an earlier version that the entry lacks are removed in that commit; they stay under its tag. The branch
    ``main`` holds the highest version that was pushed: of an older one, only the tag is added.

    Args:
        spec: the entry, as for `cphloc.zoo.resolve.resolve_entry`.
        repository: ``owner/name``; made if it does not exist.
        private: make a new repository private.

    Raises:
        InputError: the repository has this version already, or holds another entry.
        MissingExtraError: huggingface_hub is not installed.
        CphlocError: offline, or the Hub cannot be reached or refuses, for example without a token.
    """
    if (named := HubSpec.parse(f"hf://{repository}")) is None or named.asked:
        msg = f"'{repository}' is not a repository; write owner/name, with letters, digits, '-', '_' and '.'"
        raise InputError(msg)
    found = resolve_entry(spec)
    content = _content(found)
    if paths.offline():
        msg = f"{found} cannot be pushed because CPHLOC_OFFLINE forbids network access; unset it"
        raise InputError(msg)
    api = _api()
    before, refs = _answered(repository, ANSWER_SECONDS, lambda: _checked(api, repository, private, found))
    content[_CARD] = str(hub_card(found.entry, repository)).encode()
    seconds = ANSWER_SECONDS + sum(map(_size, content.values())) / LEAST_BYTES_PER_SECOND
    with _branch_for(api, repository, before, found, refs) as branch:
        revision = _answered(repository, seconds, lambda: _tagged(api, repository, before, found, content, branch))
    url = f"{hub()}/{repository}/tree/{found.version}"
    return Pushed(str(found), f"hf://{repository}@{found.version}", revision, url)


def _content(found: Listing) -> dict[str, Path | bytes]:
    """Collect the files of an entry by their paths in the repository; every hash is checked."""
    entry = found.entry
    content: dict[str, Path | bytes] = {ENTRY_FILE: found.content}
    content |= {file: checked_path(found, file) for file in entry.files}
    weights = found.weights_path()
    content_of(weights, entry.weights, f"{found}: weights")
    content[entry.weights.file or WEIGHTS_FILE] = weights
    if isinstance(found.place, Path) and (found.place / SIGNATURE_FILE).is_file():
        content[SIGNATURE_FILE] = file_inside(found.place, SIGNATURE_FILE)
    return content


def _api() -> HfApi:
    with needs("push-to-hub"):
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars
    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(endpoint=hub(), library_name="cphloc")


def _answered(repository: str, seconds: float, call: Callable[[], Result]) -> Result:
    """Return what the Hub answers within a time; report what it or the library refuses as one line, without the token.

    Raises:
        CphlocError: it does not answer, or refuses.
    """
    try:
        return within(seconds, call)
    except CphlocError:
        raise
    except Exception as error:  # those of the library, and of its library for HTTP, have no common class
        raise _failure(repository, error) from None


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _failure(repository: str, error: Exception) -> CphlocError:
    token = hub_token(f"{hub()}/")
    text = one_line(str(error).strip())
    shown = text.replace(token, "***") if token else text
    status = getattr(getattr(error, "response", None), "status_code", None)
    hint = "set HF_TOKEN to a token that may write there" if status in (401, 403) else "run the command again"
    return CphlocError(f"{repository} on {hub()}: {shown}; {hint}")


def _checked(api: HfApi, repository: str, private: bool, found: Listing) -> tuple[ModelInfo, GitRefs]:
    """Open or make the repository, and check that it may take the version; return its files, and branches and tags.

    Raises:
        InputError: it has the version already, and versions are immutable; or it holds another entry.
    """
    before = _opened(api, repository, private)
    _check_name(repository, before, found)
    refs = api.list_repo_refs(repository)
    if found.version in {tag.name for tag in refs.tags}:
        msg = f"{repository} has the version {found.version} already, and versions are immutable; publish a new one"
        raise InputError(msg)
    return before, refs


def _opened(api: HfApi, repository: str, private: bool) -> ModelInfo:
    """Return what the Hub states about a repository, which is made if it does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=private or None)
        return api.model_info(repository)


def _check_name(repository: str, before: ModelInfo, found: Listing) -> None:
    """Refuse a repository with another entry, whose versions would be mixed with those of this one."""
    if ENTRY_FILE not in _names(before):
        return
    url = f"{hub()}/{repository}/resolve/{before.sha}/{ENTRY_FILE}"
    held = row_of(read_url(url, MAX_ENTRY_BYTES), url).name
    if held != found.name:
        msg = f"{repository} holds the entry '{held}', not '{found.name}'; name another repository"
        raise InputError(msg)


def _names(info: ModelInfo) -> set[str]:
    return {file.rfilename for file in info.siblings or []}


@contextmanager
def _branch_for(api: HfApi, repository: str, before: ModelInfo, found: Listing, refs: GitRefs) -> Iterator[str | None]:
    """Give the branch to commit to: ``None`` is ``main``; a version older than the one there gets one for the time.

    Raises:
        CphlocError: the Hub does not answer, or refuses.
    """
    versions = [Version(tag.name) for tag in refs.tags if re.fullmatch(VERSION_PATTERN, tag.name)]
    if max(versions, default=Version(found.version)) <= Version(found.version):
        yield None
        return
    branch, answered = f"version-{found.version}", partial(_answered, repository, ANSWER_SECONDS)
    if branch in {one.name for one in refs.branches}:  # a push that was interrupted left it
        answered(lambda: api.delete_branch(repository, branch=branch))
    answered(lambda: api.create_branch(repository, branch=branch, revision=before.sha))
    try:
        yield branch
    finally:
        answered(lambda: api.delete_branch(repository, branch=branch))


def _tagged(
    api: HfApi,
    repository: str,
    before: ModelInfo,
    found: Listing,
    content: Mapping[str, Path | bytes],
    branch: str | None,
) -> str:
    """Replace the files of a branch of the repository by ``content`` and tag them; return the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    old = _names(before) - content.keys() - _KEPT
    operations = [CommitOperationAdd(name, value) for name, value in sorted(content.items())]
    operations += [CommitOperationDelete(name) for name in sorted(old)]
    revision = api.create_commit(
        repository,
        operations,
        commit_message=str(found),
        commit_description=found.entry.changelog,
        revision=branch,
        parent_commit=before.sha,
    ).oid
    api.create_tag(repository, tag=found.version, revision=revision, tag_message=str(found))
    return revision
