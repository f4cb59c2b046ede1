"""What answers over HTTP: a registered model in, risk scores out."""
