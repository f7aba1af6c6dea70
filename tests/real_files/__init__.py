"""``make real-files``: files of other projects' tests and of other tools, compared with reference readers."""
