"""Listeners: what a running fit shows. Nothing here changes what is computed."""
