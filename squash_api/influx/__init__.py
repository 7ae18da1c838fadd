"""InfluxDB: points as line protocol, and the HTTP client that writes, reads and deletes them."""
