"""Pages for people: HTML made from the record, at the addresses of the API."""
