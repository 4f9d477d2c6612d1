"""The wire: clients that the settings secure, records out and in, topics, groups and rights."""
