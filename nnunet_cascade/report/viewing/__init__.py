"""The interactive viewer: its volumes, its library, its server."""
