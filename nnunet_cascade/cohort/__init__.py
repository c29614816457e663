"""Many cases: records, locks, who does what, and where the workers live."""
