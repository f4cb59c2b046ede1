"""What answers over HTTP: a registered model in, risk scores out."""

import os

# One thread computes (`service.batcher`), and a time step is too small to share. BLAS and OpenMP read this when they
# are loaded, which is after this line and never again; without it their threads fight the event loop for the cores.
for _library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_library, "1")
