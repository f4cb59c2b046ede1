"""Texts in, counts of what in them may identify a person out; and a refusal to train on it unseen."""
