"""venice-watch: watches inbox folders and upscales every image with Venice's paid API."""

__version__ = "0.1.0"
