"""The course of a run over any mixer."""
