"""Scores of a hold-out in, a report that a clinician or reviewer can judge out: figures, page and checklist."""
