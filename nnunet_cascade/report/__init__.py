"""Pages and figures of what a cascade found."""
