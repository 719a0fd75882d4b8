"""Ablations through Ray Tune."""
