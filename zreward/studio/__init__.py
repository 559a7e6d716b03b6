"""The studio: rate, check and compare images in the browser."""
