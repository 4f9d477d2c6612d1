"""What is known about applicants: schema, in-memory table, how features are computed."""
