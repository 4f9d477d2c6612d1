"""Features over several tables: declared once, computed in memory or on an engine."""
