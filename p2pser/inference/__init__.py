"""Predictions for recordings and streams, from a model directory."""
