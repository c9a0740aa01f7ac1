"""Revisions, oldest first by `down_revision`. Written by `write_revision`, reviewed, never edited once released."""
