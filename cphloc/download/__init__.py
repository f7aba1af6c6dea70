"""Download files with mirrors, resumption and checksums."""

from cphloc.download.files import DownloadError, download, read_url
from cphloc.download.transfer import unreachable

__all__ = ["DownloadError", "download", "read_url", "unreachable"]
