"""A model as a service on the network: predictions by HTTP and websocket, and a page for the browser."""
