"""One module a source: the only place that knows its format; raw files in, a cohort out."""
