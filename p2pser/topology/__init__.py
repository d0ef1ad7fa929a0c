"""Who talks to whom: graphs, mixing weights and what theory says about them. No socket, no clock, no thread."""
