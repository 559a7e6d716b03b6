"""Predictions against people: metrics, tables, the report."""
