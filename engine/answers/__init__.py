"""What was said becomes values: `metrics.py` of answers and data sets, a file each family, `accuracy.py` over the stream."""
