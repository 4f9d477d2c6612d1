"""The demo, and everything embedded on one machine, which stays with `up`."""
