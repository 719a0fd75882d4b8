"""What was learned and forgotten: answers of the current model, their values, and the accuracy matrix of the stream."""
