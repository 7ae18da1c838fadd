"""Pages for people: HTML made from the record, at the URLs of the API."""
