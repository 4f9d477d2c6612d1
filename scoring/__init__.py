"""The pure core: the same event, features and release always give the same decision."""
