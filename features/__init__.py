"""What is known about applicants: the feature schema, the in-memory table, and how features are computed."""
