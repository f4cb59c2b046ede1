"""What turns raw files into a registered model: sources, training, evaluation, registration, jobs."""
