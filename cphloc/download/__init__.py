"""Download files with mirrors, resumption and checksums."""

from cphloc.download.files import DownloadError, download, read_url
from cphloc.download.hub import hub, hub_token
from cphloc.download.limits import SourceError, in_process, within
from cphloc.download.transfer import unreachable

__all__ = [
    "DownloadError",
    "SourceError",
    "download",
    "hub",
    "hub_token",
    "in_process",
    "read_url",
    "unreachable",
    "within",
]
