"""What was said becomes values: `metrics.py` of one answer and of a data set, `accuracy.py` over the stream."""
