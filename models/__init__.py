"""What turns a stay into a risk score: a stay in, a calibrated risk out."""
