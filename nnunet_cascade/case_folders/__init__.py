"""Folders of cases: records, locks, and runs that resume."""
