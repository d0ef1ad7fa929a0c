"""The networks that the built-in families build. They need torch; families do not until they build."""
