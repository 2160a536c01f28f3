"""The colours of all that shows fits: pages, pictures, notebooks."""

BLUE, ORANGE, RED, GREEN, GREY = "#2b7bba", "#e07b39", "#c43c39", "#3a9b5c", "#8a8f98"
