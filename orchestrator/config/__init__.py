"""The experiment file: read, merged, checked, with one-line errors."""
