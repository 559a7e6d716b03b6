"""Published data sets turned into records, one file for each."""
