"""What stands on the topics: decisions as bytes, headers as types, and both as published files."""
