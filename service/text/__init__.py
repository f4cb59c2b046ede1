"""Documents as JSON in, their classes and spans as JSON out."""
