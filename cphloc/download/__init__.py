"""Download files with mirrors, resumption and checksums."""

from cphloc.download.files import DownloadError, download, read_url
from cphloc.download.limits import SourceError, in_process, within
from cphloc.download.transfer import unreachable

__all__ = ["DownloadError", "SourceError", "download", "in_process", "read_url", "unreachable", "within"]
