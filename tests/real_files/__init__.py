"""``make real-files``: files of other projects' tests and files that other tools write, compared with reference readers."""
