"""The only owner of names in InfluxDB: tags, fields, aliases, and what InfluxDB can hold. Pure."""
