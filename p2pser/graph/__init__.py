"""Topologies: graphs, schedules, mixing weights and their rates of convergence. No socket, no clock, no thread."""
