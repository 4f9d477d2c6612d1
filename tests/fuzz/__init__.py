"""Fuzzers: events, releases and feature tables through their doors, models through the kernel."""
