"""Measurements: of the pipeline, delivery, feature tables and reconciliation, on a machine."""
