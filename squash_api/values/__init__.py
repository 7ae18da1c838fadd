"""Values of metrics over time: chosen, read from the record, thinned, written as files."""
