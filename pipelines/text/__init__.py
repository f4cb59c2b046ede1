"""Files of documents in, registered text models out."""
