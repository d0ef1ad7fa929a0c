"""Who talks to whom: graphs, mixing weights and what theory says of them. No socket, no clock, no thread."""
