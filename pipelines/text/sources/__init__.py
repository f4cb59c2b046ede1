"""One module a source of documents: the only place that knows its format; raw files in, a corpus out."""
