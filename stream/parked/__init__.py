"""Parked events as an operator meets them: chosen, shown, and driven again."""
