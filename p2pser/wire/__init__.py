"""Bytes: what peers send each other, and the forms of a row in it. No socket, no clock, no thread."""
