"""Settings: what `conf/` holds, and what was typed."""
