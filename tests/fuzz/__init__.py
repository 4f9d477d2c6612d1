"""Fuzzers: events through the pipeline, releases and feature tables through their doors."""
