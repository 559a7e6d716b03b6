"""One thin command per arrow; `zreward.cli` puts them together."""
