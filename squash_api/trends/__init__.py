"""Values of metrics over time: asked for, read, thinned, judged, written as files."""
