"""Settings: frozen dataclasses, checked when they are made, carried as JSON."""
